/** `convert --recover` and `extract --recover`: what is written, what is said, and what ends with which exit code. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { hex } from '../../src/base/errors.ts';
import { physToVirt } from '../../src/base/addresses.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { recoverRelocations } from '../../src/recover/recover.ts';
import { DATA_AT, link, makeRecoverKernel, markedFields } from '../recover/make-kernel.ts';
import { KSLIDE } from './program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-recover-'));
after(() => rmSync(directory, { recursive: true }));

const SITES = `48c7c7${link(DATA_AT)} 48c7c6${link(DATA_AT + 8)}`;
const DOUBT = `${SITES} 48c7c3[00000000]`;
const [doubt] = markedFields(DOUBT) as [number];

const clear = join(directory, 'clear');
writeFileSync(clear, makeRecoverKernel({ code: SITES }));
const doubtful = join(directory, 'doubtful');
writeFileSync(doubtful, makeRecoverKernel({ code: DOUBT }));
const out = join(directory, 'out');

function run(...args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  rmSync(out, { force: true });
  return spawnSync(process.execPath, [...KSLIDE, ...args], { encoding: 'utf8', timeout: 120_000 });
}

test('without --recover a kernel without relocations is refused, and the line names it', () => {
  const { status, stderr } = run('convert', clear, '-o', out);
  assert.equal(status, 2);
  assert.match(stderr, /no relocation table.*--recover/);
  assert.equal(existsSync(out), false);
});

test('convert --recover: written, with the warning that it is not proved, even when quiet', () => {
  const { status, stdout, stderr } = run('convert', clear, '--recover', '-o', out, '--json');
  assert.equal(status, 0, stderr);
  const summary = JSON.parse(stdout);
  assert.deepEqual(summary.relocations, { abs64: 3, inverse32: 0, abs32: 2 });
  assert.deepEqual(summary.recovered.accepted, []);
  assert.equal(summary.recovered.anchors, 120);
  assert.equal(summary.recovered.build.tested, false);
  assert.ok(existsSync(out));
  const quiet = run('convert', clear, '--recover', '-o', out, '--quiet');
  assert.equal(quiet.status, 0);
  assert.match(
    quiet.stderr,
    /^kslide: warning: the relocations were recovered .* not proved\n.*never tried on kernels like this one/,
  );
});

test('extract --recover gives the table', () => {
  const { status } = run('extract', clear, '--recover', '--relocs-out', out);
  assert.equal(status, 0);
  const { table } = recoverRelocations(readVmlinux(readFileSync(clear)));
  assert.deepEqual(new Uint8Array(readFileSync(out)), encodeRelocationTable(table));
  const useless = run('extract', clear, '--recover', '-o', out);
  assert.equal(useless.status, 2);
  assert.match(useless.stderr, /--relocs-out/);
});

test('a doubt: told, exit 1, nothing written; decided or accepted, it is written', () => {
  const address = hex(physToVirt(doubt));
  for (const command of [
    ['convert', doubtful, '--recover', '-o', out],
    ['extract', doubtful, '--recover', '--relocs-out', out],
  ]) {
    const { status, stderr } = run(...command);
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`^kslide: doubt: ${address} \\(32 bits\\) holds 0x0: .*\nkslide: 1 field may`));
    assert.equal(existsSync(out), false);
  }
  const json = run('convert', doubtful, '--recover', '-o', out, '--json');
  assert.equal(json.status, 1);
  assert.equal(JSON.parse(json.stdout).doubts[0].address, address);

  for (const [options, abs32] of [
    [['--site', address], 3],
    [['--not-site', address], 2],
    [['--accept-doubts'], 2],
  ] as const) {
    const { status, stdout, stderr } = run('convert', doubtful, '--recover', ...options, '-o', out, '--json');
    assert.equal(status, 0, stderr);
    const summary = JSON.parse(stdout);
    assert.equal(summary.relocations.abs32, abs32);
    assert.equal(summary.recovered.accepted.length, options[0] === '--accept-doubts' ? 1 : 0);
    assert.ok(existsSync(out));
  }
});

test('options that make no sense are refused: exit 2, one line', () => {
  for (const args of [
    ['--accept-doubts'],
    ['--site', '0xffffffff81000000'],
    ['--recover', '--relocs', doubtful],
    ['--recover', '--site', '81000000'],
    ['--recover', '--site', '0x81000000'],
    ['--recover', '--site', '0xffffffff81000000'],
  ]) {
    const { status, stderr } = run('convert', clear, ...args, '-o', out);
    assert.equal(status, 2, args.join(' '));
    assert.equal(stderr.trim().split('\n').length, 1, stderr);
    assert.equal(existsSync(out), false);
  }
});
