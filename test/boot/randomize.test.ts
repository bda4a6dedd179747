/**
 * Kernels moved by the host: each is exactly where it was told to be, all of it, by both entries; and what `randomize` refuses does not boot
 * when it is forced. The image that boots has been compared with the kernel's table applied by other code first.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { KASLR_FLAG } from '../../src/base/boot-params.ts';
import { Reader, Writer } from '../../src/base/bytes.ts';
import { readElf, segmentBytes } from '../../src/elf/read.ts';
import { hex } from '../../src/base/errors.ts';
import { extract } from '../../src/extract.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import type { KernelPackage } from '../../scripts/kernels/debian.ts';
import type { BootOptions } from '../../src/node/qemu/qemu.ts';
import { readPvh, readsNote } from '../../src/kernel/pvh.ts';
import { openRandomizer, randomize } from '../../src/randomize.ts';
import type { Randomizer, RandomizeOptions, RandomizeSummary } from '../../src/randomize.ts';
import { readRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { PARAMS } from '../../src/segment/layout.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import type { Vmlinux } from '../../src/kernel/vmlinux.ts';
import { applyNaively } from '../relocs/naive.ts';
import { basesOf, bootInTurn, findKernels, FIXED, oldestAndNewest, PARALLEL, PMD, prepare, run } from './lane.ts';
import type { GuestBoot, Kernel } from './lane.ts';
import { makeProbe, readProbe, slideOf } from './probe.ts';
import type { ProbeReport } from './probe.ts';

const MIB = 0x10_0000;
const found = await findKernels();
/** A kernel that hangs has this long to show that it does not. One that boots needs a third, on an idle machine. */
const HANGS_MS = 10_000;

interface Movable extends Kernel {
  readonly vmlinux: Vmlinux;
  readonly relocs: Uint8Array;
  readonly randomizer: Randomizer;
  readonly largest: number;
  /** Whether PVH takes any two slides. */
  readonly free: boolean;
  /** Physical link addresses of the PVH entry and of the note that says so. */
  readonly pvhEntry: number;
  readonly note: number;
  /** Whether the PVH entry takes its link address from that note. */
  readonly readsNote: boolean;
}

async function movable(item: KernelPackage): Promise<Movable> {
  const kernel = await prepare(item);
  const image = await readFile(item.image);
  const { vmlinux, relocs } = await extract(image, { codecs: nodeCodecs });
  const randomizer = await openRandomizer(image, { codecs: nodeCodecs });
  const kernelTable = relocs();
  const read = readVmlinux(vmlinux);
  const pvh = readPvh(read, readRelocationTable(kernelTable))!;
  const [desc] = pvh.notes;
  const load = read.loads.find(({ offset, filesz }) => desc!.offset >= offset && desc!.offset < offset + filesz)!;
  return {
    ...kernel,
    vmlinux: read,
    relocs: kernelTable,
    randomizer,
    largest: kernel.summary.slots.largest,
    free: pvh.relocatesItself,
    pvhEntry: pvh.entry,
    readsNote: readsNote(pvh),
    note: load.paddr + desc!.offset - load.offset,
  };
}

/** The moved kernel, after a look at all that is loaded of it: the table's doing and nothing else, the hook and the PVH note apart. */
function moved(kernel: Movable, options: RandomizeOptions): { image: Uint8Array; summary: RandomizeSummary } {
  const result = kernel.randomizer.randomize(options);
  const image = result.bytes();
  const { imageStart, imageEnd, entry, loads, elf } = kernel.vmlinux;
  const { virt, phys } = result.summary;
  const [expected, memory] = [new Uint8Array(imageEnd - imageStart), new Uint8Array(imageEnd - imageStart)];
  for (const load of loads) expected.set(segmentBytes(elf, load), load.paddr - imageStart);
  applyNaively(expected, imageStart, kernel.relocs, virt);
  const after = readElf(image);
  for (const { index } of loads) {
    const load = after.segments[index]!;
    memory.set(segmentBytes(after, load), load.paddr - phys - imageStart);
  }
  const hook = entry - imageStart;
  expected.set(memory.subarray(hook, hook + 5), hook);
  const { note, pvhEntry } = kernel;
  const told = kernel.readsNote && result.summary.entry !== 'linux64';
  new Writer(expected).u64(note - imageStart, pvhEntry + (told ? virt : 0));
  assert.equal(result.summary.slideInNotes, told && virt !== 0);
  assert.ok(Buffer.compare(memory, expected) === 0, 'not what the table makes of it');
  return { image, summary: result.summary };
}

