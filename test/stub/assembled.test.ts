/**
 * src/stub/assembled.ts has the bytes that the programs assemble to, for code that must not spend time assembling them. After a change of a
 * program: KSLIDE_UPDATE_GOLDEN=1 writes the file.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as assembled from '../../src/stub/assembled.ts';
import { assembleFlagStub, assembleStub } from '../../src/stub/program.ts';
import { assembleSegmentLoader } from '../../src/stub/segment-loader-program.ts';

const PROGRAMS = {
  STUB_PROGRAM: { from: 'assembleStub() in program.ts', ...assembleStub() },
  FLAG_PROGRAM: { from: 'assembleFlagStub() in program.ts', ...assembleFlagStub() },
  SEGMENT_LOADER_PROGRAM: { from: 'assembleSegmentLoader() in segment-loader-program.ts', ...assembleSegmentLoader() },
};

const BYTES_IN_A_LINE = 24;

function literal(code: Uint8Array): string {
  const bytes = Array.from(code, (byte) => `0x${byte.toString(16).padStart(2, '0')},`);
  const lines: string[] = [];
  while (bytes.length > 0) lines.push(`  ${bytes.splice(0, BYTES_IN_A_LINE).join(' ')}\n`);
  return lines.join('');
}

/** The text of src/stub/assembled.ts. */
function fileText(): string {
  const constants = Object.entries(PROGRAMS).map(([name, { from, code }]) => {
    return `\n/** ${from}. */\n// prettier-ignore\nexport const ${name} = new Uint8Array([\n${literal(code)}]);\n`;
  });
  return `/**
 * The programs that kslide writes into kernels, as bytes. Generated: test/stub/assembled.test.ts writes this file under
 * KSLIDE_UPDATE_GOLDEN=1, and otherwise holds it equal to what the sources assemble to.
 *
 * Assembling takes 10 ms. An array of numbers is the form that loads fastest: 0.4 ms for all three programs from V8's code cache, 0.7 ms
 * without it. Base64 takes 0.7 and 0.8 ms, hexadecimal 1.2 and 2.5 ms (the lowest of 25 runs each, Node 20).
 *
 * Shared by all callers: copy the bytes, do not change them.
 */
${constants.join('')}`;
}

test('the bytes are those that the programs assemble to', () => {
  const path = fileURLToPath(new URL('../../src/stub/assembled.ts', import.meta.url));
  const text = fileText();
  if (process.env['KSLIDE_UPDATE_GOLDEN'] !== undefined) return writeFileSync(path, text);
  assert.equal(readFileSync(path, 'utf8'), text);
  assert.deepEqual(
    { ...assembled },
    Object.fromEntries(Object.entries(PROGRAMS).map(([name, { code }]) => [name, code])),
  );
});
