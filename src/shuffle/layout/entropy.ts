/**
 * What a shuffle is worth: how many places a function may be in, before the slide of the whole kernel is added, in bits.
 *
 * A unit goes to a run by chance (its size must occur there), and there to any place in the order of that run's units. Its entropy is that of the two
 * choices together. The address says more than the place in the order, since the units before it differ in size, so this is a lower bound for who has
 * to guess an address. Bits of different functions do not add up: who finds one function in a run knows nothing of the others' addresses but where
 * they are not.
 */
import type { Plan } from '../plan/plan.ts';

export interface Worth {
  /** Over all functions that move; 99% of them have `hundredth` or more. */
  readonly bits: {
    readonly least: number;
    readonly hundredth: number;
    readonly median: number;
    readonly mean: number;
    readonly most: number;
  };
  readonly runs: { readonly count: number; readonly largest: number; readonly median: number };
}

/** `classes` are sizeClasses of the plan. */
export function measure({ starts, runs, functions }: Plan, classes: readonly Uint32Array[]): Worth {
  const runOf = new Uint32Array(starts.length);
  runs.forEach(({ first, count }, run) => runOf.fill(run, first, first + count));
  const bits: number[] = [];
  for (const units of classes) {
    const inRun = new Map<number, number>();
    for (const unit of units) inRun.set(runOf[unit]!, (inRun.get(runOf[unit]!) ?? 0) + 1);
    let entropy = 0;
    for (const [run, count] of inRun) {
      const share = count / units.length;
      entropy += share * Math.log2(runs[run]!.count / share);
    }
    for (const unit of units) for (let each = 0; each < functions[unit]!; each++) bits.push(entropy);
  }
  bits.sort((a, b) => a - b);
  const sizes = runs.map(({ count }) => count).toSorted((a, b) => a - b);
  return {
    bits: {
      least: bits[0] ?? 0,
      hundredth: bits[Math.floor(bits.length / 100)] ?? 0,
      median: bits[bits.length >> 1] ?? 0,
      mean: bits.reduce((sum, value) => sum + value, 0) / Math.max(1, bits.length),
      most: bits.at(-1) ?? 0,
    },
    runs: { count: runs.length, largest: sizes.at(-1) ?? 0, median: sizes[sizes.length >> 1] ?? 0 },
  };
}
