/** `kslide bench` on a real kernel, and what becomes of it when a guest hangs, KVM does, or somebody ends it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { chooseAccel } from '../../src/measure/bench/accel.ts';
import { packBenchInit } from '../../src/measure/bench/init.ts';
import { readSubject } from '../../src/measure/bench/subject.ts';
import type { BenchRow, BenchSummary } from '../../src/measure/bench/summary.ts';
import { EnvironmentError } from '../../src/node/errors.ts';
import { STUB_TABLES } from '../../src/segment/table.ts';
import { makeVmlinux } from '../make-vmlinux.ts';
import { findKernels, inTurn, oldestAndNewest } from './lane.ts';
import { KSLIDE } from '../cli/program.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-bench-boot-'));
after(() => rmSync(directory, { recursive: true }));
const newest = oldestAndNewest(await findKernels()).at(-1)!;
const nowhere = join(directory, 'nowhere');
writeFileSync(nowhere, makeVmlinux());

/** A run of the command line, which boots one guest at a time, when it is its turn. */
const bench = (...args: Parameters<typeof benchNow>): ReturnType<typeof benchNow> => inTurn(() => benchNow(...args));

/** It has a folder for temporary files of its own, which must be empty at the end. */
async function benchNow(
  args: readonly string[],
  whileItRuns?: (pid: number, temporary: string) => Promise<void>,
): Promise<{
  readonly code: number | null;
  readonly by: string | null;
  readonly stdout: string;
  readonly stderr: string;
}> {
  const temporary = mkdtempSync(join(directory, 'tmp'));
  const child = spawn(process.execPath, [...KSLIDE, 'bench', ...args], {
    env: { ...process.env, TMPDIR: temporary },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const closed = once(child, 'close');
  await whileItRuns?.(child.pid!, temporary);
  const [code, by] = (await closed) as [number | null, string | null];
  assert.deepEqual(
    readdirSync(temporary).filter((name) => name.startsWith('kslide')),
    [],
  );
  assert.deepEqual(guestsOf(temporary), []);
  return { code, by, stdout, stderr };
}

/** Processes of QEMU whose sockets are in this folder. */
function guestsOf(temporary: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const [program = '', ...args] = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
        return program.includes('qemu') && args.some((arg) => arg.includes(temporary));
      } catch {
        return false;
      }
    });
}

test(`${newest.name}: each kind of boot comes to /init, and the stub is counted to the instruction`, async () => {
  const page = join(directory, 'page.html');
  const { code, stdout, stderr } = await bench([
    newest.image,
    '--accel',
    'tcg',
    '--runs',
    '1',
    '--json',
    '--html',
    page,
  ]);
  assert.equal(code, 0, stderr);
  const { rows, stubs, kernel, unit, point, kaslr, map } = JSON.parse(stdout) as BenchSummary;
  assert.deepEqual([unit, point, kernel.entry, kernel.version], ['instructions', 'init', 'pvh', newest.release]);
  const row = (name: string): BenchRow => rows.find((each) => each.name === name)!;
  for (const each of rows) {
    const { loader = 0, decompressor = 0, stub = 0, kernel: inKernel = 0 } = each.phases!;
    assert.equal(loader + decompressor + stub + inKernel, each.median, each.name);
    assert.deepEqual(each.boots, [each.median]);
    assert.equal(decompressor > 0, each.decompressor, each.name);
    assert.equal(stub > 0, each.table !== null, each.name);
  }
  const total = kernel.relocations.abs64 + kernel.relocations.inverse32 + kernel.relocations.abs32;
  assert.equal(
    map.regions.flatMap(({ cells }) => cells).reduce((a, b) => a + b, 0),
    total,
  );
  // Numbers of instructions, not times: they are the same on every machine, or nearly so.
  assert.ok(row('vmlinux').median < 0.8 * row('bzimage').median);
  assert.deepEqual(
    stubs.map(({ table }) => table),
    [...STUB_TABLES],
  );
  for (const { table, instructions, again, nokaslr, steps, perRelocation } of stubs) {
    assert.equal(again, instructions, table);
    // In a whole boot too: it stops at other places, and has another seed.
    assert.equal(row(`kslide-${table}`).phases?.stub, instructions);
    assert.equal(row(`kslide-${table}-nokaslr`).phases?.stub, nokaslr);
    assert.equal(
      Object.values(steps).reduce((a, b) => a + b, 0),
      instructions,
    );
    assert.equal(perRelocation, instructions / total);
    assert.ok(perRelocation < 6 && nokaslr < 10_000, `${perRelocation} ${nokaslr}`);
    assert.ok(row(`kslide-${table}`).median < 0.8 * row('bzimage').median);
    assert.equal(kaslr.find(({ of }) => of === `kslide-${table}`)?.relocation, instructions);
  }
  assert.match(readFileSync(page, 'utf8'), /<h1>What KASLR costs at boot<\/h1>/);
});

test('a kernel that goes nowhere is ended in time', async () => {
  const { code, stdout, stderr } = await bench([nowhere, '--accel', 'tcg', '--timeout', '5']);
  assert.match(
    stderr,
    /^kslide: would not boot: vmlinux \(the original kernel, not converted, boot with seed 1\) is .*startup_64 to be reached.*\n$/,
  );
  assert.deepEqual([code, stdout], [2, '']);
});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`${signal} ends it, and its guest`, async () => {
    const { by, stdout, stderr } = await bench([nowhere, '--accel', 'tcg'], async (pid, temporary) => {
      for (let tries = 0; guestsOf(temporary).length === 0 && tries < 600; tries++) await sleep(100);
      assert.equal(guestsOf(temporary).length, 1);
      process.kill(pid, signal);
    });
    assert.deepEqual([by, stdout, stderr], [signal, '', '']);
  });
}

test('a KVM under which no guest comes to life is not taken; asked for, it is an error', async () => {
  const path = process.env['PATH'];
  writeFileSync(join(directory, 'qemu-system-x86_64'), '#!/bin/sh\nexec sleep 600\n', { mode: 0o755 });
  process.env['PATH'] = `${directory}:${path}`;
  try {
    const subject = await readSubject(makeVmlinux(), { codecs: coreCodecs });
    const initrd = packBenchInit();
    const settings = {
      memoryMib: 256,
      append: '',
      initrd,
      point: 'init',
      timeoutMs: 60_000,
      signal: undefined,
    } as const;
    assert.deepEqual(await chooseAccel(subject, settings, 'auto', 500), { accel: 'tcg', fellBack: true });
    assert.deepEqual(await chooseAccel(subject, settings, 'tcg', 500), { accel: 'tcg', fellBack: false });
    await assert.rejects(
      chooseAccel(subject, settings, 'kvm', 500),
      (error: unknown) =>
        error instanceof EnvironmentError && error.message.startsWith('KVM does not run this kernel here: '),
    );
  } finally {
    process.env['PATH'] = path;
  }
});
