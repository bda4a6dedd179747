/**
 * What the verdict of `verify --shuffled` stands on besides the two kernels: that the debug vmlinux is the one of this build. confirm/ refuses whatever the kernel
 * contradicts. What it cannot contradict is stated here, with the number of fields for which it matters.
 */
import { physToVirt } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import type { Premise } from '../../verify/premises.ts';
import type { Confirmed } from '../confirm/confirm.ts';

const FIELDS_AT_MOST = 64;

class FieldCount {
  count = 0;
  readonly fields: string[] = [];

  add(place: PhysAddr): void {
    this.count++;
    if (this.fields.length < FIELDS_AT_MOST) this.fields.push(hex(physToVirt(place)));
  }
}

/** Collects the fields whose meaning only the debug vmlinux tells. */
export class PremiseRecord {
  readonly #named = new FieldCount();
  readonly #inner = new FieldCount();

  /** A field that refers to what the symbol of its relocation says, where its value says otherwise. */
  addNamed(place: PhysAddr): void {
    this.#named.add(place);
  }

  /** A field of code that leads into other code, not to a symbol, and that no symbol explains. */
  addInner(place: PhysAddr): void {
    this.#inner.add(place);
  }

  results(buildId: string, { symbols, relocations }: Confirmed): Premise[] {
    const confirmed = `the kernel confirms ${symbols} of its symbols and ${relocations} of its relocations`;
    const premises: Premise[] = [
      {
        name: 'debug-file',
        statement: `the debug vmlinux is that of build ${buildId}; ${confirmed}`,
      },
    ];
    const add = (name: Premise['name'], { count, fields }: FieldCount, statement: string): void => {
      if (count > 0) premises.push({ name, statement, believed: { count, fields } });
    };
    add(
      'symbol-targets',
      this.#named,
      'these fields mean the symbols that their relocations name, not what is at the address that they hold',
    );
    add('inner-targets', this.#inner, 'these fields mean what is inside a function at the address that they hold');
    return premises;
  }
}
