/** The two kernels, and which bytes of the second somebody has vouched for; the others must be what they were. */
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import type { ImageBytes } from '../read/kernel-image.ts';
import { refute } from '../../verify/evidence.ts';

export interface Range {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
}

export class Sides {
  readonly before: ImageBytes;
  readonly after: ImageBytes;
  readonly #accepted: Uint8Array;

  constructor(before: ImageBytes, after: ImageBytes) {
    this.before = before;
    this.after = after;
    this.#accepted = new Uint8Array(before.bytes.length);
  }

  accept(offset: FileOffset, length: number): void {
    for (let at = offset; at < offset + length; at++) this.#accepted[at] = 1;
  }

  /** Whether somebody vouched for any of these bytes. */
  hasAccepted(offset: FileOffset, length: number): boolean {
    for (let at = offset; at < offset + length; at++) if (this.#accepted[at] === 1) return true;
    return false;
  }

  acceptRange(start: PhysAddr, end: PhysAddr): void {
    const at = this.after.at(start, end - start, 'range');
    this.#accepted.fill(1, at, at + (end - start));
  }

  /** Every other byte of the original's file, but for its first `from`. */
  expectRestUnchanged(from: number): number {
    const { bytes: before } = this.before;
    const { bytes: after } = this.after;
    let same = 0;
    for (let at = from; at < before.length; at++) {
      if (this.#accepted[at] === 1) continue;
      if (before[at] !== after[at])
        refute('byte that is neither code that moved nor a field', at, { found: after[at]!, expected: before[at]! });
      same++;
    }
    return same;
  }
}
