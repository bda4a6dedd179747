/** Counts what contradicts the kernel, one kind at a time, and refuses it with three examples. */
import { physToVirt } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { hex, KernelImageError } from '../../base/errors.ts';

const EXAMPLES = 3;

export class Contradictions {
  #count = 0;
  readonly #examples: string[] = [];

  /** `describe` is called for the first three only. */
  add(place: PhysAddr, describe: () => string): void {
    this.#count++;
    if (this.#examples.length < EXAMPLES) this.#examples.push(`${describe()} at ${hex(physToVirt(place))}`);
  }

  /** Throws KernelImageError if any were added since the last call. `what`: of which things there are so many. */
  refuse(what: string, expected: string): void {
    if (this.#count === 0) return;
    const examples = this.#examples.join(', ');
    throw new KernelImageError({
      code: 'bad-value',
      what: `debug vmlinux: ${what}`,
      found: `wrong ${this.#count === 1 ? 'once' : `${this.#count} times`}: ${examples}`,
      expected,
      hint: 'take the debug package of this very build',
    });
  }
}
