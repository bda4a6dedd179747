/** The result of `kslide verify`, for people. For programs it is the result object itself, as JSON. */
import { count } from '../../base/text.ts';
import { hex } from '../../base/errors.ts';
import type { ShuffleVerification } from '../../shuffle/index.ts';
import { OPEN, REASONS } from '../../verify/recovered/reasons.ts';
import type { Verification } from '../../verify/verify.ts';
import { rows } from '../text.ts';
import { countSites, describeOffence, kernelAndFile, release, stepRow } from './facts.ts';

export function reportVerify(result: Verification): string {
  const { relocations, slots, offence, slides, form, premises } = result;
  const kernel = rows([
    ['original', kernelAndFile(result)],
    ['relocations', count(countSites(relocations))],
    ['slots', `${count(slots.count)}, every ${slots.align / 0x10_0000} MiB up to ${hex(slots.largest)}`],
    stepRow(slots),
  ]);
  const checks = rows(
    result.checks.map(({ name, ok, detail }) => [`${mark(ok)} ${name}`, ok === null ? 'not checked' : detail]),
  );
  const verdict =
    offence === undefined
      ? `${result.verdict}: ${DIRECT_VERDICTS[result.verdict as keyof typeof DIRECT_VERDICTS]}; slides tried: ${slides.map(hex).join(' ')}${describeJudged(result)}
form: ${form!.name} (${FORM_NAMES[form!.name]}); table: ${form!.table}${describeCompressed(form!)}
taken as given:
${premises.map(({ statement }) => `- ${statement}`).join('\n')}`
      : describeOffence(offence);
  return `${kernel}\n${checks}\n${verdict}\n`;
}

/** What each verdict says, as a phrase that follows it. */
export const DIRECT_VERDICTS = {
  proved: 'the original, made self-relocating, and nothing else',
  consistent:
    'the original, made self-relocating by a table that was recovered from its image, and nothing else; a second reading of the image does not contradict the table',
} as const;

/** What the second reading of the image found, for a table that was recovered. */
function describeJudged({ judged }: Verification): string {
  if (judged === undefined) return '';
  const line = (counts: Readonly<Record<string, number>>, names: Readonly<Record<string, string>>): string[] =>
    Object.entries(counts).map(([name, number]) => `- ${count(number)} ${names[name]}`);
  const open = line(judged.open, OPEN);
  return `
${count(judged.instructions)} instructions decoded; ${count(judged.sites)} sites are fields of addresses; left alone:
${line(judged.numbers, REASONS).join('\n')}${open.length === 0 ? '' : `\ncould be either:\n${open.join('\n')}`}`;
}

function describeCompressed({ compressed }: NonNullable<Verification['form']>): string {
  if (compressed === undefined) return '';
  const { offset, length } = compressed;
  return `; bytes ${hex(offset)} to ${hex(offset + length)} are compressed, and proved by what they decode to`;
}

const FORM_NAMES: Readonly<Record<NonNullable<Verification['form']>['name'], string>> = {
  direct: 'a vmlinux, as `kslide convert` writes it',
  extracted: 'a vmlinux from a bzImage: it relocates although KASLR_FLAG is set',
  compressed: 'a bzImage: its decompressor relocates nothing, the stub does',
  'table-at-end': 'a bzImage, or the vmlinux in it: its decompressor and the stub read the same table',
  uncompressed: 'a bzImage without a decompressor',
};

const VERDICTS = {
  proved: 'the original with its code in other places, and nothing else',
  consistent:
    'every change is right, and nothing else was changed; without relocations it cannot be proved that no other field had to change',
} as const;

/** `debug`: the name of the debug vmlinux, which the verdict stands on. */
export function reportVerifyShuffled(result: ShuffleVerification, debug: string): string {
  const { checks, offence } = result;
  const lines = rows(
    checks.map(({ name, ok, detail, count: looked }) => [
      `${mark(ok)} ${name}`,
      ok === null ? 'not checked' : `${ok ? `${count(looked)}: ` : ''}${detail}`,
    ]),
  );
  if (result.verdict === 'refuted' || offence !== undefined)
    return `original  ${release(result.kernelVersion)}\n\n${lines}\n${describeOffence(offence!)}\n`;
  const premises = rows(
    result.premises.map(({ name, statement, believed }) => [
      name,
      believed === undefined ? statement : `${count(believed.count)}: ${statement}: ${examplesOf(believed.fields)}`,
    ]),
  );
  const verdict = `${result.verdict}, if ${debug} is the debug vmlinux of this build: ${VERDICTS[result.verdict]}`;
  return `original  ${release(result.kernelVersion)}\n\n${lines}\npremises\n${premises}\n${verdict}\n`;
}

function examplesOf(fields: readonly string[]): string {
  return `${fields.slice(0, 3).join(', ')}${fields.length > 3 ? ', ...' : ''}`;
}

function mark(ok: boolean | null): string {
  if (ok === null) return '-';
  return ok ? '✓' : '✗';
}
