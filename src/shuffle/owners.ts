/**
 * Who owns an address: the unit that it lies in, as a number that loops can use without a branch. Owner 0 does not move; unit `u` is owner `u + 1`.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { FIXED, pieceAt } from './analyse/fields.ts';
import type { Units } from './analyse/units.ts';

export type OwnerOf = (place: PhysAddr) => number;

export function ownersOf({ starts, ends, stay }: Units): OwnerOf {
  return (place) => {
    const unit = pieceAt(starts, ends, place);
    return unit === FIXED || stay[unit] !== 0 ? 0 : unit + 1;
  };
}

/** By owner: how far it moves. */
export function movesOf(starts: Uint32Array, placed: Uint32Array): Int32Array {
  const moves = new Int32Array(starts.length + 1);
  for (let unit = 0; unit < starts.length; unit++) moves[unit + 1] = placed[unit]! - starts[unit]!;
  return moves;
}

/** The order of `keys`, equal ones as they come: indexes. Keys are whole numbers below 2^31, and fewer than 2^22. */
export function orderOf(keys: Uint32Array): Uint32Array {
  const packed = new Float64Array(keys.length);
  for (let index = 0; index < keys.length; index++) packed[index] = keys[index]! * 0x40_0000 + index;
  packed.sort();
  const order = new Uint32Array(keys.length);
  for (let index = 0; index < keys.length; index++) order[index] = packed[index]! % 0x40_0000;
  return order;
}
