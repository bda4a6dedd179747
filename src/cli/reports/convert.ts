/** The summary of `kslide convert`, for people. For programs it is the summary object itself, as JSON. */
import { count } from '../../base/text.ts';
import type { ConvertSummary } from '../../convert.ts';
import { hex } from '../../base/errors.ts';
import { rows, size } from '../text.ts';
import { countSites, kernelAndFile, limitRows, noteSitesRow, slotsAndEntropy } from './facts.ts';

const TABLES: Record<ConvertSummary['tableFormat'], string> = {
  compact: 'compact table',
  kernel: "table in the kernel's format",
};

export function reportConvert(summary: ConvertSummary): string {
  const { relocations, slots, sizes, segment, payloadNote } = summary;
  return rows([
    ['kernel', kernelAndFile(summary)],
    ...(payloadNote === undefined ? [] : ([['payload', payloadNote]] as const)),
    ['entries', summary.entries.join(', ')],
    [
      'relocations',
      `${count(countSites(relocations))}: ${count(relocations.abs64)} 64-bit, ${count(relocations.inverse32)} inverse 32-bit, ${count(relocations.abs32)} 32-bit`,
    ],
    ...(summary.ignored === undefined ? [] : [['ignored', summary.ignored] as const]),
    ...noteSitesRow(summary),
    ['slots', slotsAndEntropy(slots)],
    ...limitRows(slots),
    [
      'added',
      `${size(sizes.added)} (${TABLES[summary.tableFormat]} ${size(sizes.table)}) at physical ${hex(segment.paddr)}`,
    ],
    ['size', `${size(sizes.input)} in, ${size(sizes.output)} out (kernel ${size(sizes.vmlinux)})`],
  ]);
}
