/**
 * Where each unit goes: a random layout of the runs, from a seed.
 *
 * Two steps, each uniform and each always possible. First the units of one size, all runs taken together, change places with each other; so a unit in
 * a short run is not held there. Then each run puts its units into a random order, one behind the other. What room padding leaves is behind the last.
 */
import { roomOf } from '../analyse/units.ts';
import type { Run } from '../analyse/units.ts';
import { makeRandom } from './random.ts';

export interface Movable {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  readonly runs: readonly Run[];
}

/** By unit: where it starts now. `classes` are sizeClasses of the same, for who makes many layouts. */
export function layOut(
  { starts, ends, runs }: Movable,
  seed: Uint8Array,
  classes: readonly Uint32Array[] = sizeClasses({ starts, ends, runs }),
): Uint32Array {
  const random = makeRandom(seed);
  const placed = starts.slice();
  // By place, a unit's old one: which unit is there after those of one size were permuted.
  const occupants = Uint32Array.from(starts.keys());
  for (const places of classes) {
    if (places.length < 2) continue;
    const units = places.slice();
    random.shuffle(units);
    for (let index = 0; index < places.length; index++) occupants[places[index]!] = units[index]!;
  }
  for (const { start, align, first, count } of runs) {
    const order = occupants.subarray(first, first + count);
    random.shuffle(order);
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
