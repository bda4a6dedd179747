/** `kslide shuffle` and `verify --shuffled` as a contract: what goes where, exit codes, one line a failure, and no file left by one. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { collectRelocations } from '../../src/relocs/tool/collect.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { makeKernel } from './make-kernel.ts';
import { TABLES, withoutRelocations } from './without-relocations.ts';
import { KSLIDE } from '../cli/program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-shuffle-cli-'));
after(() => rmSync(directory, { recursive: true }));

const { unstripped, stripped, map } = makeKernel();
const path = (name: string): string => join(directory, name);
writeFileSync(path('vmlinux'), unstripped);
writeFileSync(path('stripped'), stripped);

const SEED = '0102'.repeat(8);

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function kslide(...args: readonly string[]): Ran {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...KSLIDE, ...args], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    encoding: 'utf8',
    timeout: 120_000,
  });
  return { code: status, stdout, stderr };
}

function refused(args: readonly string[], message: RegExp): void {
  const before = readdirSync(directory).toSorted();
  const { code, stdout, stderr } = kslide('shuffle', ...args);
  assert.equal(code, 2, stderr);
  assert.equal(stdout, '');
  assert.match(stderr, /^kslide: [^\n]+\n$/);
  assert.match(stderr, message);
  assert.deepEqual(readdirSync(directory).toSorted(), before);
}

test('a seed and a plan give what the seed alone gives, and verify proves it', () => {
  const first = kslide(
    'shuffle',
    path('vmlinux'),
    '--seed',
    SEED,
    '-o',
    path('one'),
    '--plan-out',
    path('plan'),
    '--json',
  );
  assert.equal(first.code, 0, first.stderr);
  const summary = JSON.parse(first.stdout) as { seed: string; functions: { all: number; moved: number } };
  assert.equal(summary.seed, SEED);
  assert.deepEqual([summary.functions.all, summary.functions.moved], [22, 20]);
  const second = kslide('shuffle', path('vmlinux'), '--plan', path('plan'), '--seed', SEED, '-o', path('two'));
  assert.equal(second.code, 0, second.stderr);
  assert.match(second.stdout, /20 of 22 moved/);
  assert.deepEqual(readFileSync(path('two')), readFileSync(path('one')));

  assert.equal(kslide('verify', '--shuffled', path('vmlinux'), path('one'), '--quiet').code, 0);
  const refuted = kslide('verify', '--shuffled', path('vmlinux'), path('vmlinux'));
  assert.equal(refuted.code, 1);
  assert.match(refuted.stdout, /refuted by moves/);
});

test('the shortest and the longest seed', () => {
  for (const seed of ['0f'.repeat(16), '0f'.repeat(32)]) {
    const { code, stdout, stderr } = kslide('shuffle', path('vmlinux'), '--seed', seed, '-o', path('seeded'), '--json');
    assert.equal(code, 0, stderr);
    assert.equal((JSON.parse(stdout) as { seed: string }).seed, seed);
  }
});

test('--seed-file gives what --seed gives, and its seed is not printed', () => {
  writeFileSync(path('seed'), `${SEED}\n`, { mode: 0o600 });
  const args = ['shuffle', path('vmlinux'), '--seed-file', path('seed'), '-o', path('from-file')];
  const json = kslide(...args, '--json');
  assert.deepEqual([json.code, json.stderr], [0, '']);
  assert.equal('seed' in (JSON.parse(json.stdout) as object), false);
  assert.deepEqual(readFileSync(path('from-file')), readFileSync(path('one')));
  const text = kslide(...args);
  assert.match(text.stdout, /^seed +from --seed-file$/m);
  assert.ok(!`${json.stdout}${text.stdout}`.includes(SEED));
  for (const name of ['from-file', 'plan']) assert.equal(statSync(path(name)).mode & 0o7777, 0o600);
});

test('--map takes what ld wrote with the kernel', () => {
  writeFileSync(path('ld.map'), map);
  const { code, stderr } = kslide(
    'shuffle',
    path('vmlinux'),
    '--map',
    path('ld.map'),
    '--seed',
    SEED,
    '-o',
    path('mapped'),
  );
  assert.equal(code, 0, stderr);
  // All functions have sizes here: nothing new is said.
  assert.deepEqual(readFileSync(path('mapped')), readFileSync(path('one')));
});

test('--recover does without relocations, and both commands say when it is missing', () => {
  const kernel = makeKernel(TABLES);
  writeFileSync(path('debug'), withoutRelocations(kernel));
  writeFileSync(path('bare'), kernel.stripped);
  writeFileSync(path('relocs'), encodeRelocationTable(collectRelocations(kernel.unstripped)));
  const shared = ['--relocs', path('relocs'), '--debug', path('debug')];
  refused([path('bare'), ...shared, '-o', path('never')], /\.rela section of \.text is missing.*--recover/);
  const { code, stdout, stderr } = kslide('shuffle', path('bare'), ...shared, '--recover', '-o', path('recovered'));
  assert.equal(code, 0, stderr);
  assert.match(stdout, /6 of 27 moved/);
  assert.match(stdout, /doubtful reference/);
  const verify = ['verify', '--shuffled', path('bare'), path('recovered'), ...shared];
  const without = kslide(...verify);
  assert.deepEqual([without.code, without.stdout], [2, '']);
  assert.match(without.stderr, /^kslide: [^\n]*--recover[^\n]*\n$/);
  const consistent = kslide(...verify, '--recover');
  assert.equal(consistent.code, 0, consistent.stderr);
  assert.match(consistent.stdout, /\nconsistent, if /);
});

test('--exec runs a command with the kernel, and ends as it ends', () => {
  const { code, stdout, stderr } = kslide(
    'shuffle',
    path('vmlinux'),
    '--exec',
    '--',
    'sh',
    '-c',
    'head -c 4 {} && exit 7',
  );
  assert.equal(code, 7, stderr);
  assert.equal(stdout, '\x7fELF');
});

test('options that contradict each other, and missing files, are refused', () => {
  const out = ['-o', path('never')];
  refused([path('vmlinux')], /nothing to write/);
  refused([path('vmlinux'), ...out, '--seed', 'xyz'], /--seed is "xyz"/);
  for (const seed of ['', '0', '00'.repeat(15), '00'.repeat(33), `${'00'.repeat(16)}0`, `0x${'00'.repeat(16)}`])
    refused([path('vmlinux'), ...out, '--seed', seed], /--seed is ".*", expected 16 to 32 bytes in hex, /);
  refused([path('stripped'), ...out], /no relocation table/);
  refused([path('stripped'), ...out, '--debug', path('stripped')], /no relocation table/);
  refused([path('vmlinux'), ...out, '--debug', path('stripped')], /debug vmlinux: \.symtab/);
  refused([path('vmlinux'), ...out, '--plan', path('vmlinux')], /plan is no plan file/);
  refused([path('vmlinux'), ...out, '--symbols', path('map')], /no kallsyms/);
  refused([path('vmlinux'), ...out, '--map', path('stripped')], /link map/);
  refused([path('vmlinux'), ...out, '--map', path('no such map')], /no such map/);
  refused([path('vmlinux'), ...out, '--map', path('stripped'), '--plan', path('plan')], /--plan goes without/);
  refused([path('vmlinux'), ...out, '--recover', '--plan', path('plan')], /--plan goes without/);
  refused([path('vmlinux'), '-o', path('stripped'), '--map', path('stripped')], /is the input file/);
});
