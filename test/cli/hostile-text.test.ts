/**
 * Text out of files never reaches a terminal as it is: each command is given names with escape sequences, newlines, bidi marks and 10,000 characters, and
 * what it prints is examined. A command that is not in RUNS fails the first test.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { hex, KernelImageError } from '../../src/base/errors.ts';
import { jsonText, lines, oneLine, short } from '../../src/base/text.ts';
import { definitions, htmlTable, page } from '../../src/cli/html/page.ts';
import { COMMANDS } from '../../src/cli/main.ts';
import { rows, table } from '../../src/cli/text.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { KSLIDE } from './program.ts';

const folder = mkdtempSync(join(tmpdir(), 'kslide-hostile-'));
after(() => rmSync(folder, { recursive: true }));

/** Clears the screen, sets the title, forges a line, reorders, hides, ends the line: each a byte or a UTF-16 unit of its own. */
const HOSTILE = '\u001b[2J\u001b]0;owned\u0007\nproved: \r\u009b1m\u007f\u202eabc\u2066\u200b\u200f\u2028\ufeff\ud800';
/** The same as bytes, as long as they are in a name that ends with NUL. */
const HOSTILE_BYTES = Buffer.from(`${HOSTILE.slice(0, -1)}${'A'.repeat(10_000)}`);

/** Everything that must not be printed: written down once more, by code points. */
function unsafe(text: string, { newlines = true } = {}): string[] {
  return [...text]
    .filter((character) => {
      const code = character.codePointAt(0)!;
      if (code === 0x0a || code === 0x09) return !newlines;
      return (
        code < 0x20 ||
        (code >= 0x7f && code < 0xa0) ||
        (code >= 0x200b && code <= 0x200f) ||
        (code >= 0x2028 && code <= 0x202e) ||
        (code >= 0x2060 && code <= 0x2069) ||
        (code >= 0xd800 && code <= 0xdfff) ||
        code === 0xfeff
      );
    })
    .map((character) => hex(character.codePointAt(0)!));
}

test('escapes, cuts and JSON, by example', () => {
  assert.equal(
    oneLine('a\u001b[1m\n\t\u007f\u009b\u202e\u{e0041}\ud800é漢'),
    String.raw`a\x1b[1m\x0a\x09\x7f\x9b\u202e\u{e0041}\ud800é漢`,
  );
  assert.equal(lines('a\r\nb\n\tc\u001b\rd'), 'a\nb\n\tc\\x1b\\x0dd');
  assert.equal(short('a'.repeat(120)), 'a'.repeat(120));
  assert.equal(short('a'.repeat(10_000)), `${'a'.repeat(120)}... (10,000 characters)`);
  assert.equal(short(`${'a'.repeat(119)}😀`), `${'a'.repeat(119)}... (121 characters)`);
  assert.equal(jsonText({ a: '\u001b\u202e\u007f\ud83d\ude00' }), String.raw`{"a":"\u001b\u202e\u007f😀"}`);
});

test('whatever the text is: nothing unsafe is left, JSON stays the same value, and safe text stays as it is', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
      assert.deepEqual(unsafe(oneLine(text), { newlines: false }), []);
      assert.deepEqual(unsafe(short(text, 10), { newlines: false }), []);
      assert.deepEqual(unsafe(lines(text)), []);
      assert.deepEqual(unsafe(jsonText([text], 2)), []);
      assert.deepEqual(JSON.parse(jsonText([text], 2)), [text]);
      const visible = text.replaceAll(/[^ -~]/g, '');
      assert.equal(oneLine(visible), visible);
    }),
    { numRuns: 2000 },
  );
});

test('errors, rows, tables and pages', () => {
  const long = `${HOSTILE}${'b'.repeat(10_000)}`;
  const error = new KernelImageError({ code: 'bad-value', what: long, found: long, expected: long, hint: long });
  const made = [error.message, rows([[long, long]]), table([[long, long]])];
  const html = [
    page({ heading: long, subject: long, body: '', footer: '' }),
    definitions([[long, long]]),
    htmlTable(long, [long], [[long, long]]),
  ];
  for (const text of [...made, ...html]) assert.deepEqual(unsafe(text), []);
  assert.equal(made[0]!.split('\n').length, 1);
  assert.equal(made[1]!.trimEnd().split('\n').length, 1);
  assert.equal(made[2]!.trimEnd().split('\n').length, 1);
  assert.ok(made[0]!.length < 4_000);
});

/** A directory whose name a file system takes. */
const directory = join(folder, `x${HOSTILE.replaceAll(/[\ud800]/g, '')}`);
mkdirSync(directory);
const path = (name: string): string => join(directory, name);

