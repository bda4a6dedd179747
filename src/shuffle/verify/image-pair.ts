/** The kernel before and after, and which bytes of the second some check has explained. All others must be what they were. */
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import { refute } from '../../verify/evidence.ts';
import type { ImageBytes } from '../read/kernel-image.ts';

export class ImagePair {
  readonly before: ImageBytes;
  readonly after: ImageBytes;
  /** By byte of the file: 1 when a check has explained it. */
  readonly #explained: Uint8Array;

  constructor(before: ImageBytes, after: ImageBytes) {
    this.before = before;
    this.after = after;
    this.#explained = new Uint8Array(before.bytes.length);
  }

  /** Marks bytes as explained. */
  mark(offset: FileOffset, length: number): void {
    for (let at = offset; at < offset + length; at++) this.#explained[at] = 1;
  }

  markRange(start: PhysAddr, end: PhysAddr): void {
    const at = this.after.at(start, end - start, 'range');
    this.#explained.fill(1, at, at + (end - start));
  }

  /** Whether any of these bytes is marked. */
  hasMarked(offset: FileOffset, length: number): boolean {
    for (let at = offset; at < offset + length; at++) if (this.#explained[at] === 1) return true;
    return false;
  }

  /** Compares every byte of the original's file that is not marked, except its first `from`. Returns how many there were. */
  expectRestUnchanged(from: number): number {
    const { bytes: before } = this.before;
    const { bytes: after } = this.after;
    let same = 0;
    for (let at = from; at < before.length; at++) {
      if (this.#explained[at] === 1) continue;
      if (before[at] !== after[at])
        refute('byte that is neither code that moved nor a field', at, { found: after[at]!, expected: before[at]! });
      same++;
    }
    return same;
  }
}
