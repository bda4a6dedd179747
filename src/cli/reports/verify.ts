/** The result of `kslide verify`, for people. For programs it is the result object itself, as JSON. */
import { count } from '../../base/text.ts';
import { hex } from '../../base/errors.ts';
import type { ShuffleVerification } from '../../shuffle/index.ts';
import type { Verification } from '../../verify/verify.ts';
import { rows } from '../text.ts';
import { countSites, describeOffence, kernelAndFile, release } from './facts.ts';

export function reportVerify(result: Verification): string {
  const { relocations, slots, offence, slides, form, premises } = result;
  const kernel = rows([
    ['original', kernelAndFile(result)],
    ['relocations', count(countSites(relocations))],
    ['slots', `${count(slots.count)}, every ${slots.align / 0x10_0000} MiB up to ${hex(slots.largest)}`],
  ]);
  const checks = rows(
    result.checks.map(({ name, ok, detail }) => [`${mark(ok)} ${name}`, ok === null ? 'not checked' : detail]),
  );
  const verdict =
    offence === undefined
      ? `proved: the original, made self-relocating, and nothing else; slides tried: ${slides.map(hex).join(' ')}
form: ${form!.name} (${FORM_NAMES[form!.name]}); table: ${form!.table}${describeCompressed(form!)}
taken as given:
${premises.map(({ statement }) => `- ${statement}`).join('\n')}`
      : describeOffence(offence);
  return `${kernel}\n${checks}\n${verdict}\n`;
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