/** A kernel by GNU as and ld, whose sections and symbols have these names, and relocations that no kernel may have. */
function makeHostileElf(): Buffer {
  const name = `HOSTILE${'n'.repeat(HOSTILE_BYTES.length - 7)}`;
  const source = join(folder, 'k.s');
  writeFileSync(
    source,
    `.section .text,"ax"\n.globl ${name}\n${name}: nop\n.section .data.${name},"aw"\n.quad ${name}\n.quad absolute_${name}\n.word ${name} - 0xffffffff81000000\n`,
  );
  writeFileSync(
    join(folder, 'k.lds'),
    `absolute_${name} = 0x1234; SECTIONS { . = 0xffffffff81000000; .text : AT(0x1000000) { *(.text) } .data.${name} : AT(0x1200000) { *(.data.*) } }`,
  );
  execFileSync('as', [source, '-o', join(folder, 'k.o')]);
  execFileSync('ld', ['-T', join(folder, 'k.lds'), '--emit-relocs', join(folder, 'k.o'), '-o', join(folder, 'k')]);
  const elf = readFileSync(join(folder, 'k'));
  for (let at = elf.indexOf(name); at >= 0; at = elf.indexOf(name, at + 1)) HOSTILE_BYTES.copy(elf, at);
  return elf;
}

const hostileElf = path('kernel.elf');
writeFileSync(hostileElf, makeHostileElf());
/** A kernel that converts, by its setup header of a hostile version. */
const version = Buffer.from(HOSTILE.slice(0, -1), 'utf8').toString('latin1');
const hostileImage = path('vmlinuz');
writeFileSync(hostileImage, makeBzImage({ payload: makeVmlinux(), kernelVersion: version }));
const sound = path('vmlinux');
writeFileSync(sound, makeVmlinux());
const records = path('records.ndjson');
const record = {
  format: 1,
  image: HOSTILE,
  entry: HOSTILE,
  slide: HOSTILE,
  end: HOSTILE,
  machine: { cpu: HOSTILE, qemu: HOSTILE, accel: HOSTILE, cpus: HOSTILE },
};
writeFileSync(records, `${JSON.stringify(record)}\n${HOSTILE}\n`);
const log = path('console.log');
writeFileSync(log, `Linux version ${HOSTILE}\nKernel Offset: 0x1000000 from 0xffffffff81000000 (${HOSTILE})\n`);
const missing = path('missing');
const out = path('out');

/** At least one command line for each command, with every kind of text that it shows. */
const RUNS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  convert: [
    ['convert', hostileElf, '-o', out],
    ['convert', hostileImage, '-o', out],
    ['convert', hostileImage, '-o', out, '--json'],
    ['convert', missing, '-o', out],
    ['convert', sound, '-o', path('none/out')],
    ['convert', sound, '-o', out, '--table', HOSTILE.slice(0, -1)],
  ],
  bzimage: [['bzimage', hostileElf, '-o', out]],
  extract: [['extract', hostileElf, '-o', out]],
  inspect: [
    ['inspect', hostileElf],
    ['inspect', hostileImage],
    ['inspect', hostileImage, '--json'],
  ],
  shuffle: [
    ['shuffle', sound, '--debug', hostileElf, '-o', out],
    ['shuffle', sound, '--plan', records, '-o', out],
  ],
  randomize: [['randomize', hostileImage, '-o', out, '--virt', '0x400000', '--entry', 'linux64']],
  relocs: [
    ['relocs', hostileElf, '-o', out],
    ['relocs', '--abs-syms', hostileElf],
    ['relocs', '--abs-relocs', hostileElf],
    ['relocs', '--reloc-info', hostileElf],
    ['relocs', missing],
  ],
  verify: [
    ['verify', hostileImage, hostileElf],
    ['verify', sound, hostileElf],
    ['verify', sound, missing],
  ],
  boot: [['boot', hostileElf, '--entry', 'pvh']],
  audit: [['audit', '--merge', records]],
  bench: [['bench', hostileElf]],
  offset: [
    ['offset', log],
    ['offset', log, '--json', '--vmlinux', sound],
    ['offset', missing],
  ],
  doctor: [
    ['doctor', hostileImage, missing],
    ['doctor', hostileElf, '--json'],
  ],
};

test('every command is here', () => {
  assert.deepEqual(Object.keys(RUNS).toSorted(), Object.keys(COMMANDS).toSorted());
});

interface Output {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

function kslide(args: readonly string[]): Promise<Output> {
  return new Promise((resolve) => {
    const options = { encoding: 'utf8', maxBuffer: 2 ** 26, timeout: 120_000 } as const;
    execFile(process.execPath, [...KSLIDE, ...args], options, (error, stdout, stderr) =>
      resolve({ stdout, stderr, code: error === null ? 0 : Number(error.code) }),
    );
  });
}

for (const [command, list] of Object.entries(RUNS)) {
  test(`${command} prints nothing unsafe`, async () => {
    for (const args of list) {
      const { stdout, stderr, code } = await kslide(args);
      const which = oneLine(args.join(' '));
      assert.ok([0, 1, 2, 3].includes(code), `${which}: exit ${code}: ${stderr}`);
      assert.notEqual(stdout + stderr, '', which);
      assert.deepEqual(unsafe(stdout), [], `${which}: standard output`);
      assert.deepEqual(unsafe(stderr), [], `${which}: standard error`);
      if (code >= 2) assert.match(stderr, /^kslide: [^\n]+\n$/, which);
      // The kernel's tool lists whole names.
      if (command !== 'relocs')
        for (const line of (stdout + stderr).split('\n')) assert.ok(line.length < 4_500, `${which}: ${line.length}`);
      for (const line of stdout.split('\n')) assert.doesNotMatch(line, /^proved: (?!the original)/, 'a forged line');
    }
  });
}
