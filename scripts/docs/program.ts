/**
 * Which program figures were measured with, so that a page can say which of them are of another program than today's.
 *
 * Figures depend on parts of the program. A part is `stub`, the bytes of the assembled stub, or a file or folder of the source. Of a source the hash is
 * taken after esbuild has removed types, comments and spaces and renamed local names: a comment, another layout of the text or a better name changes no
 * figure, and no hash. docs/results/README.md says how to choose the parts of a script.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { transformSync } from 'esbuild';
import { STUB_PROGRAM } from '../../src/stub/assembled.ts';

/** Hashes by the name of their part: the first 12 hex digits of a SHA-256. */
export type Program = Readonly<Record<string, string>>;

/** Stands for the hash of a part that is known to be another one than today's, and of which no hash was recorded. */
export const EARLIER = 'earlier';
export const STUB = 'stub';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const known = new Map<string, string>();

/** Of a part today. Throws where there is no such file. */
export function hashOfPart(part: string): string {
  let hash = known.get(part);
  if (hash === undefined) {
    const sum = createHash('sha256');
    if (part === STUB) sum.update(STUB_PROGRAM);
    else for (const file of sourcesOf(part)) sum.update(`${file}\n${minify(file)}`);
    hash = sum.digest('hex').slice(0, 12);
    known.set(part, hash);
  }
  return hash;
}

export function programOf(parts: readonly string[]): Program {
  return Object.fromEntries(parts.map((part) => [part, hashOfPart(part)]));
}

/** `today`: what a part's hash is compared with. */
export function changedParts(program: Program, today: (part: string) => string = hashOfPart): string[] {
  return Object.entries(program)
    .filter(([part, hash]) => hash === EARLIER || hash !== today(part))
    .map(([part]) => part);
}

/** Says so where the results are of another program than today's; else nothing. */
export function programNote(program: Program, today?: (part: string) => string): string {
  const changed = changedParts(program, today);
  if (changed.length === 0) return '';
  const [first = ''] = changed;
  const hash = program[first];
  if (first === STUB)
    return `Measured with an earlier stub (${hash === EARLIER ? 'its hash was not recorded' : hash}).`;
  const unknown = changed.every((part) => program[part] === EARLIER);
  return unknown
    ? 'Measured with an earlier program (its hashes were not recorded).'
    : `Measured with an earlier program: ${changed.map((part) => `\`${part}\``).join(', ')} changed afterwards.`;
}

/** Paths in the repository, in order. */
function sourcesOf(part: string): string[] {
  if (!statSync(ROOT + part).isDirectory()) return [part];
  return readdirSync(ROOT + part, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `${part}/${name}`)
    .toSorted();
}

function minify(file: string): string {
  return transformSync(readFileSync(ROOT + file, 'utf8'), {
    loader: 'ts',
    target: 'es2023',
    minify: true,
    legalComments: 'none',
  }).code;
}
