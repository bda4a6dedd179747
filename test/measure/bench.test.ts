/** The bench without boots: what it compares, how it summarizes, and how it talks to QEMU. Boots are measured in test/boot/bench.test.ts. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { START_KERNEL_MAP } from '../../src/base/addresses.ts';
import { Writer } from '../../src/base/bytes.ts';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { endOfElf, readElf } from '../../src/elf/read.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { GdbRemote } from '../../src/measure/bench/gdb-remote.ts';
import { CELL, mapRelocations } from '../../src/measure/bench/map.ts';
import type { MeasuredBoot } from '../../src/measure/bench/measure.ts';
import { HungUp, Monitor } from '../../src/measure/bench/monitor.ts';
import { readSubject } from '../../src/measure/bench/subject.ts';
import type { Subject } from '../../src/measure/bench/subject.ts';
import { inParallel } from '../../src/measure/many-boots.ts';
import { median, summarizeBench } from '../../src/measure/bench/summary.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { assembleStub, STUB_STEPS, stubSteps } from '../../src/stub/program.ts';
import { STUB_TABLES } from '../../src/segment/table.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { DATA, ENTRY, entryAt, LINK, makeVmlinux, TABLE, TEXT } from '../make-vmlinux.ts';

const codecs = coreCodecs;
const vmlinux = makeVmlinux();
const bzImage = makeBzImage({ payload: gzipSync(vmlinux) });
const directory = mkdtempSync(join(tmpdir(), 'kslide-bench-test-'));
after(() => rmSync(directory, { recursive: true }));

const names = ({ variants }: Subject): string[] => variants.map(({ name }) => name);
const converted = STUB_TABLES.flatMap((table) => [`kslide-${table}`, `kslide-${table}-nokaslr`]);

test('a bzImage is compared as itself, as vmlinux, and converted with each table', async () => {
  const subject = await readSubject(bzImage, { codecs });
  assert.deepEqual(names(subject), ['bzimage', 'bzimage-nokaslr', 'vmlinux', ...converted]);
  assert.equal(subject.relocationCount, 6);
  const [image, , plain, first] = subject.variants;
  assert.equal(image!.image, bzImage);
  assert.equal(image!.loaded, bzImage.length);
  assert.equal(plain!.loaded, TEXT.size + 0x1000 + DATA.size);
  // What is compared is the kernel without the table behind it; the converted one loads that too.
  assert.equal(plain!.image.length, endOfElf(readElf(vmlinux)));
  assert.ok(first!.loaded >= plain!.loaded + assembleStub().code.length);
  // At startup_64 of a converted kernel stands the hook, a jump.
  assert.deepEqual([plain!.entryBytes[0], first!.entryBytes[0]], [(0x1230 * 7) & 0xff, 0xe9]);
});

test('a vmlinux is compared without a bzImage, whichever way its table comes', async () => {
  const bare = vmlinux.subarray(0, endOfElf(readElf(vmlinux)));
  for (const [file, relocs] of [
    [vmlinux, undefined],
    [bare, encodeRelocationTable(TABLE)],
  ] as const)
    assert.deepEqual(names(await readSubject(file, { codecs, relocs })), ['vmlinux', ...converted]);
  await assert.rejects(readSubject(bare, { codecs }), KernelImageError);
});

test('a kernel without PVH is booted by linux64', async () => {
  const note = (writer: Writer): void => writer.u32(0x1808, 99);
  assert.equal((await readSubject(vmlinux, { codecs })).entry, 'pvh');
  assert.equal((await readSubject(makeVmlinux({ edit: note }), { codecs })).entry, 'linux64');
});

test('the map has every relocation once, where it is', () => {
  const kernel = readVmlinux(vmlinux);
  const at = [LINK + 0x2000, DATA.paddr + 8, DATA.paddr + 0x1000];
  const table = { ...TABLE, abs64: Uint32Array.from(at.map(entryAt)) };
  const regions = mapRelocations(kernel, table);
  assert.deepEqual(regions, [{ name: undefined, start: LINK, cells: [6] }]);
  assert.ok(kernel.imageEnd - LINK < CELL);

  // With a section over all of it, its name.
  const flags = (writer: Writer): void => {
    const bss = DATA.offset + DATA.size + 32 + 3 * 64;
    writer.u64(bss + 8, 2n); // SHF_ALLOC
    writer.u64(bss + 16, START_KERNEL_MAP + BigInt(LINK));
    writer.u64(bss + 32, 0x1_0000n);
  };
  assert.deepEqual(mapRelocations(readVmlinux(makeVmlinux({ edit: flags })), table), [
    { name: '.bss', start: LINK, cells: [6] },
  ]);
});

test('the steps of the stub are where its program has them', () => {
  const steps = stubSteps();
  assert.deepEqual(
    steps.map(({ step }) => step),
    [...STUB_STEPS],
  );
  assert.equal(steps[0]!.offset, 0);
  const { code } = assembleStub();
  steps.slice(1).forEach(({ offset }, i) => assert.ok(offset > steps[i]!.offset && offset < code.length));
});

test('medians', () => {
  assert.equal(median([3]), 3);
  assert.equal(median([10, 1, 4]), 4);
  assert.equal(median([10, 1, 4, 2]), 3);
});

const guest = {
  accel: 'tcg',
  fellBack: false,
  qemu: '7.2.22',
  memoryMib: 256,
  append: '',
  ownInitrd: false,
} as const;

test('summing up: medians of several, what randomizing costs, and the rest against the plain vmlinux', async () => {
  const subject = await readSubject(bzImage, { codecs });
  /** Boots of variant i: 100 (i + 1), and a bit more each. */
  const boots = subject.variants.map((variant, i) =>
    [0, 9, 2].map((more): MeasuredBoot => {
      const kernel = 100 * (i + 1) + more;
      const phases = {
        loader: 10,
        ...(variant.decompressor ? { decompressor: variant.nokaslr ? 50 : 70 } : {}),
        ...(variant.stub === undefined ? {} : { stub: variant.nokaslr ? 1 : 30 }),
        kernel,
      };
      return { total: Object.values(phases).reduce((a, b) => a + b, 0), phases, point: 'init' };
    }),
  );
  const summary = summarizeBench({ subject, guest, boots, stubs: [], map: [] });
  assert.equal(summary.unit, 'instructions');
  const [image, , plain, kslide] = summary.rows;
  assert.deepEqual(image!.boots, [180, 189, 182]);
  assert.deepEqual([image!.median, image!.least, image!.most], [182, 180, 189]);
  assert.deepEqual(image!.phases, { loader: 10, decompressor: 70, kernel: 102 });
  assert.deepEqual([plain!.median, plain!.overPlain], [312, 0]);
  assert.deepEqual([kslide!.median, kslide!.overPlain], [442, 130]);
  assert.deepEqual(summary.kaslr.slice(0, 2), [
    { of: 'bzimage', relocation: 20, share: 20 / 182, inKernel: -100 },
    { of: kslide!.name, relocation: 30, share: 30 / 442, inKernel: -100 },
  ]);
  assert.equal(summary.kaslr.length, 1 + STUB_TABLES.length);

  // Times have no phases, and so no parts.
  const timed = boots.map((list) => list.map((boot) => ({ ...boot, phases: undefined })));
  const inTime = summarizeBench({ subject, guest: { ...guest, accel: 'kvm' }, boots: timed, stubs: [], map: [] });
  assert.deepEqual([inTime.unit, inTime.kaslr.length, inTime.rows[0]!.phases], ['microseconds', 0, null]);

  // A boot that went elsewhere is not compared.
  boots[3]![1] = { ...boots[3]![1]!, point: 'end' };
  assert.throws(
    () => summarizeBench({ subject, guest, boots, stubs: [], map: [] }),
    (error: unknown) => error instanceof KernelImageError && error.data.code === 'would-not-boot',
  );
});

