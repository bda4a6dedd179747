/** `kslide randomize` as a command: what it writes, what it prints, and what it refuses in which words. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { endOfElf, readElf } from '../../src/elf/read.ts';
import { randomize } from '../../src/randomize.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { makeVmlinux, TABLE } from '../make-vmlinux.ts';
import { KSLIDE } from './program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-randomize-'));
after(() => rmSync(directory, { recursive: true }));
const root = fileURLToPath(new URL('../..', import.meta.url));

const vmlinux = makeVmlinux();
const input = join(directory, 'vmlinux');
const output = join(directory, 'out');
writeFileSync(input, vmlinux);
const SEED = '0123456789abcdef'.repeat(4);

function kslide(...args: string[]): { code: number | null; stdout: Buffer; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...KSLIDE, 'randomize', ...args], {
    cwd: root,
    timeout: 60_000,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return { code: status, stdout, stderr: stderr.toString() };
}

const library = async (options: object): Promise<Uint8Array> =>
  (
    await randomize(vmlinux, { codecs: coreCodecs, virt: 'random', seed: Buffer.from(SEED, 'hex'), ...options })
  ).bytes();

test('writes what the library makes, and says what was chosen', async () => {
  const ran = kslide(input, '-o', output, '--seed', SEED, '--memory', '512', '--json');
  assert.deepEqual({ code: ran.code, stderr: ran.stderr }, { code: 0, stderr: '' });
  const memory = 512 * 0x10_0000;
  assert.deepEqual(new Uint8Array(readFileSync(output)), await library({ memory }));
  const summary = JSON.parse(ran.stdout.toString()) as { virt: number; phys: number; ways: { virt: number } };
  assert.equal(summary.virt, summary.phys);
  assert.equal(summary.ways.virt, 239);

  const text = kslide(input, '-o', output, '--virt', '0x600000', '--no-flag').stdout.toString();
  assert.match(text, /^entries +linux64, pvh$/m);
  assert.match(text, /^virtual slide +0x600000: _text at 0xffffffff81600000$/m);
  assert.match(text, /^KASLR_FLAG +not set \(--no-flag\)$/m);
});

test('the relocation table may be a file of its own, and standard output the target', async () => {
  const [bare, table] = [join(directory, 'bare'), join(directory, 'table')];
  writeFileSync(bare, vmlinux.subarray(0, endOfElf(readElf(vmlinux))));
  writeFileSync(table, encodeRelocationTable(TABLE));
  const ran = kslide(bare, '--relocs', table, '-o', '-', '--seed', SEED, '--entry', 'linux64', '--quiet');
  assert.equal(ran.code, 0, ran.stderr);
  assert.deepEqual(new Uint8Array(ran.stdout), await library({ entry: 'linux64' }));
});

test('without a seed, no two are alike', () => {
  const files = Array.from({ length: 3 }, () => kslide(input, '-o', '-', '--entry', 'linux64', '--quiet').stdout);
  assert.ok(new Set(files.map((file) => file.toString('latin1'))).size >= 2);
});

test('a seed is 16 to 32 bytes in hex', () => {
  rmSync(output, { force: true });
  for (const seed of [
    '',
    '00'.repeat(15),
    '00'.repeat(33),
    `${SEED.slice(2)}0`,
    `${SEED.slice(2)}0g`,
    `0x${SEED.slice(2)}`,
  ]) {
    const ran = kslide(input, '-o', output, '--seed', seed);
    const message = `kslide: --seed is "${seed}", expected 16 to 32 bytes in hex, for example from: openssl rand -hex 32\n`;
    assert.deepEqual([ran.code, ran.stdout.length, ran.stderr], [2, 0, message]);
    assert.equal(existsSync(output), false);
  }
  for (const bytes of [16, 32]) {
    const ran = kslide(input, '-o', output, '--seed', 'Ab'.repeat(bytes), '--quiet');
    assert.deepEqual([ran.code, ran.stdout.length, ran.stderr], [0, 0, '']);
  }
});

test('what cannot be is refused in one line, exit code 2, and nothing is written', () => {
  rmSync(output, { force: true });
  const before = readdirSync(directory);
  for (const [args, message] of [
    [[input], /^kslide: required option '-o, --output <OUT>' not specified; see kslide randomize --help\n$/],
    [[input, '-o', output, '--exec', '--', 'true'], /^kslide: --exec and -o do not go together\n$/],
    [[input, '-o', output, '--', 'true'], /^kslide: a command \(true\) without --exec\n$/],
    [[input, '-o', output, '--exec-dir', '/tmp'], /^kslide: --exec-dir without --exec\n$/],
    [[input, '-o', '-', '--json'], /^kslide: --json and -o - both want standard output\n$/],
    [[input, '-o', output, '--virt', 'far'], /^kslide: --virt is "far", expected a whole number from 0\n$/],
    [[input, '-o', output, '--entry', 'bios'], /^kslide: --entry is "bios", expected linux64 or pvh or both\n$/],
    ...['', '0', '00'.repeat(15), '00'.repeat(33), `${'00'.repeat(16)}0`, `0x${'00'.repeat(16)}`].map(
      (seed) =>
        [
          [input, '-o', output, '--seed', seed],
          /^kslide: --seed is ".*", expected 16 to 32 bytes in hex, .*\n$/,
        ] as const,
    ),
    [[input, '-o', output, '--force'], /^kslide: --force wants --virt and --phys as numbers\n$/],
    [[input, '-o', input], /is the input file/],
    [
      [input, '-o', output, '--virt', '0x3f000000'],
      /^kslide: would not boot: virtual slide is 0x3f000000, expected at most 0x3ee00000: .*; the nearest that works: 0x3ee00000\n$/,
    ],
    [
      [input, '-o', output, '--virt', '0x400000', '--phys', '0'],
      /^kslide: would not boot: physical slide is 0x0, .*\n$/,
    ],
  ] as const) {
    const ran = kslide(...args);
    assert.match(ran.stderr, message);
    assert.equal(ran.code, 2, ran.stderr);
    assert.equal(ran.stdout.length, 0);
  }
  assert.equal(existsSync(output), false);
  assert.deepEqual(readdirSync(directory), before);
  assert.equal(kslide(input, '-o', output, '--virt', '0x400000', '--phys', '0', '--force', '--quiet').code, 0);
});

test('--seed-file: the digits of --seed from a file, a FIFO or standard input', async () => {
  const expected = await library({});
  const seedFile = join(directory, 'seed');
  const from = (...args: string[]): { code: number | null; stdout: Buffer; stderr: string } =>
    kslide(input, '-o', output, '--quiet', ...args);
  for (const text of [SEED, `${SEED}\n`, `${SEED}\r\n`, SEED.toUpperCase()]) {
    rmSync(output, { force: true });
    writeFileSync(seedFile, text, { mode: 0o600 });
    const ran = from('--seed-file', seedFile);
    assert.deepEqual([ran.code, ran.stdout.length, ran.stderr], [0, 0, '']);
    assert.deepEqual(new Uint8Array(readFileSync(output)), expected);
  }
  rmSync(output);
  const shell = `printf %s "$SEED" | "$@" --seed-file - && cmp "$OUT" "$OUT.2" && "$@" --seed-file <(printf %s "$SEED")`;
  writeFileSync(`${output}.2`, expected);
  const command = [process.execPath, ...KSLIDE, 'randomize', input, '-o', output, '--quiet'];
  const { status, stderr } = spawnSync('bash', ['-c', shell, 'bash', ...command], {
    cwd: root,
    env: { ...process.env, SEED, OUT: output },
  });
  assert.deepEqual([status, stderr.toString()], [0, '']);
  assert.deepEqual(new Uint8Array(readFileSync(output)), expected);
  rmSync(`${output}.2`);
});

test('--seed-file: others who can read it are named; what is no seed is refused without showing it', () => {
  const seedFile = join(directory, 'seed');
  writeFileSync(seedFile, SEED);
  for (const mode of [0o640, 0o604]) {
    chmodSync(seedFile, mode);
    const ran = kslide(input, '-o', output, '--seed-file', seedFile);
    assert.equal(ran.code, 0);
    assert.equal(ran.stderr, `kslide: warning: others can read ${seedFile}, which holds the seed; run: chmod 600\n`);
    assert.equal(kslide(input, '-o', output, '--seed-file', seedFile, '--quiet').stderr, ran.stderr);
  }
  chmodSync(seedFile, 0o600);
  for (const [text, bytes] of [
    ['', 0],
    [`${SEED}\n\n`, 66],
    [`${SEED}${SEED}`, 128],
    [` ${SEED}`, 65],
    ['geheim', 6],
    ['00'.repeat(15), 30],
  ] as const) {
    rmSync(output, { force: true });
    writeFileSync(seedFile, text);
    const ran = kslide(input, '-o', output, '--seed-file', seedFile);
    const message = `kslide: ${seedFile}: ${bytes} bytes, expected 16 to 32 bytes in hex and at most a newline, for example from: openssl rand -hex 32\n`;
    assert.deepEqual([ran.code, ran.stdout.length, ran.stderr], [2, 0, message]);
    assert.equal(existsSync(output), false);
  }
  writeFileSync(seedFile, SEED);
  for (const [args, message] of [
    [['--seed-file', seedFile, '--seed', SEED], '--seed and --seed-file do not go together'],
    [['--seed-file', `${seedFile}.none`], `${seedFile}.none: no such file or directory`],
    [['--seed-file', '-', '--relocs', '-'], '--relocs and --seed-file both want standard input'],
  ] as const) {
    const ran = kslide(input, '-o', output, ...args);
    assert.deepEqual([ran.code, ran.stdout.length, ran.stderr], [2, 0, `kslide: ${message}\n`]);
  }
  const over = kslide(input, '-o', seedFile, '--seed-file', seedFile);
  assert.equal(over.stderr, `kslide: ${seedFile}: is the input file; name another one\n`);
  assert.equal(readFileSync(seedFile, 'utf8'), SEED);
});

test('what was moved is readable by its owner only, also in place of a file that all could read', () => {
  rmSync(output, { force: true });
  for (const quiet of [[], ['--quiet']]) {
    assert.equal(kslide(input, '-o', output, ...quiet).code, 0);
    assert.equal(statSync(output).mode & 0o7777, 0o600);
    chmodSync(output, 0o644);
  }
  assert.equal(kslide(input, '-o', output, '--quiet').code, 0);
  assert.equal(statSync(output).mode & 0o7777, 0o600);
});
