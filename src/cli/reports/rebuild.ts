/** The summary of `kslide bzimage`, for people. For programs it is the summary object itself, as JSON. */
import { hex } from '../../base/errors.ts';
import type { RebuildSummary } from '../../rebuild.ts';
import { count, rows, size } from '../text.ts';

/** The compressor's share is told: rebuilding takes as long as it does. */
export interface RebuildSeconds {
  readonly total: number;
  readonly compressor: number;
}

export function reportRebuild(summary: RebuildSummary, seconds: RebuildSeconds): string {
  const { relocations, slots, sizes, payload, initSize } = summary;
  const release = summary.kernelVersion?.split(' ')[0] ?? 'version unknown';
  const total = relocations.abs64 + relocations.inverse32 + relocations.abs32;
  const share = Math.round((100 * seconds.compressor) / seconds.total);
  const pairs: [string, string][] = [
    ['kernel', `${release} (${summary.input}, ${summary.compression})`],
    ['relocations', `${count(total)}, from a table of ${size(sizes.table)} in the image`],
    ['slots', `${count(slots.count)}, every ${slots.align / 0x10_0000} MiB: ${slots.bits.toFixed(2)} bits of entropy`],
    ['payload', describePayload(payload)],
    ['init_size', `${hex(initSize.before)} before, ${hex(initSize.now)} now`],
    ['size', `${size(sizes.input)} in, ${size(sizes.output)} out`],
    ['time', `${seconds.total.toFixed(1)} s, ${share}% of it in the compressor`],
  ];
  if (summary.signatureDropped)
    pairs.push(['signature', 'dropped: it was for another payload. Secure Boot wants the new image signed']);
  return rows(pairs);
}

function describePayload({ compression, length, room, unpacked }: RebuildSummary['payload']): string {
  if (compression === undefined) return `${size(length)}, not compressed`;
  return `${size(length)}, ${count(room - length)} bytes less than there is room for; unpacked ${size(unpacked)}`;
}
