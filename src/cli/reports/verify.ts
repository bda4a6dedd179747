/** The result of `kslide verify`, for people. For programs it is the result object itself, as JSON. */
import { hex } from '../../base/errors.ts';
import type { ShuffleVerification } from '../../shuffle/index.ts';
import type { Verification } from '../../verify/verify.ts';
import { count, rows } from '../text.ts';

export function reportVerify(result: Verification): string {
  const { relocations, slots, offence, slides } = result;
  const release = result.kernelVersion?.split(' ')[0] ?? 'version unknown';
  const container = result.compression === undefined ? result.input : `${result.input}, ${result.compression}`;
  const kernel = rows([
    ['original', `${release} (${container})`],
    ['relocations', count(relocations.abs64 + relocations.inverse32 + relocations.abs32)],
    ['slots', `${count(slots.count)}, every ${slots.align / 0x10_0000} MiB up to ${hex(slots.largest)}`],
  ]);
  const checks = rows(
    result.checks.map(({ name, ok, detail }) => [`${mark(ok)} ${name}`, ok === null ? 'not looked at' : detail]),
  );
  const verdict =
    offence === undefined
      ? `proved: the original, made self-relocating, and nothing else; slides tried: ${slides.map(hex).join(' ')}`
      : `refuted by ${offence.check}: ${offence.what} at offset ${hex(offence.offset)} is ${offence.found}, expected ${offence.expected}`;
  return `${kernel}\n${checks}\n${verdict}\n`;
}

const VERDICTS = {
  proved: 'proved: the original with its code in other places, and nothing else',
  consistent:
    'consistent: all that was changed is right, and nothing else was; without relocations it is not shown that no other field had to change',
} as const;

export function reportVerifyShuffled(result: ShuffleVerification): string {
  const { checks, offence } = result;
  const lines = rows(
    checks.map(({ name, ok, detail, count: looked }) => [
      `${mark(ok)} ${name}`,
      ok === null ? 'not looked at' : `${ok ? `${count(looked)}: ` : ''}${detail}`,
    ]),
  );
  const release = result.kernelVersion?.split(' ')[0] ?? 'version unknown';
  const verdict =
    offence === undefined
      ? VERDICTS[result.verdict === 'consistent' ? 'consistent' : 'proved']
      : `refuted by ${offence.check}: ${offence.what} at offset ${hex(offence.offset)} is ${offence.found}, expected ${offence.expected}`;
  return `original  ${release}\n\n${lines}\n${verdict}\n`;
}

function mark(ok: boolean | null): string {
  if (ok === null) return '-';
  return ok ? '✓' : '✗';
}
