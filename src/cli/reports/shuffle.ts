/** The summary of `kslide shuffle`, for people. For programs it is the summary object itself, as JSON. */
import { count } from '../../base/text.ts';
import type { Plan, ShuffleSummary } from '../../shuffle/index.ts';
import { rows, size } from '../text.ts';
import { release, slotsAndEntropy } from './facts.ts';

/** `seed`: undefined for one that is not to be shown. */
export function reportShuffle(summary: ShuffleSummary, seed: string | undefined): string {
  const { functions, worth, rewritten, sizes, converted } = summary;
  const slots =
    converted === undefined
      ? 'none: OUT does not relocate itself; its relocation table follows the vmlinux'
      : slotsAndEntropy(converted.slots);
  return rows([
    ['kernel', `${release(summary.kernelVersion)} (${summary.input})`],
    ['functions', `${count(functions.moved)} of ${count(functions.all)} moved`],
    ['staying', staying(functions.staying)],
    [
      'places',
      `${worth.bits.median.toFixed(1)} bits for the median function, ${worth.bits.least.toFixed(1)} to ${worth.bits.most.toFixed(1)}; ${count(worth.runs.count)} runs, the largest of ${count(worth.runs.largest)}`,
    ],
    [
      'rewritten',
      `${count(rewritten.relative)} relative and ${count(rewritten.absolute)} absolute fields; ${count(rewritten.branchesFound)} branches without a relocation`,
    ],
    [
      'tables',
      `kallsyms ${count(rewritten.kallsyms)}, ORC ${count(rewritten.orc)}, extable ${count(rewritten.extable)}, mcount ${count(rewritten.mcount)}`,
    ],
    ['slots', slots],
    ['size', `${size(sizes.input)} in, ${size(sizes.output)} out`],
    ['seed', seed ?? 'from --seed-file'],
  ]);
}

export function reportPlan({ facts, kernel, runs }: Plan): string {
  return rows([
    ['kernel', `${release(facts.kernelVersion)}, build-id ${kernel.buildId}`],
    ['functions', count(facts.functions)],
    ['staying', staying(facts.staying)],
    ['runs', count(runs.length)],
    [
      'branches',
      `${count(facts.branches.resolved)} without a relocation, ${count(facts.branches.crossing)} of them to another function, ${count(facts.branches.short)} of those short`,
    ],
    ['instructions', count(facts.instructions)],
  ]);
}

function staying(reasons: Readonly<Record<string, number>>): string {
  const entries = Object.entries(reasons).toSorted(([, a], [, b]) => b - a);
  return entries.length === 0 ? 'none' : entries.map(([reason, number]) => `${count(number)} ${reason}`).join(', ');
}
