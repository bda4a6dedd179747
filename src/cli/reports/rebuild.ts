/** The summary of `kslide bzimage`, for people. For programs it is the summary object itself, as JSON. */
import { count } from '../../base/text.ts';
import { hex } from '../../base/errors.ts';
import type { RebuildSummary } from '../../rebuild.ts';
import { rows, size } from '../text.ts';
import { countSites, kernelAndFile, limitRows, noteSitesRow, slotsAndEntropy, stepRow } from './facts.ts';

/** The compressor's part is reported because it is most of the time. */
export interface RebuildSeconds {
  readonly total: number;
  readonly compressor: number;
}

export function reportRebuild(summary: RebuildSummary, seconds: RebuildSeconds): string {
  const { relocations, slots, sizes, payload, initSize } = summary;
  const share = Math.round((100 * seconds.compressor) / seconds.total);
  const pairs: [string, string][] = [
    ['kernel', kernelAndFile(summary)],
    ['relocations', `${count(countSites(relocations))}, from a table of ${size(sizes.table)} in the image`],
    ...noteSitesRow(summary),
    ['slots', slotsAndEntropy(slots)],
    stepRow(slots),
    ...limitRows(slots),
    ['payload', describePayload(payload)],
    ['init_size', `${hex(initSize.before)} before, ${hex(initSize.now)} now`],
    ['size', `${size(sizes.input)} in, ${size(sizes.output)} out`],
    ['time', `${seconds.total.toFixed(1)} s, ${share}% of it in the compressor`],
  ];
  if (summary.signatureDropped)
    pairs.push([
      'signature',
      'dropped, because it does not match the new payload; for Secure Boot, sign the new image',
    ]);
  return rows(pairs);
}

function describePayload({ compression, length, room, unpacked }: RebuildSummary['payload']): string {
  if (compression === undefined) return `${size(length)}, not compressed`;
  return `${size(length)}, ${count(room - length)} bytes of room left; ${size(unpacked)} when unpacked`;
}
