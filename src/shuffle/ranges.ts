/**
 * Ranges of addresses, as two columns (`starts` and `ends`) or as objects, always by rising address and never overlapping.
 *
 * Here and everywhere under src/shuffle a place in the image is a number: its physical link address, `virtual - __START_KERNEL_map`. A kernel linked at
 * 16 MiB has its `_text` at 0x1000000.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { lastAtOrBelow } from '../base/search.ts';

export interface Range {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
}

/** The index of no range. */
export const NO_RANGE = -1;

/** The index of the range that `place` lies in, or NO_RANGE. */
export function rangeAt(starts: ArrayLike<number>, ends: ArrayLike<number>, place: PhysAddr): number {
  const last = lastAtOrBelow(starts, place);
  return last >= 0 && place < ends[last]! ? last : NO_RANGE;
}

/** A test for places in any of these ranges, which may overlap, by rising start. Ends count as inside: an empty symbol may be there. */
export function inAnyRange(ranges: readonly Range[]): (place: PhysAddr) => boolean {
  const starts: number[] = [];
  const ends: number[] = [];
  for (const { start, end } of ranges) {
    if (starts.length > 0 && start <= ends.at(-1)!) ends[ends.length - 1] = Math.max(end, ends.at(-1)!);
    else {
      starts.push(start);
      ends.push(end);
    }
  }
  return (place) => {
    const last = lastAtOrBelow(starts, place);
    return last >= 0 && place <= ends[last]!;
  };
}
