/**
 * The entropy of a layout: how many bits it takes to say where a function is, before the slide of the whole kernel is added.
 *
 * A unit goes to a run by chance (among the runs where its size occurs), and there to any place in the order of that run's units. Its entropy is that of
 * both choices together. This is a lower bound for an attacker who must guess an address: since the units before it differ in size, the address
 * says more than the place in the order. The bits of different functions do not add up. An attacker who finds one function of a run learns of the others only
 * where they are not.
 */
import type { Plan } from '../plan/plan.ts';

export interface LayoutEntropy {
  /** Over all movable functions; 99% of them have `hundredth` or more. */
  readonly bits: {
    readonly least: number;
    readonly hundredth: number;
    readonly median: number;
    readonly mean: number;
    readonly most: number;
  };
  readonly runs: { readonly count: number; readonly largest: number; readonly median: number };
}

/** `classes`: sizeClasses of the plan. */
export function layoutEntropy({ starts, runs, functions }: Plan, classes: readonly Uint32Array[]): LayoutEntropy {
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
