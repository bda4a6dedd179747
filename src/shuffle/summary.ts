/** What `shuffle` says of its result. */
import type { ConvertSummary } from '../convert.ts';
import type { KernelInput } from '../kernel/input.ts';
import type { LayoutEntropy } from './layout/entropy.ts';
import type { Plan } from './plan/plan.ts';

/** The shape of `kslide shuffle --json`, without seed and file names. */
export interface ShuffleSummary {
  readonly input: KernelInput['kind'];
  readonly kernelVersion: string | undefined;
  readonly buildId: string;
  readonly functions: {
    readonly all: number;
    /** Movable ones; each was placed at random. */
    readonly moved: number;
    /** Those that stay, by reason. */
    readonly staying: Readonly<Record<string, number>>;
  };
  /** The entropy of the layout. */
  readonly worth: LayoutEntropy;
  /** Numbers of fields and of table entries. */
  readonly rewritten: {
    readonly relative: number;
    readonly absolute: number;
    readonly branchesFound: number;
    readonly kallsyms: number;
    readonly orc: number;
    readonly extable: number;
    readonly mcount: number;
  };
  readonly sizes: { readonly input: number; readonly output: number };
  /** The summary of `convert`; undefined for a plain kernel. */
  readonly converted: ConvertSummary | undefined;
}

export function countFunctions({ runs, functions, facts }: Plan): ShuffleSummary['functions'] {
  let moved = 0;
  for (const { first, count } of runs) for (let unit = first; unit < first + count; unit++) moved += functions[unit]!;
  return { all: facts.functions, moved, staying: facts.staying };
}

export function countRewritten(plan: Plan): ShuffleSummary['rewritten'] {
  return {
    relative: plan.relative32.offsets.length + plan.relative64.offsets.length,
    absolute: plan.absolute32.offsets.length + plan.absolute64.offsets.length,
    branchesFound: plan.facts.branches.crossing,
    kallsyms: plan.kallsyms?.places.length ?? 0,
    orc: plan.orc?.count ?? 0,
    extable: plan.extable.insns.length,
    mcount: plan.mcount?.callsites.length ?? 0,
  };
}
