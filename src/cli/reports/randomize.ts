/** The summary of `kslide randomize`, for people. For programs it is the summary object itself, as JSON. */
import { MIB } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import type { RandomizeSummary } from '../../randomize.ts';
import { count, rows, size } from '../text.ts';

export function reportRandomize(summary: RandomizeSummary): string {
  const { entry, virt, phys, ways, text, flag, loadEnd } = summary;
  const release = summary.kernelVersion?.split(' ')[0] ?? 'version unknown';
  const container = summary.compression === undefined ? summary.input : `${summary.input}, ${summary.compression}`;
  return rows([
    ['kernel', `${release} (${container})`],
    ['entries', entry === 'both' ? 'linux64, pvh' : entry],
    ['virtual slide', `${hex(virt)}: _text at ${text.virt}${drawn(ways.virt)}`],
    ['physical slide', `${hex(phys)}: _text at ${hex(text.phys)}${drawn(ways.phys)}`],
    ['guest memory', `more than ${Math.ceil(loadEnd / MIB)} MiB`],
    ['KASLR_FLAG', flag ? 'set at the entry: the kernel randomizes the rest of its memory' : 'left alone (--no-flag)'],
    ['relocations', count(summary.relocations)],
    ['size', size(summary.output)],
  ]);
}

function drawn(ways: number): string {
  return ways === 1 ? '' : `, one of ${count(ways)}: ${Math.log2(ways).toFixed(2)} bits`;
}
