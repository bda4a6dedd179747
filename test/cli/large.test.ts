/** Commands on a vmlinux of more than 2 GiB: sparse files, so each takes some kilobytes on disk. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ascii } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { endOfElf, readElf } from '../../src/elf/read.ts';
import { readInputFile } from '../../src/node/files/input-file.ts';
import { grow, writeSparse } from '../big-vmlinux.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { makeKernel64 } from '../relocs/fixtures.ts';
import { kslideRelocs } from '../relocs/judge.ts';
import { makeKernel } from '../shuffle/make-kernel.ts';

const GIB = 2 ** 30;
const directory = mkdtempSync(join(tmpdir(), 'kslide-large-'));
after(() => rmSync(directory, { recursive: true }));

const script = fileURLToPath(new URL('kslide.ts', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));
const path = (name: string): string => join(directory, name);

const command = (args: readonly string[]): [string, ...string[]] => [
  process.execPath,
  '--import',
  'tsx',
  script,
  ...args,
];

function kslide(
  args: readonly string[],
  stdin: 'ignore' | number = 'ignore',
): { code: number | null; stdout: Buffer; stderr: string } {
  const [program, ...rest] = command(args);
  const ran = spawnSync(program, rest, {
    cwd: root,
    timeout: 60_000,
    stdio: [stdin, 'pipe', 'pipe'],
  });
  return { code: ran.status, stdout: ran.stdout, stderr: ran.stderr.toString() };
}

const kernel = makeVmlinux();
const LEFT_OUT: readonly (readonly [name: string, hole: number, size: string])[] = [
  ['2.2', 0x8cd0_0000, '2.36 GB'],
  ['5', 5 * GIB, '5.37 GB'],
];

for (const [name, hole, size] of LEFT_OUT) {
  test(`convert and verify take a vmlinux of ${name} GiB`, async () => {
    const big = writeSparse(path(`big-${name}`), grow(kernel, hole));
    assert.ok(statSync(big).blocks * 512 < 2 ** 20, 'it takes room on disk');
    const out = path(`out-${name}`);
    const line = `the debug sections are left out (${size}), as by strip -g: kslide keeps up to 2 GiB in memory`;
    const remark = `kslide: ${big}: ${line}\n`;

    const converted = kslide(['convert', big, '-o', out]);
    assert.equal(converted.code, 0, converted.stderr);
    assert.equal(converted.stderr, '');
    assert.ok(converted.stdout.toString().includes(`\ndebug        ${line}\n`), converted.stdout.toString());
    let leftOut = 0;
    const small = await readInputFile(big, { onLeftOut: (bytes) => (leftOut = bytes) });
    assert.equal(leftOut, statSync(big).size - small.length);
    assert.deepEqual(new Uint8Array(readFileSync(out)), (await convert(small, { codecs: coreCodecs })).bytes());
    const json = kslide(['convert', big, '-o', out, '--json']);
    assert.equal((JSON.parse(json.stdout.toString()) as { leftOut: number }).leftOut, leftOut);

    const verified = kslide(['verify', big, out]);
    assert.equal(verified.code, 0, verified.stdout.toString());
    assert.match(verified.stdout.toString(), /^proved: /m);
    assert.equal(verified.stderr, remark);
  });
}

test('inspect, extract and randomize take a vmlinux of 5 GiB', async () => {
  const big = writeSparse(path('big'), grow(kernel, 5 * GIB));
  const [out, table] = [path('extracted'), path('table')];
  const remark = `kslide: ${big}: the debug sections are left out (5.37 GB), as by strip -g: kslide keeps up to 2 GiB in memory\n`;
  const small = await readInputFile(big, { onLeftOut: () => {} });

  const inspected = kslide(['inspect', big]);
  assert.equal(inspected.code, 0);
  assert.equal(inspected.stderr, remark);
  assert.equal(kslide(['inspect', big, '--quiet']).stderr, '');

  const extracted = kslide(['extract', big, '-o', out, '--relocs-out', table]);
  assert.equal(extracted.code, 0);
  assert.equal(extracted.stderr, remark);
  assert.deepEqual(new Uint8Array(readFileSync(out)), small.subarray(0, endOfElf(readElf(small))));
  assert.deepEqual(new Uint8Array(readFileSync(table)), small.subarray(endOfElf(readElf(small))));

  const seed = '00112233445566778899aabbccddeeff';
  for (const more of [[], ['--quiet']]) {
    const randomized = kslide(['randomize', big, '-o', out, '--seed', seed, ...more]);
    assert.equal(randomized.code, 0, randomized.stderr);
    assert.equal(randomized.stderr, more.length === 0 ? remark : '');
  }
  writeFileSync(path('small'), small);
  assert.equal(kslide(['randomize', path('small'), '-o', path('moved'), '--seed', seed]).code, 0);
  assert.deepEqual(readFileSync(out), readFileSync(path('moved')));
});

test('relocs prints the same table for a vmlinux of 5 GiB', () => {
  const small = makeKernel64();
  const big = writeSparse(path('rela'), grow(small, 5 * GIB));
  const ran = kslide(['relocs', big]);
  assert.equal(ran.code, 0, ran.stderr);
  assert.deepEqual(ran.stdout, kslideRelocs(small, []).stdout);
  // It would write the file without its debug sections over the file itself.
  const kept = kslide(['relocs', '--keep', big]);
  assert.equal(kept.code, 1);
  assert.match(kept.stderr, /has 5\.4 GB, and kslide reads files of up to 2 GiB/);
});

test('a vmlinux of 5 GiB on standard input, a redirected file, from where it stands', async () => {
  const big = writeSparse(path('redirected'), grow(kernel, 5 * GIB));
  const [out, named] = [path('from-stdin'), path('from-name')];
  assert.equal(kslide(['convert', big, '-o', named, '--quiet']).code, 0);
  const line = 'the debug sections are left out (5.37 GB), as by strip -g: kslide keeps up to 2 GiB in memory';
  const converted = kslide(['convert', '-', '-o', out], openSync(big, 'r'));
  assert.equal(converted.code, 0, converted.stderr);
  assert.ok(converted.stdout.toString().includes(`\ndebug        ${line}\n`), converted.stdout.toString());
  assert.deepEqual(readFileSync(out), readFileSync(named));
  const inspected = kslide(['inspect', '-'], openSync(big, 'r'));
  assert.deepEqual([inspected.code, inspected.stderr], [0, `kslide: standard input: ${line}\n`]);

  // After 512 bytes that are no part of it, all its pieces are 512 bytes further.
  const { size, pieces } = grow(kernel, 5 * GIB);
  const moved = pieces.map(({ offset, bytes }) => ({ offset: offset + 512, bytes }));
  const further = writeSparse(path('after-512'), { size: size + 512, pieces: moved });
  const descriptor = openSync(further, 'r');
  readSync(descriptor, new Uint8Array(512), 0, 512, null);
  assert.equal(kslide(['convert', '-', '-o', out, '--quiet'], descriptor).code, 0);
  assert.deepEqual(readFileSync(out), readFileSync(named));
  // What is left of a file of 5 GiB may be small.
  const end = writeSparse(path('at-the-end'), {
    size: 5 * GIB + kernel.length,
    pieces: [{ offset: 5 * GIB, bytes: kernel }],
  });
  const ran = spawnSync(
    'bash',
    ['-c', 'dd bs=1G skip=5 count=0 status=none; "$@"', 'bash', ...command(['inspect', '-', '--json'])],
    { cwd: root, stdio: [openSync(end, 'r'), 'pipe', 'pipe'] },
  );
  assert.equal(ran.status, 0, ran.stderr.toString());
  writeFileSync(path('small-kernel'), kernel);
  assert.deepEqual(ran.stdout, kslide(['inspect', path('small-kernel'), '--json']).stdout);
});

test('shuffle takes a vmlinux of 5 GiB, and verify --shuffled proves it', async () => {
  const small = makeKernel().unstripped;
  const big = writeSparse(path('shuffled-big'), grow(small, 5 * GIB));
  const reduced = path('reduced');
  writeFileSync(reduced, await readInputFile(big, { onLeftOut: () => {} }));
  const seed = '00112233445566778899aabbccddeeff';
  const line = 'the debug sections are left out (5.37 GB), as by strip -g: kslide keeps up to 2 GiB in memory';
  const [out, expected] = [path('shuffled'), path('shuffled-small')];
  const shuffled = kslide(['shuffle', big, '-o', out, '--seed', seed]);
  assert.deepEqual([shuffled.code, shuffled.stderr], [0, `kslide: ${big}: ${line}\n`]);
  assert.equal(kslide(['shuffle', reduced, '-o', expected, '--seed', seed]).code, 0);
  assert.deepEqual(readFileSync(out), readFileSync(expected));
  const verified = kslide(['verify', '--shuffled', big, out, '--quiet']);
  assert.deepEqual([verified.code, verified.stderr], [0, '']);
  // A debug vmlinux is read in parts at any size.
  const other = kslide(['shuffle', reduced, '--debug', big, '-o', out, '--seed', seed]);
  assert.deepEqual([other.code, other.stderr], [0, '']);
  assert.deepEqual(readFileSync(out), readFileSync(expected));
});

test('refused in a line: what is no ELF program, what is too large without debug sections too', () => {
  const zeros = path('zeros');
  writeFileSync(zeros, '');
  truncateSync(zeros, 3 * GIB);
  const core = writeSparse(path('core'), grow(makeVmlinux({ edit: (elf) => elf.u16(16, 4) }), 3 * GIB));
  const trailer = path('trailer');
  writeFileSync(trailer, kernel);
  truncateSync(trailer, 3 * GIB);
  const cut = writeSparse(path('cut'), grow(kernel, 5 * GIB));
  truncateSync(cut, 4 * GIB);
  const cases: [string, RegExp][] = [
    [zeros, /zeros: has 3\.2 GB, and kslide reads files of up to 2 GiB/],
    [core, /core: has 3\.2 GB, and kslide reads files of up to 2 GiB/],
    [trailer, /too large: size of ELF file without its debug sections is 0xc0000000, expected at most 0x80000000/],
    [
      cut,
      /file is truncated: section header table of 5 entries at offset 0x1400[0-9a-f]+: expected 0x140 bytes before the end at 0x100000000/,
    ],
  ];
  for (const [file, message] of cases) {
    const ran = kslide(['convert', file, '-o', path('none')]);
    assert.match(ran.stderr, message);
    assert.equal(ran.stderr.split('\n').length, 2);
    assert.equal(ran.code, 2);
    assert.ok(!existsSync(path('none')));
  }
  const redirected = kslide(['inspect', '-'], openSync(core, 'r'));
  assert.match(redirected.stderr, /standard input: has 3\.2 GB.*strip -g/);
  assert.equal(redirected.code, 2);
});

test('a file of 8 TB takes no longer, wherever its headers are', (context) => {
  const file = path('8-tb');
  try {
    writeSparse(file, grow(kernel, 2 ** 43));
  } catch (error) {
    // ext4 has files of up to 16 TB, tmpfs and others less or more.
    return context.skip(`the file system has no files of 8 TB: ${String(error)}`);
  }
  assert.equal(kslide(['convert', file, '-o', path('from-8-tb'), '--quiet']).code, 0);
  assert.equal(kslide(['verify', file, path('from-8-tb'), '--quiet']).code, 0);
  const bare = path('bare');
  writeFileSync(bare, ascii('\x7fELF\x02\x01\x01'));
  truncateSync(bare, 2 ** 43);
  assert.equal(kslide(['inspect', bare]).code, 2);
});
