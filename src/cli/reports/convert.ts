/** The summary of `kslide convert`, for people. For programs it is the summary object itself, as JSON. */
import { count } from '../../base/text.ts';
import type { ConvertSummary } from '../../convert.ts';
import { hex } from '../../base/errors.ts';
import type { TrialSummary } from '../../measure/trial/trial.ts';
import { rows, size } from '../text.ts';
import { countSites, kernelAndFile, leftOutOf, limitRows, noteSitesRow, slotsAndEntropy, stepRow } from './facts.ts';

const TABLES: Record<ConvertSummary['tableFormat'], string> = {
  compact: 'compact table',
  kernel: "table in the kernel's format",
};

/** Of a vmlinux of more than 2 GiB, the bytes that OUT is without. */
export interface ConvertResult extends ConvertSummary {
  readonly leftOut?: number | undefined;
  /** With `--try`. */
  readonly tried?: TrialSummary | undefined;
}

export function reportConvert(summary: ConvertResult): string {
  return rows(convertRows(summary));
}

export function convertRows(summary: ConvertResult): (readonly [label: string, value: string])[] {
  const { leftOut, tried, relocations, slots, sizes, segment, payloadNote } = summary;
  return [
    ['kernel', kernelAndFile(summary)],
    ...(payloadNote === undefined ? [] : ([['payload', payloadNote]] as const)),
    ['entries', summary.entries.join(', ')],
    [
      'relocations',
      `${count(countSites(relocations))}: ${count(relocations.abs64)} 64-bit, ${count(relocations.inverse32)} inverse 32-bit, ${count(relocations.abs32)} 32-bit`,
    ],
    ...recoveredRows(summary),
    ...triedRows(tried),
    ...(summary.ignored === undefined ? [] : [['ignored', summary.ignored] as const]),
    ...noteSitesRow(summary),
    ...(leftOut === undefined ? [] : [['debug', leftOutOf(leftOut)] as const]),
    ['slots', slotsAndEntropy(slots)],
    stepRow(slots),
    ...limitRows(slots),
    [
      'added',
      `${size(sizes.added)} (${TABLES[summary.tableFormat]} ${size(sizes.table)}) at physical ${hex(segment.paddr)}`,
    ],
    ['size', `${size(sizes.input)} in, ${size(sizes.output)} out (kernel ${size(sizes.vmlinux)})`],
  ];
}

function triedRows(tried: TrialSummary | undefined): (readonly [string, string])[] {
  if (tried === undefined) return [];
  const { runs, skipped, compared, notCompared, qemu, note } = tried;
  const moved = runs.filter(({ file }) => file === 'moved');
  return [
    ['tried', `${runs.length} boots in QEMU ${qemu}, each like the kernel unmoved; ${note}`],
    ['at slides', moved.map(({ slide, entry, why }) => `${hex(slide)} by ${entry} (${why})`).join(', ')],
    [
      'as written',
      runs
        .filter(({ file }) => file === 'converted')
        .map(({ slide, entry }) => `by ${entry}, its own slide was ${hex(slide)}`)
        .join(', '),
    ],
    ...(skipped.length === 0 ? [] : ([['not tried', skipped.join(', ')]] as const)),
    ['compared', compared.join('; ')],
    ['not compared', notCompared.join('; ')],
  ];
}

/** Rules that took fields for sites, most first, and what the table stands on. */
function recoveredRows({ recovered }: ConvertSummary): (readonly [string, string])[] {
  if (recovered === undefined) return [];
  const { rules, instructions, anchors, evidence, comparedWith, leftOut, absent, build, accepted } = recovered;
  const numbers = rules.reduce((sum, rule) => sum + rule.numbers, 0);
  const judged = rules.filter(({ basis }) => basis === 'judgement').reduce((sum, { sites }) => sum + sites, 0);
  const sites = rules.reduce((sum, rule) => sum + rule.sites, 0);
  return [
    [
      'recovered',
      `from the image, not proved: ${count(sites - judged)} sites by their form, ${count(judged)} by rules that were right on all kernels that were tried`,
    ],
    [
      'numbers',
      `${count(numbers)} fields that look like an address and are none; ${count(accepted.length)} doubts accepted`,
    ],
    [
      'evidence',
      `${evidence.used.join(', ')}${evidence.absent.length === 0 ? '' : ` (not in this kernel: ${evidence.absent.join(', ')})`}`,
    ],
    [
      'compared',
      `${count(instructions)} instructions with ${count(anchors)} places that the kernel names: ${comparedWith.join(', ')}`,
    ],
    ...leftOut.map((sentence) => ['left out', sentence] as const),
    [
      'build',
      `${build.release ?? 'unknown release'}, ${build.compiler ?? 'unknown compiler'}: ${build.tested ? 'tried' : 'untested'}`,
    ],
    ...(absent.length === 0 ? [] : ([['not found', absent.join('; ')]] as const)),
  ];
}
