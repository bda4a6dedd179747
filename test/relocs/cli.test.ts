/** `kslide relocs` as a command: standard output and exit codes beside the kernel's tool, and files that appear whole or not at all. */
import { joinParts } from '../../src/base/bytes.ts';
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { insertRelocations } from '../../src/insert.ts';
import { makeKernel64 } from './fixtures.ts';
import { judge, skip } from './judge.ts';
import type { Flag } from './judge.ts';
import { KSLIDE } from '../cli/program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-relocs-cli-'));
after(() => rmSync(directory, { recursive: true }));

const root = fileURLToPath(new URL('../..', import.meta.url));

function relocs(args: readonly string[], input?: Uint8Array): { code: number | null; stdout: Buffer; stderr: string } {
  const run = spawnSync(process.execPath, [...KSLIDE, 'relocs', ...args], {
    cwd: root,
    timeout: 60_000,
    maxBuffer: 1 << 26,
    ...(input === undefined ? {} : { input }),
  });
  return { code: run.status, stdout: run.stdout, stderr: run.stderr.toString() };
}

function file(name: string, bytes: Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

const kernel = makeKernel64({ reserved: { name: '.data.reloc', size: 0x1000 } });
const vmlinux = file('vmlinux', kernel);

test('prints what the kernel tool prints', { skip }, () => {
  const cases: readonly (readonly Flag[])[] = [[], ['--text'], ['--abs-syms'], ['--abs-relocs'], ['--reloc-info']];
  for (const flags of cases) {
    const ours = relocs([...flags, vmlinux]);
    assert.deepEqual([ours.code, ours.stderr], [0, ''], flags.join(' '));
    assert.ok(ours.stdout.equals(judge(vmlinux, flags).stdout), flags.join(' '));
  }
});

test('refuses with exit code 1 and one line, as the kernel tool', { skip }, () => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['--realmode', vmlinux], /EI_CLASS .* expected 1 \(ELFCLASS32\)/],
    [[file('cut', kernel.subarray(0, 0x2000))], /^kslide: file is truncated: /],
    [[file('text', Buffer.from('not a kernel'))], /^kslide: not a kernel image: /],
    [[join(directory, 'nothing')], /nothing: no such file/],
    [[], /missing required argument/],
    [['--bogus', vmlinux], /unknown option/],
    [['--abs-sym', vmlinux], /unknown option '--abs-sym' \(Did you mean --abs-syms\?\)$/m],
    [[vmlinux, vmlinux], /too many arguments/],
  ];
  for (const [args, message] of cases) {
    const ours = relocs(args);
    assert.deepEqual([ours.code, ours.stdout.length], [1, 0], args.join(' '));
    assert.match(ours.stderr, message);
    assert.equal(ours.stderr.trimEnd().split('\n').length, 1);
    assert.equal(judge(args.at(-1) ?? '', args.slice(0, -1) as Flag[]).status, 1);
  }
});

test('refuses a vmlinux without relocations of its code, of which the kernel tool makes a table', { skip }, () => {
  const whole = file('whole', makeKernel64({ runtime: true, reserved: { name: '.data.reloc', size: 0x1000 } }));
  for (const [removed, says] of [
    [
      ['.rela.*', '.rela__*'],
      'has one relocation section, .relaruntime_ptr_USER_PTR_MAX, but none that applies to its code',
    ],
    [['.rela.text'], 'has 8 relocation sections, such as .rela.rodata, but none that applies to its code'],
    [['.rela*'], 'has no relocation sections'],
  ] as const) {
    const left = join(directory, 'left');
    execFileSync('objcopy', [...removed.map((name) => `--remove-section=${name}`), whole, left]);
    assert.equal(judge(left, []).status, 0);
    for (const flags of [[], ['--text'], ['--keep'], ['-o', join(directory, 'table')]]) {
      const ours = relocs([...flags, left]);
      assert.deepEqual([ours.code, ours.stdout.length], [1, 0], flags.join(' '));
      assert.ok(
        ours.stderr.startsWith(`kslide: kernel has no relocation table: vmlinux ${says}: expected all that`),
        ours.stderr,
      );
      assert.equal(ours.stderr.split('\n').length, 2);
    }
    assert.equal(existsSync(join(directory, 'table')), false);
    // A list of what is there is no table.
    assert.equal(relocs(['--reloc-info', left]).code, 0);
  }
});

test('refuses what only it has options for', () => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['--lists', '4', vmlinux], /--lists 4: expected 2 or 3/],
    [['--lists', '2', vmlinux], /expected none in a table of two lists/],
    [['--keep', '--text', vmlinux], /--keep goes with --lists and -o only/],
    [['--keep', file('none', makeKernel64())], /section \.data\.reloc or \.data\.relocs is missing/],
  ];
  for (const [args, message] of cases) {
    const ours = relocs(args);
    assert.deepEqual([ours.code, ours.stdout.length], [1, 0], args.join(' '));
    assert.match(ours.stderr, message);
  }
});

test('--lists, -o and standard input', () => {
  const placed = makeKernel64({ perCpu: 'placed' });
  const [two, three] = ['2', '3'].map((lists) => relocs(['--lists', lists, '-'], placed).stdout);
  assert.equal(three!.length, two!.length + 4);
  const out = join(directory, 'vmlinux.relocs');
  const ours = relocs(['-o', out, '-'], placed);
  assert.deepEqual([ours.code, ours.stdout.length], [0, 0]);
  assert.deepEqual(readFileSync(out), two);
});

test('--keep writes the table in place, whole or not at all', () => {
  const expected = Buffer.from(joinParts(insertRelocations(kernel)));
  const path = file('in-place', kernel);
  const copy = join(directory, 'copy');
  const mode = statSync(path).mode;
  assert.equal(relocs(['--keep', '-o', copy, path]).code, 0);
  assert.deepEqual(readFileSync(copy), expected);
  assert.deepEqual(readFileSync(path), Buffer.from(kernel), 'with -o the input stays as it is');
  const ours = relocs(['--keep', path]);
  assert.deepEqual([ours.code, ours.stdout.length, ours.stderr], [0, 0, '']);
  assert.deepEqual(readFileSync(path), expected);
  assert.equal(statSync(path).mode, mode);

  const small = makeKernel64({ reserved: { name: '.data.reloc', size: 16 } });
  const refused = file('small', small);
  const before = readdirSync(directory);
  assert.match(relocs(['--keep', refused]).stderr, /reserve 0x1000 bytes/);
  assert.deepEqual(readFileSync(refused), Buffer.from(small));
  assert.deepEqual(readdirSync(directory), before, 'nothing is left behind');
});
