/** Compares the references in two plans of one kernel, for code that moves in both. */
import type { Plan } from '../../src/shuffle/index.ts';

const LISTS = ['relative32', 'relative64', 'absolute32', 'absolute64'] as const;

export interface Comparison {
  readonly same: number;
  /** Places in the file of fields that only the first plan has, that only the second has, or whose targets differ. */
  readonly missed: readonly number[];
  readonly invented: readonly number[];
  readonly other: readonly number[];
}

/** What `found` misses and invents, compared with `known`. */
export function compareReferences(known: Plan, found: Plan): Readonly<Record<(typeof LISTS)[number], Comparison>> {
  const others = new Set(movers(found));
  const common = new Set(movers(known).filter((unit) => others.has(unit)));
  const compare = (list: (typeof LISTS)[number]): Comparison => {
    const [one, two] = [fields(known, list, common), fields(found, list, common)];
    const missed = [...one.keys()].filter((place) => !two.has(place));
    const invented = [...two.keys()].filter((place) => !one.has(place));
    const both = [...one.keys()].filter((place) => two.has(place));
    const other = both.filter((place) => one.get(place) !== two.get(place));
    return { same: both.length - other.length, missed, invented, other };
  };
  return Object.fromEntries(LISTS.map((list) => [list, compare(list)])) as Record<(typeof LISTS)[number], Comparison>;
}

/** Units that move: where they start and end. */
function movers({ runs, starts, ends }: Plan): string[] {
  return runs.flatMap(({ first, count }) =>
    Array.from({ length: count }, (_, index) => `${starts[first + index]} ${ends[first + index]}`),
  );
}

/** By place in the file: the units that the field lies in and refers to, `-` for a unit that is not common. */
function fields(plan: Plan, list: (typeof LISTS)[number], common: ReadonlySet<string>): Map<number, string> {
  const { starts, ends } = plan;
  const unit = (owner: number): string => {
    const name = `${starts[owner - 1]} ${ends[owner - 1]}`;
    return owner > 0 && common.has(name) ? name : '-';
  };
  const { offsets, sites, targets } = plan[list];
  const found = new Map<number, string>();
  const isRelative = list.startsWith('relative');
  for (let field = 0; field < offsets.length; field++) {
    const site = isRelative ? unit(sites[field]!) : '';
    const target = unit(targets[field]!);
    if (isRelative ? site !== target : target !== '-') found.set(offsets[field]!, `${site} to ${target}`);
  }
  return found;
}
