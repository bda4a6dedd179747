/**
 * What is placed as one, and where it may go.
 *
 * A unit is a piece of code, or several that are tied together, with everything between them. A run is a row of movable units with only padding between
 * them. Units change places within their run, and with units of the same size in other runs. Code that stays is in units as well: they are the borders
 * of runs.
 *
 * A unit keeps the alignment to 16 bytes that compilers give functions. Code that is linked without gaps (.text.unlikely, where GCC puts the cold parts
 * of functions) has no alignment to keep. A run in which some unit does not begin at a multiple of 16 is `dense`, and its units are placed byte by byte.
 *
 * The owner of an address is the unit that it lies in, as a number that loops can use without a branch: owner 0 does not move, and unit `u` is owner
 * `u + 1`.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { alignUp } from '../../base/bytes.ts';
import { rangeAt } from '../ranges.ts';
import { FIXED } from './fields.ts';
import { STAY } from './pieces.ts';
import type { Pieces } from './pieces.ts';

export const FUNCTION_ALIGN = 16;

export interface Units {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** STAY */
  readonly stay: Uint8Array;
  /** The number of functions in it. */
  readonly functions: Uint32Array;
  /** By piece: the unit that it is in. */
  readonly ofPiece: Uint32Array;
}

export interface Run {
  readonly start: PhysAddr;
  /** The start of the next unit that stays, or the end of .text. */
  readonly end: PhysAddr;
  readonly align: number;
  /** Units first … first + count - 1. */
  readonly first: number;
  readonly count: number;
}

export function joinUnits({ starts, ends, stay, symbols }: Pieces, tied: Uint8Array): Units {
  const units = { starts: [] as number[], ends: [] as number[], stay: [] as number[], functions: [] as number[] };
  const ofPiece = new Uint32Array(starts.length);
  for (let piece = 0; piece < starts.length; piece++) {
    const unit = units.starts.length;
    units.starts.push(starts[piece]!);
    let last = piece;
    while (tied[last] === 1 && last + 1 < starts.length) last++;
    let reason = 0;
    let functions = 0;
    for (let member = piece; member <= last; member++) {
      ofPiece[member] = unit;
      reason ||= stay[member]!;
      if (symbols[member]! >= 0) functions++;
    }
    // A function and the no-operations before it count as one thing, not as two that are tied.
    const tiesTwo = functions > 1 || reason === STAY.unnamed;
    if (last > piece && reason !== STAY.none && tiesTwo) reason = STAY['tied to fixed code'];
    units.ends.push(ends[last]!);
    units.stay.push(reason);
    units.functions.push(functions);
    piece = last;
  }
  return {
    starts: new Uint32Array(units.starts),
    ends: new Uint32Array(units.ends),
    stay: new Uint8Array(units.stay),
    functions: new Uint32Array(units.functions),
    ofPiece,
  };
}

/** Marks units that cannot change places with any other as staying. `end` is where .text ends. */
export function findRuns(units: Units, end: PhysAddr): Run[] {
  const { starts, ends, stay } = units;
  const dense = findDense(units);
  const runs: Run[] = [];
  for (let first = 0; first < starts.length;) {
    let next = first;
    while (next < starts.length && stay[next] === STAY.none && dense[next] === dense[first]) next++;
    if (next > first) {
      const border = next < starts.length ? starts[next]! : end;
      const align = dense[first] === 1 ? 1 : FUNCTION_ALIGN;
      // The last unit must have room for its padding too, because any other may be placed there.
      if (alignUp(ends[next - 1]!, align) <= border)
        runs.push({ start: starts[first]!, end: border, align, first, count: next - first });
      else stay[next - 1] = STAY.alone;
      if (stay[next - 1] === STAY.alone && next - 1 > first)
        runs.push({ start: starts[first]!, end: starts[next - 1]!, align, first, count: next - 1 - first });
    }
    first = Math.max(next, first + 1);
  }
  return withoutLonely(units, runs);
}

/** By unit: 1 when it belongs to code without gaps. So does a unit that touches such code, because it has no room to be aligned. */
function findDense({ starts, ends, stay }: Units): Uint8Array {
  const dense = new Uint8Array(starts.length);
  const flush = (unit: number): boolean => unit > 0 && ends[unit - 1] === starts[unit];
  for (let unit = 0; unit < starts.length; unit++) {
    if (starts[unit]! % FUNCTION_ALIGN !== 0) dense[unit] = 1;
    else if (flush(unit) && dense[unit - 1] === 1 && stay[unit - 1] === STAY.none) dense[unit] = 1;
  }
  for (let unit = starts.length - 2; unit >= 0; unit--) {
    if (dense[unit + 1] === 1 && alignUp(ends[unit]!, FUNCTION_ALIGN) > starts[unit + 1]!) dense[unit] = 1;
  }
  return dense;
}

/** A run of one unit is dropped, unless some other unit has the same size. */
function withoutLonely({ starts, ends, stay }: Units, runs: readonly Run[]): Run[] {
  const sizes = new Map<string, number>();
  const keyOf = (unit: number, align: number): string => `${align} ${roomOf(starts[unit]!, ends[unit]!, align)}`;
  for (const { first, count, align } of runs) {
    for (let unit = first; unit < first + count; unit++) {
      const key = keyOf(unit, align);
      sizes.set(key, (sizes.get(key) ?? 0) + 1);
    }
  }
  return runs.filter(({ first, count, align }) => {
    const lonely = count === 1 && sizes.get(keyOf(first, align)) === 1;
    if (lonely) stay[first] = STAY.alone;
    return !lonely;
  });
}

/** The room that a unit takes anywhere in a run. */
export function roomOf(start: PhysAddr, end: PhysAddr, align: number): number {
  return alignUp(end - start, align);
}

/** The owner of a place. */
export type OwnerOf = (place: PhysAddr) => number;

export function ownersOf({ starts, ends, stay }: Units): OwnerOf {
  return (place) => {
    const unit = rangeAt(starts, ends, place);
    return unit === FIXED || stay[unit] !== STAY.none ? 0 : unit + 1;
  };
}
