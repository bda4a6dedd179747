/** Ranges of places. */
import type { PhysAddr } from '../base/addresses.ts';
import { pieceBefore } from './analyse/fields.ts';

export interface Extent {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
}

/** Whether a place is in one of them; `extents` by rising start. An end counts, for what is empty may be there. */
export function makeExtents(extents: readonly Extent[]): (place: PhysAddr) => boolean {
  const starts: number[] = [];
  const ends: number[] = [];
  for (const { start, end } of extents) {
    if (starts.length > 0 && start <= ends.at(-1)!) ends[ends.length - 1] = Math.max(end, ends.at(-1)!);
    else {
      starts.push(start);
      ends.push(end);
    }
  }
  return (place) => {
    const before = pieceBefore(starts, place);
    return before >= 0 && place <= ends[before]!;
  };
}