/** Boots, and is where it was told to be: _text by /proc/kallsyms and by /proc/iomem. */
async function arrives(kernel: Movable, options: RandomizeOptions, how: Partial<BootOptions> = {}): Promise<GuestBoot> {
  const { image, summary } = moved(kernel, options);
  const entry = summary.entry === 'linux64' ? 'linux64' : 'pvh';
  const boot = await run(kernel, { image, entry, memoryMib: 1280, linux64: { identityGib: 1 }, ...how });
  assert.equal(hex(boot.moved), hex(summary.virt));
  assert.equal(hex(boot.guest.physicalText ?? 0), hex(kernel.vmlinux.imageStart + summary.phys));
  return boot;
}

/** The same in each run, as properties have it (test/property-seed.ts). */
const seed = process.env['KSLIDE_SEED'] === 'random' ? randomBytes(32) : new Uint8Array(32).fill(1);

for (const item of found.packages) {
  const kernel = await movable(item);
  const { largest, free } = kernel;

  describe(`${kernel.name}, moved by the host`, { concurrency: PARALLEL }, () => {
    test('linux64: highest virtual slide, no physical one; both at random; the rest of memory is randomized by the guest', async () => {
      const boots = await Promise.all([
        arrives(kernel, { entry: 'linux64', virt: largest }),
        arrives(kernel, { entry: 'linux64', virt: 'random', phys: 'random', memory: 1024 * MIB, seed }),
      ]);
      for (const { guest } of boots) assert.notDeepEqual(basesOf(guest), FIXED);
    });

    test('pvh: lowest, highest, and at random', async () => {
      // The highest that leaves room for the program behind the image, below the 1 GiB that the entry maps.
      const high = largest - 2 * PMD;
      await Promise.all([
        arrives(kernel, { virt: 0 }),
        arrives(kernel, free ? { virt: largest } : { virt: high, phys: high }),
        arrives(kernel, { entry: 'pvh', virt: 'random', phys: 'random', memory: 1024 * MIB, seed }),
      ]);
    });
  });
}

for (const item of oldestAndNewest(found)) {
  const kernel = await movable(item);
  const { largest, free, vmlinux } = kernel;

  describe(`${kernel.name}, moved by the host`, { concurrency: PARALLEL }, () => {
    test('nokaslr stops what the guest itself would randomize; the image is where the host put it all the same', async () => {
      const { guest } = await arrives(kernel, { virt: 6 * PMD }, { append: 'nokaslr' });
      assert.deepEqual(basesOf(guest), FIXED);
    });

    test('without the flag the rest of memory is not randomized, and a panic says that nothing is', async () => {
      const { guest } = await arrives(kernel, { virt: 6 * PMD, flag: false });
      assert.deepEqual(basesOf(guest), FIXED);
      const { console } = await bootInTurn(kernel, { image: moved(kernel, { virt: 6 * PMD, flag: false }).image });
      assert.match(console, /Kernel Offset: disabled/);
    });

    test('with it a panic says by how much', async () => {
      const { slide, console } = await bootInTurn(kernel, { image: moved(kernel, { virt: 6 * PMD }).image });
      assert.equal(slide, 6 * PMD);
      assert.match(console, /Kernel Offset: 0xc00000 from 0xffffffff81000000/);
    });

    test('the loader may add a physical slide of its own', async () => {
      const { image } = moved(kernel, { entry: 'linux64', virt: 6 * PMD, phys: 2 * PMD });
      const { moved: virt, guest } = await run(kernel, {
        image,
        entry: 'linux64',
        linux64: { physicalSlide: 3 * PMD },
      });
      assert.deepEqual([virt, guest.physicalText], [6 * PMD, vmlinux.imageStart + 5 * PMD]);
    });

    test('a kernel without its PVH entry is not started by PVH', async () => {
      const { image } = moved(kernel, { entry: 'linux64', virt: 6 * PMD });
      await assert.rejects(bootInTurn(kernel, { image }), /XEN_ELFNOTE_PHYS32_ENTRY/);
    });

    // What is refused, with what it takes to fail, and a neighbour that is not refused and boots where that is not shown above.
    const rules: [string, RandomizeOptions, Partial<BootOptions>][] = [
      // One slot too far boots where no more than .init.scratch lies above, or an unused end of .brk (6.1 and 6.12, measured); 32 MiB too far is data.
      ['an image that ends above 0xffffffffc0000000', { entry: 'linux64', virt: largest + 16 * PMD }, {}],
      ['a virtual slide that is no multiple of 2 MiB', { entry: 'linux64', virt: MIB }, {}],
      ['a physical slide that is no multiple of 2 MiB', { entry: 'linux64', virt: 0, phys: MIB }, {}],
      // `boot` refuses that as well, so it is told of more memory than QEMU gives.
      [
        'a physical slide beyond the memory',
        { entry: 'linux64', virt: 0, phys: 256 * MIB, memory: 256 * MIB },
        { memoryMib: 1024, extra: ['-m', '256'] },
      ],
      [
        'a physical slide beyond what the loader maps',
        { entry: 'linux64', virt: 0, phys: 1024 * MIB },
        { memoryMib: 2048, linux64: { identityGib: 1 } },
      ],
      [
        'a physical slide past 4 GiB',
        { entry: 'linux64', virt: 0, phys: 4096 * MIB, identityMap: 8192 * MIB },
        { memoryMib: 6144, linux64: { identityGib: 4 } },
      ],
      ['PVH past the 1 GiB that its entry maps', { entry: 'pvh', virt: 0, phys: 1024 * MIB }, { memoryMib: 2048 }],
      [
        'an image where the initrd will be',
        { entry: 'pvh', virt: 60 * PMD, phys: 60 * PMD, memory: 256 * MIB, initrdSize: 100 * MIB },
        { initrd: padded(kernel.initrd, 100 * MIB) },
      ],
    ];
    if (!free) {
      rules.push(
        ['PVH with a virtual slide alone', { entry: 'pvh', virt: 6 * PMD, phys: 0 }, {}],
        ['PVH with a physical slide alone', { entry: 'pvh', virt: 0, phys: 6 * PMD }, {}],
        ['PVH with two different slides', { entry: 'pvh', virt: 6 * PMD, phys: 4 * PMD }, {}],
      );
    }
    for (const [what, options, how] of rules) {
      test(`refused, and rightly: ${what}`, async () => {
        assert.throws(() => kernel.randomizer.randomize(options), { code: 'would-not-boot' });
        const { image } = moved(kernel, { ...options, force: true });
        const entry = options.entry === 'pvh' ? 'pvh' : 'linux64';
        const { end, report } = await bootInTurn(kernel, {
          image,
          entry,
          initrd: kernel.initrd,
          timeoutMs: HANGS_MS,
          ...how,
        });
        assert.equal(report.guest.done, false, `it booted: ${end}`);
        assert.equal(report.guest.text, undefined);
      });
    }
  });
}