/** The two ends of a connection. */
async function connect(): Promise<{ readonly ours: Socket; readonly theirs: Socket; close(): void }> {
  const path = join(directory, 'socket');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const ours = createConnection(path);
  const [theirs] = (await once(server, 'connection')) as [Socket];
  return {
    ours,
    theirs,
    close: () => {
      ours.destroy();
      theirs.destroy();
      server.close();
    },
  };
}

/** Plays QEMU's GDB stub: answers each packet by `answer`, in pieces, and gives what it was asked. */
function playGdb(theirs: Socket, answer: (command: string) => string): string[] {
  const asked: string[] = [];
  let text = '';
  theirs.setEncoding('latin1').on('data', (more: string) => {
    text += more;
    for (let match = /^\+*\$([^#]*)#(..)/.exec(text); match !== null; match = /^\+*\$([^#]*)#(..)/.exec(text)) {
      text = text.slice(match[0].length);
      const [, command = '', sum] = match;
      assert.equal(Number.parseInt(sum!, 16), Buffer.from(command).reduce((a, b) => a + b, 0) % 256);
      asked.push(command);
      const reply = `+$${answer(command)}#00`;
      theirs.write(reply.slice(0, 2));
      setImmediate(() => theirs.write(reply.slice(2)));
    }
  });
  return asked;
}

test('GDB remote: breakpoints are there for one run only, and the stop says where', async () => {
  const { ours, theirs, close } = await connect();
  const registers = Buffer.alloc(17 * 8);
  registers.writeBigUInt64LE(BigInt(ENTRY), 16 * 8);
  const asked = playGdb(theirs, (command) => {
    if (command === 'c') return 'T05thread:01;';
    if (command === 'g') return registers.toString('hex');
    return command.startsWith('m') ? '01fe' : 'OK';
  });
  const remote = new GdbRemote(ours);
  assert.equal(await remote.runTo([0x10_0000, ENTRY]), ENTRY);
  assert.deepEqual(asked.splice(0), ['Z1,100000,1', 'Z1,1000230,1', 'c', 'z1,100000,1', 'z1,1000230,1', 'g']);
  assert.equal(await remote.runTo([0x1_0200]), 0x1_0200);
  assert.deepEqual(asked.splice(0), ['Z1,10200,1', 'c', 'z1,10200,1']);
  assert.deepEqual([...(await remote.readMemory(ENTRY, 2))], [1, 0xfe]);
  assert.deepEqual(asked, ['m1000230,2']);
  close();
});

test('GDB remote: a guest that ends, one that faults, a refusal, and a QEMU that is gone', async () => {
  const answers = { c: 'S03', Z: 'OK' };
  const { ours, theirs, close } = await connect();
  const asked = playGdb(theirs, (command) => (command.startsWith('Z') ? answers.Z : answers.c));
  const remote = new GdbRemote(ours);
  assert.equal(await remote.runTo([1]), undefined);
  answers.c = 'S0b';
  await assert.rejects(remote.runTo([1]), /the guest stopped with S0b/);
  answers.Z = 'E22';
  await assert.rejects(remote.runTo([1]), /QEMU answered "E22" to Z1,1,1/);
  assert.deepEqual(asked, ['Z1,1,1', 'c', 'Z1,1,1', 'c', 'Z1,1,1']);
  Object.assign(answers, { c: 'W00', Z: 'OK' });
  await assert.rejects(remote.runTo([1]), HungUp);
  theirs.end();
  await assert.rejects(remote.runTo([1]), HungUp);
  close();
});

test('monitor: answers are told from events; a refusal and a hang-up are errors', async () => {
  const { ours, theirs, close } = await connect();
  theirs.write('{"QMP": {"version": {}}}\n');
  const lines: Record<string, readonly object[]> = {
    qmp_capabilities: [{ return: {} }],
    'human-monitor-command': [
      { event: 'RESUME' },
      { return: "Recording execution 'x': instruction count = 12345\r\n" },
    ],
    cont: [{ return: {} }, { event: 'RESUME' }, { event: 'SHUTDOWN' }],
    dance: [{ error: { class: 'CommandNotFound', desc: 'no dance' } }],
    quit: [],
  };
  theirs.setEncoding('utf8').on('data', (text: string) => {
    for (const line of text.trim().split('\n')) {
      const { execute } = JSON.parse(line) as { readonly execute: string };
      for (const answer of lines[execute]!) theirs.write(`${JSON.stringify(answer)}\r\n`);
      if (execute === 'quit') theirs.end();
    }
  });
  const monitor = await Monitor.open(ours);
  assert.equal(await monitor.instructionCount(), 12_345);
  await monitor.execute('cont');
  await monitor.event('SHUTDOWN');
  await assert.rejects(monitor.execute('dance'), /QEMU refused dance: no dance/);
  await assert.rejects(monitor.execute('quit'), HungUp);
  close();
});

test('of several boots at a time, the first failure is thrown, whichever place it has among them', async () => {
  for (const failing of [0, 1, 2]) {
    const begun: number[] = [];
    const running = inParallel([0, 1, 2, 3, 4], 3, async (item, signal) => {
      begun.push(item);
      if (item === failing) throw new Error(`${item} failed`);
      await once(signal, 'abort');
      throw signal.reason;
    });
    await assert.rejects(running, { message: `${failing} failed` });
    assert.ok(begun.length <= 3, String(begun));
  }
});
