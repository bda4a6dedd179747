/**
 * Chooses the new place of each unit: a random layout of the runs, from a seed.
 *
 * Two steps, each uniform and each always possible. First the units of one size, from all runs together, change places with each other, so that a unit in
 * a short run is not confined to it. Then each run places its units one after the other in a random order. The space that is left in a run is after its last
 * unit.
 */
import { roomOf } from '../analyse/units.ts';
import type { Run } from '../analyse/units.ts';
import { makeRandom } from './random.ts';

/** The part of a plan that a layout depends on. */
export interface Movable {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  readonly runs: readonly Run[];
}

/** By unit: its new start. For many layouts of one plan, compute `classes` once: they are its sizeClasses. */
export function layOut(
  { starts, ends, runs }: Movable,
  seed: Uint8Array,
  classes: readonly Uint32Array[] = sizeClasses({ starts, ends, runs }),
): Uint32Array {
  const random = makeRandom(seed);
  const placed = starts.slice();
  // By the place of a unit in the original: the unit that has this place after those of one size were permuted.
  const occupants = Uint32Array.from(starts.keys());
  for (const places of classes) {
    if (places.length < 2) continue;
    const units = places.slice();
    random.permute(units);
    for (let index = 0; index < places.length; index++) occupants[places[index]!] = units[index]!;
  }
  for (const { start, align, first, count } of runs) {
    const order = occupants.subarray(first, first + count);
    random.permute(order);
    let at = start;
    for (let index = 0; index < count; index++) {
      const unit = order[index]!;
      placed[unit] = at;
      at += roomOf(starts[unit]!, ends[unit]!, align);
    }
  }
  return placed;
}

/** Units that take the same room, by rising alignment and room; in each class by rising address. */
export function sizeClasses({ starts, ends, runs }: Movable): Uint32Array[] {
  const classes = new Map<number, number[]>();
  for (const { first, count, align } of runs) {
    for (let unit = first; unit < first + count; unit++) {
      const key = roomOf(starts[unit]!, ends[unit]!, align) * 32 + align;
      const members = classes.get(key);
      if (members === undefined) classes.set(key, [unit]);
      else members.push(unit);
    }
  }
  return [...classes].toSorted(([a], [b]) => a - b).map(([, units]) => new Uint32Array(units));
}

/** By owner (analyse/units.ts): the distance from its old place to its new one. */
export function shiftsOf(starts: Uint32Array, placed: Uint32Array): Int32Array {
  const shifts = new Int32Array(starts.length + 1);
  for (let unit = 0; unit < starts.length; unit++) shifts[unit + 1] = placed[unit]! - starts[unit]!;
  return shifts;
}

/** The indexes of `places` by rising place; equal ones keep their order. Places are whole numbers below 2^31, and there are fewer than 2^22. */
export function orderOf(places: Uint32Array): Uint32Array {
  const packed = new Float64Array(places.length);
  for (let index = 0; index < places.length; index++) packed[index] = places[index]! * 0x40_0000 + index;
  packed.sort();
  const order = new Uint32Array(places.length);
  for (let index = 0; index < places.length; index++) order[index] = packed[index]! % 0x40_0000;
  return order;
}