/** Zeros between and behind archives are allowed in an initramfs. */
function padded(initrd: Uint8Array, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(initrd);
  return bytes;
}

describe('the program that sets the flag', { concurrency: PARALLEL }, () => {
  const virt = 0x2a00_0000;
  const probe = async (append: string, options: Partial<BootOptions> = {}): Promise<ProbeReport> => {
    const made = await probeAt(virt, 4 * PMD);
    const result = await bootInTurn(undefined, { image: made, entry: 'linux64', memoryMib: 64, append, ...options });
    const report = readProbe(result.console);
    assert.ok(report, `the probe did not speak: ${result.end} ${result.errors}`);
    assert.equal(slideOf(report), BigInt(virt));
    return report;
  };

  test('leaves what the protocol promises, and KASLR_FLAG', async () => {
    const report = await probe('');
    assert.equal(report['loadflags']! & BigInt(KASLR_FLAG), BigInt(KASLR_FLAG));
    for (const name of ['rax', 'rbx', 'rcx', 'rdx', 'rdi', 'rbp', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'])
      assert.equal(report[name], 0n, name);
    assert.equal(report['scratch'], 0n);
    assert.equal(report['rflags']! & 0x600n, 0n);
    const before = readProbe(
      (await bootInTurn(undefined, { image: makeProbe(0), entry: 'linux64', memoryMib: 64 })).console,
    )!;
    for (const name of ['rsi', 'rsp', 'cr3', 'idtr', 'gdtr', 'entry']) assert.equal(report[name], before[name], name);
  });

  test('obeys nokaslr', async () => {
    assert.equal((await probe('quiet nokaslr'))['loadflags']! & BigInt(KASLR_FLAG), 0n);
  });
});

/** A moved probe that knows where the program's scratch page is, which depends on sizes alone. */
async function probeAt(virt: number, phys: number): Promise<Uint8Array> {
  const at = async (scratch: number): Promise<{ bytes: Uint8Array; scratch: number }> => {
    const { bytes } = await randomize(makeProbe(scratch), { codecs: coreCodecs, entry: 'linux64', virt, phys });
    const image = bytes();
    const segment = readElf(image).segments.at(-1)!;
    const params = new Reader(image.subarray(segment.offset));
    return { bytes: image, scratch: segment.paddr - phys + params.u32(PARAMS.scratch, 'scratch') };
  };
  const second = await at((await at(0)).scratch);
  return second.bytes;
}
