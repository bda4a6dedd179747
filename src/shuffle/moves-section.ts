/**
 * Section .kslide.moves of a shuffled kernel: where everything went. It is in the file only; no loader loads it.
 *
 * For `kslide verify --shuffled`, which takes it for a claim and proves the rest against it, and for whoever has an address from a panic and the
 * debug vmlinux of the build. Rows of three u32, little-endian, by rising first column: link address of the old place (its low half, as in a relocation
 * table), size, link address of the new place. What is in no row is where it was.
 */
import { physToTableEntry } from '../base/addresses.ts';
import { bytesOfWords } from '../base/bytes.ts';
import type { Plan } from './plan/plan.ts';

export const MOVES_SECTION = '.kslide.moves';

export function encodeMoves({ runs, starts, ends }: Plan, placed: Uint32Array): Uint8Array {
  const words = new Uint32Array(runs.reduce((sum, { count }) => sum + count, 0) * 3);
  let at = 0;
  for (const { first, count } of runs) {
    for (let unit = first; unit < first + count; unit++) {
      const start = starts[unit]!;
      words[at++] = physToTableEntry(start);
      words[at++] = ends[unit]! - start;
      words[at++] = physToTableEntry(placed[unit]!);
    }
  }
  return bytesOfWords(words);
}
