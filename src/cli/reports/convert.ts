/** The summary of `kslide convert`, for people. For programs it is the summary object itself, as JSON. */
import { count } from '../../base/text.ts';
import type { ConvertSummary } from '../../convert.ts';
import { hex } from '../../base/errors.ts';
import { rows, size } from '../text.ts';
import { countSites, kernelAndFile, leftOutOf, limitRows, noteSitesRow, slotsAndEntropy } from './facts.ts';

const TABLES: Record<ConvertSummary['tableFormat'], string> = {
  compact: 'compact table',
  kernel: "table in the kernel's format",
};

/** Of a vmlinux of more than 2 GiB, the bytes that OUT is without. */
export interface ConvertResult extends ConvertSummary {
  readonly leftOut?: number | undefined;
}

export function reportConvert(summary: ConvertResult): string {
  const { leftOut, relocations, slots, sizes, segment, payloadNote } = summary;
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
    ...(leftOut === undefined ? [] : [['debug', leftOutOf(leftOut)] as const]),
    ['slots', slotsAndEntropy(slots)],
    ...limitRows(slots),
    [
      'added',
      `${size(sizes.added)} (${TABLES[summary.tableFormat]} ${size(sizes.table)}) at physical ${hex(segment.paddr)}`,
    ],
    ['size', `${size(sizes.input)} in, ${size(sizes.output)} out (kernel ${size(sizes.vmlinux)})`],
  ]);
}
