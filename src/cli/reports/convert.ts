/** The summary of `kslide convert`, for people. For programs it is the summary object itself, as JSON. */
import type { ConvertSummary } from '../../convert.ts';
import { hex } from '../../base/errors.ts';
import { count, rows, size } from '../text.ts';

const TABLES: Record<ConvertSummary['tableFormat'], string> = {
  compact: 'compact table',
  kernel: "table in the kernel's format",
};

export function reportConvert(summary: ConvertSummary): string {
  const { relocations, slots, sizes, segment } = summary;
  const release = summary.kernelVersion?.split(' ')[0] ?? 'version unknown';
  const container = summary.compression === undefined ? summary.input : `${summary.input}, ${summary.compression}`;
  const total = relocations.abs64 + relocations.inverse32 + relocations.abs32;
  return rows([
    ['kernel', `${release} (${container})`],
    ['entries', summary.entries.join(', ')],
    [
      'relocations',
      `${count(total)}: ${count(relocations.abs64)} 64-bit, ${count(relocations.inverse32)} inverse 32-bit, ${count(relocations.abs32)} 32-bit`,
    ],
    [
      'slots',
      `${count(slots.count)}, every ${slots.align / 0x10_0000} MiB up to ${hex(slots.largest)}: ${slots.bits.toFixed(2)} bits of entropy`,
    ],
    [
      'added',
      `${size(sizes.added)} (${TABLES[summary.tableFormat]} ${size(sizes.table)}) at physical ${hex(segment.paddr)}`,
    ],
    ['size', `${size(sizes.input)} in, ${size(sizes.output)} out (kernel ${size(sizes.vmlinux)})`],
  ]);
}
