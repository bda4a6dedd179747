/**
 * The fields that have to be written anew when code moves, and how they are kept: columns of numbers, for there are half a million.
 *
 * A PC-relative field holds `target - place`, some constant beside. When the piece of code that it stands in moves by `from` bytes and the piece that
 * it aims at by `to`, it changes by `to - from`, whatever that constant is. An absolute field changes by `to`. So of a field three things are kept:
 * its place, the piece that it stands in and the piece that it aims at; FIXED for whatever does not move.
 */
import type { PhysAddr } from '../../base/addresses.ts';

/** A piece number for what lies in no piece: data, padding, per-cpu, other sections. */
export const FIXED = -1;

/** What a relocation aims at, where its symbol tells: a place, or one of these. */
export const AIM = {
  /** The symbol is a section: the sum tells. */
  sum: -1,
  /** The symbol is not in the image, or not in .text. */
  elsewhere: -2,
} as const;

export class FieldList {
  readonly places: number[] = [];
  readonly sites: number[] = [];
  readonly targets: number[] = [];

  add(place: PhysAddr, site: number, target: number): void {
    this.places.push(place);
    this.sites.push(site);
    this.targets.push(target);
  }
}

/** The number of the piece that `place` lies in, or FIXED. `starts` and `ends` by rising address. */
export function pieceAt(starts: ArrayLike<number>, ends: ArrayLike<number>, place: PhysAddr): number {
  const before = pieceBefore(starts, place);
  return before >= 0 && place < ends[before]! ? before : FIXED;
}

/** The last piece that starts at or before `place`; -1 when none does. */
export function pieceBefore(starts: ArrayLike<number>, place: PhysAddr): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (starts[middle]! <= place) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
