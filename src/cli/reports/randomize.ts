/** The summary of `kslide randomize`, for people. For programs it is the summary object itself, as JSON. */
import { count } from '../../base/text.ts';
import { MIB } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import type { RandomizeSummary } from '../../randomize.ts';
import { rows, size } from '../text.ts';
import { kernelAndFile, noteSitesRow, stepRow } from './facts.ts';

export function reportRandomize(summary: RandomizeSummary): string {
  const { entry, virt, phys, ways, text, flag, loadEnd } = summary;
  return rows([
    ['kernel', kernelAndFile(summary)],
    ['entries', entry === 'both' ? 'linux64, pvh' : entry],
    ['virtual slide', `${hex(virt)}: _text at ${text.virt}${drawn(ways.virt)}`],
    ['physical slide', `${hex(phys)}: _text at ${hex(text.phys)}${drawn(ways.phys)}`],
    stepRow(summary.slots),
    ['guest memory', `more than ${Math.ceil(loadEnd / MIB)} MiB`],
    ['KASLR_FLAG', flag ? 'set at the entry: the kernel randomizes the rest of its memory' : 'not set (--no-flag)'],
    ['relocations', count(summary.relocations)],
    ...noteSitesRow(summary),
    ...slideInNotesRow(summary),
    ['size', size(summary.output)],
  ]);
}

function drawn(ways: number): string {
  return ways === 1 ? '' : `, one of ${count(ways)}: ${Math.log2(ways).toFixed(2)} bits`;
}

function slideInNotesRow({ slideInNotes }: RandomizeSummary): [string, string][] {
  if (!slideInNotes) return [];
  return [
    [
      'notes',
      'tell every user of the guest the slide (/sys/kernel/notes): PVH needs it there; --entry linux64 avoids it',
    ],
  ];
}
