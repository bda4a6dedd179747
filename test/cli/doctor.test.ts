/** `kslide doctor`, on machines that a test makes up by PATH. The real machine: test/boot/doctor.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Diagnosis } from '../../src/cli/diagnose.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { KSLIDE } from './program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-doctor-'));
after(() => rmSync(directory, { recursive: true }));
const programs = join(directory, 'bin');
const kernel = join(directory, 'vmlinux');
writeFileSync(kernel, makeVmlinux());
const junk = join(directory, 'junk');
writeFileSync(junk, 'not a kernel, but text of more than a few bytes');

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** With the programs in `path` and no others. */
function doctor(args: readonly string[], path: string): Ran {
  const ran = spawnSync(process.execPath, [...KSLIDE, 'doctor', ...args], {
    encoding: 'utf8',
    timeout: 120_000,
    env: { PATH: path, TMPDIR: tmpdir() },
  });
  return { code: ran.status, stdout: ran.stdout, stderr: ran.stderr };
}

test('without QEMU and compressors: what is missing, which commands need it, and how to get it', () => {
  const { code, stdout, stderr } = doctor([kernel], programs);
  assert.equal(stderr, '');
  assert.equal(code, 1);
  assert.match(
    stdout,
    /^missing {2}qemu +qemu-system-x86_64 is not installed; boot, audit, bench and convert --try need it$/m,
  );
  assert.match(stdout, /^ +run: apt-get install qemu-system-x86$/m);
  assert.match(stdout, /^missing {2}compressors +gzip, bzip2, lzma, xz, lzop, lz4, zstd; bzimage needs/m);
  assert.match(stdout, /^ +run: apt-get install gzip bzip2 xz-utils lzop lz4 zstd$/m);
  assert.match(stdout, /^ok {7}node +\d+\.\d+\.\d+$/m);
  assert.ok(stdout.includes(`kernel       ${kernel}: `), stdout);
  // KVM is tried only with QEMU.
  assert.match(stdout, /^(?:absent|unknown) +kvm +\/dev\/kvm/m);
});

test('a kernel that is refused, and one that is not there', () => {
  const { code, stdout } = doctor([junk, join(directory, 'none'), '--json'], programs);
  assert.equal(code, 1);
  const { findings } = JSON.parse(stdout) as Diagnosis;
  const kernels = findings.filter(({ name }) => name === 'kernel');
  assert.deepEqual(
    kernels.map(({ state }) => state),
    ['refused', 'refused'],
  );
  assert.match(kernels[0]!.detail, /junk: not a kernel image/);
  assert.match(kernels[1]!.detail, /no such file/);
});

test('a kernel that was converted already is no fault', async () => {
  const converted = join(directory, 'converted');
  writeFileSync(converted, (await convert(makeVmlinux(), { codecs: coreCodecs })).bytes());
  const { stdout } = doctor([converted], programs);
  assert.ok(stdout.includes(`ok       kernel       ${converted}: converted already; kslide boot starts it`), stdout);
});

test('-q prints nothing', () => {
  assert.deepEqual(doctor([junk, '-q'], programs), { code: 1, stdout: '', stderr: '' });
});
