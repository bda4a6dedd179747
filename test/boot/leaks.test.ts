/**
 * What the stub leaves in memory: a relocated kernel, KASLR_FLAG, and nothing else.
 *
 * The sharpest moment is the kernel's entry, when nobody but firmware, loader and stub has run. So the kernel's first instructions are replaced by ones
 * that say so on the serial port and stay there, and all of memory is taken, with the stub and without it: the one must follow from the other by
 * the relocation table. Later the kernel has used all memory as it likes; then it is searched for the slide and for the boot loader's seed.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import type { PhysAddr, Slide } from '../../src/base/addresses.ts';
import { tableEntryToPhys } from '../../src/base/addresses.ts';
import { BOOT_PARAMS, BOOT_PARAMS_SIZE, KASLR_FLAG } from '../../src/base/boot-params.ts';
import { ascii, isZero, Reader, Writer } from '../../src/base/bytes.ts';
import { segmentBytes } from '../../src/elf/read.ts';
import { hex } from '../../src/base/errors.ts';
import { readInput } from '../../src/kernel/input.ts';
import type { Slots } from '../../src/kaslr/slots.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import type { KernelPackage } from '../../scripts/kernels/debian.ts';
import type { BootOptions } from '../../src/node/qemu/qemu.ts';
import { readRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { PARAMS, SCRATCH } from '../../src/segment/layout.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import type { Vmlinux } from '../../src/kernel/vmlinux.ts';
import { differences, search, snapshot } from '../measure/guest-memory.ts';
import type { Snapshot } from '../measure/guest-memory.ts';
import { ENTRIES, findKernels, inTurn, oldestAndNewest, prepare } from './lane.ts';

const MIB = 0x10_0000;
const PAGE = 0x1000;
const PMD = 0x20_0000;
/** Bits of a page table entry. */
const ACCESSED_DIRTY = 0x60;
const TIMEOUT_MS = 60_000;
/** mov dx, 0x3f8; out dx, al; jmp $; nop: as long as what the stub puts back. */
const SAY_AND_STAY = Uint8Array.from([0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfe, 0x90]);
const SEED = Uint8Array.from({ length: 32 }, (_, i) => 0xa5 ^ (i * 37));

interface Subject {
  readonly original: Vmlinux;
  readonly converted: Vmlinux;
  readonly table: RelocationTable;
  readonly slots: Slots;
  /** Where the stub's segment begins and ends in memory, and where its scratch memory begins. */
  readonly segment: { readonly start: PhysAddr; readonly end: PhysAddr; readonly scratch: PhysAddr };
}

async function readSubject(found: KernelPackage): Promise<Subject> {
  const { converted: bytes, summary } = await prepare(found);
  const { vmlinux } = await readInput(await readFile(found.image), { codecs: nodeCodecs });
  const original = readVmlinux(vmlinux);
  const converted = readVmlinux(bytes);
  const { paddr, memsz } = converted.loads.at(-1)!;
  return {
    original,
    converted,
    table: readRelocationTable(original.trailer),
    slots: summary.slots,
    segment: { start: paddr, end: paddr + memsz, scratch: paddr + memsz - SCRATCH.size },
  };
}

/** Memory at startup_64, and what RSI points to. */
interface Stopped extends Snapshot {
  readonly bootParams: PhysAddr;
}

type Kind = Pick<BootOptions, 'machine' | 'cpu' | 'linux64' | 'extra'> & { readonly entry: 'pvh' | 'linux64' };

async function stopAtEntry(image: Uint8Array, kind: Kind): Promise<Stopped> {
  // AL is 0 behind the stub; without it, it is whatever the loader left, so the port gets one character in any case.
  const taken = await inTurn(() => snapshot({ image, memoryMib: 128, timeoutMs: TIMEOUT_MS, ...kind }, /./s));
  return { ...taken, bootParams: Number(registerOf(taken, 'RSI')) };
}

function registerOf({ registers }: Snapshot, name: string): bigint {
  const digits = new RegExp(`\\b${name} *=([0-9a-f]{16})`).exec(registers)?.[1];
  assert.ok(digits, `${name} in ${registers}`);
  return BigInt(`0x${digits}`);
}

function stopWithStub({ converted }: Subject, kind: Kind): Promise<Stopped> {
  const image = new Writer(converted.elf.bytes.slice());
  image.copy(converted.loads.at(-1)!.offset + PARAMS.entry_bytes, SAY_AND_STAY);
  return stopAtEntry(image.bytes, kind);
}

function stopWithoutStub({ original }: Subject, kind: Kind): Promise<Stopped> {
  const image = new Writer(original.elf.bytes.slice());
  image.copy(original.entryOffset, SAY_AND_STAY);
  return stopAtEntry(image.bytes, kind);
}

/** By how much a kernel that has not run yet was moved. */
function slideOf({ original, table }: Subject, { memory }: Snapshot): Slide {
  const site = tableEntryToPhys(table.abs64[0]!)!;
  const segment = original.loads.find(({ paddr, filesz }) => site >= paddr && site < paddr + filesz)!;
  const linked = new Reader(original.elf.bytes).u64(segment.offset + site - segment.paddr, 'site');
  return Number(new Reader(memory).u64(site, 'site') - linked);
}

/** What the relocation table makes of memory: the stub's work, done by the host. */
function relocate(memory: Uint8Array, table: RelocationTable, slide: Slide): Uint8Array {
  const [reader, moved] = [new Reader(memory), new Writer(memory.slice())];
  const sites = (list: Uint32Array): number[] => Array.from(list, (entry) => tableEntryToPhys(entry)!);
  for (const site of sites(table.abs64)) moved.u64(site, reader.u64(site, 'site') + BigInt(slide));
  for (const site of sites(table.abs32)) moved.u32(site, (reader.u32(site, 'site') + slide) >>> 0);
  for (const site of sites(table.inverse32)) moved.u32(site, (reader.u32(site, 'site') - slide) >>> 0);
  return moved.bytes;
}

/** First and last page of each range. Two boots differ in some of the firmware's, which hold clocks; below 1 MiB all is firmware's. */
function pagesOf(ranges: readonly { readonly start: number; readonly end: number }[]): number[] {
  return ranges.flatMap(({ start, end }) => [Math.floor(start / PAGE), Math.floor((end - 1) / PAGE)]);
}

/** Accessed and dirty bits in the loader's page tables: who ran where is no secret. One of each upper level, then four page directories. */
function forgetUse(memory: Uint8Array, stopped: Snapshot): void {
  const tables = Number(registerOf(stopped, 'CR3'));
  for (let at = tables; at < tables + 6 * PAGE; at += 8) memory[at]! &= ~ACCESSED_DIRTY;
}

function u64(value: bigint): Uint8Array {
  const bytes = new Writer(new Uint8Array(8));
  bytes.u64(0, value);
  return bytes.bytes;
}

const packages = oldestAndNewest(await findKernels());

for (const found of packages) {
  const subject = await readSubject(found);
  const { original, converted, table, segment } = subject;

  describe(`${found.name}, at its entry`, () => {
    for (const entry of ENTRIES) {
      test(`${entry}: memory is that without the stub, relocated, with KASLR_FLAG set`, async () => {
        const [without, again] = [await stopWithoutStub(subject, { entry }), await stopWithoutStub(subject, { entry })];
        const firmware = new Set(pagesOf(differences(without.memory, again.memory)));
        for (let boots = 0; boots < 2; boots++) {
          const stopped = await stopWithStub(subject, { entry });
          const slide = slideOf(subject, stopped);
          assert.ok(slide % PMD === 0 && slide >= 0, hex(slide));
          const expected = new Writer(relocate(without.memory, table, slide));
          const flags = without.bootParams + BOOT_PARAMS.loadflags;
          assert.equal(stopped.bootParams, without.bootParams);
          expected.u8(flags, expected.bytes[flags]! | KASLR_FLAG);
          if (entry === 'linux64') for (const bytes of [expected.bytes, stopped.memory]) forgetUse(bytes, stopped);
          const different = differences(expected.bytes, stopped.memory).filter(
            (range) =>
              range.start >= MIB &&
              !(range.start >= segment.start && range.end <= segment.end) &&
              pagesOf([range]).some((page) => !firmware.has(page)),
          );
          assert.deepEqual(
            different.map(({ start, end }) => `${hex(start)}-${hex(end)}`),
            [],
          );
        }
      });

      test(`${entry}: the stub's segment is as it was loaded, and its scratch memory holds an identity map and link addresses at most`, async () => {
        const stopped = await stopWithStub(subject, { entry });
        const loaded = converted.loads.at(-1)!;
        const file = new Writer(new Uint8Array(segment.scratch - segment.start));
        file.copy(0, segmentBytes(converted.elf, loaded));
        file.copy(PARAMS.entry_bytes, SAY_AND_STAY);
        assert.deepEqual(differences(file.bytes, stopped.memory.subarray(segment.start, segment.scratch)), []);
        const all = stopped.memory.subarray(segment.scratch, segment.end);
        const scratch = all.subarray(0, SCRATCH.log);
        assert.ok(isZero(scratch.subarray(0, SCRATCH.wiped)), 'state and stack are not wiped');
        // The loader's page tables are kept by linux64; the kernel's own, which PVH runs on, are not.
        if (entry === 'linux64') assert.ok(isZero(scratch));
        else assertIdentityMap(scratch, segment.scratch);
        const known = new Set([...table.abs32, ...table.inverse32].map((site) => tableEntryToPhys(site)));
        known.add(segment.scratch + SCRATCH.no_site);
        const log = new Uint32Array(all.slice(SCRATCH.log).buffer);
        for (const logged of log) assert.ok(logged === 0 || known.has(logged), `${hex(logged)} in the log`);
        assert.ok(new Set(log).size > 1000);
      });
    }

    test('linux64: registers hold boot_params, and nothing else of the stub’s', async () => {
      const stopped = await stopWithStub(subject, { entry: 'linux64' });
      for (const name of ['RAX', 'RBX', 'RCX', 'RDI', 'RBP', 'R8', 'R9', 'R10', 'R11', 'R12', 'R13', 'R14', 'R15'])
        assert.equal(registerOf(stopped, name), 0n, name);
    });
  });

  describe(`${found.name}, where its slide can be foretold`, () => {
    /** No RDSEED, no RDRAND, no TSC, no timer: the slide is made of boot_params and the seed. */
    const kind: Kind = {
      entry: 'linux64',
      machine: 'microvm,pit=off',
      cpu: 'max,-rdseed,-rdrand,-tsc',
      linux64: { rngSeed: SEED },
    };

    test('the slide is what the host computes, and none of what it is made of is in memory, but for the seed where the loader put it', async () => {
      const stopped = await stopWithStub(subject, kind);
      const slide = slideOf(subject, stopped);
      const entropy = foretell(stopped, subject.slots);
      assert.equal(entropy.slide, BigInt(slide));
      const outside = (needle: Uint8Array): number[] =>
        search(stopped.memory, needle).filter((at) => at < original.imageStart || at >= original.imageEnd);
      for (const [name, value] of Object.entries(entropy)) assert.deepEqual(outside(u64(value)), [], name);
      const setupData = new Reader(stopped.memory).u64AsNumber(
        stopped.bootParams + BOOT_PARAMS.setup_data,
        'setup_data',
      );
      assert.deepEqual(search(stopped.memory, SEED), [setupData + 16]);
      // A value that is planted is seen: the next boot is the same, but for one word.
      const plant = { address: segment.end + 0x1238, value: entropy.hashed };
      const extra = ['-device', `loader,addr=${plant.address},data=0x${plant.value.toString(16)},data-len=8`];
      const planted = await stopWithStub(subject, { ...kind, extra });
      assert.equal(slideOf(subject, planted), slide);
      assert.deepEqual(search(planted.memory, u64(plant.value)), [plant.address]);
      assert.deepEqual(
        differences(stopped.memory, planted.memory).filter(({ start }) => start >= MIB),
        [{ start: plant.address, end: plant.address + 8 }],
      );
    });
  });

  describe(`${found.name}, after its boot`, () => {
    const afterPanic = (kernel: Vmlinux, entry: Kind['entry']): Promise<Snapshot> => {
      const options = { entry, linux64: { rngSeed: SEED }, memoryMib: 256, append: 'panic=0', timeoutMs: TIMEOUT_MS };
      return inTurn(() => snapshot({ image: kernel.elf.bytes, ...options }, /end Kernel panic/));
    };
    // Fields that are zero before they are moved hold the slide as it is. The table is the kernel's own.
    const zeros = new Set(zeroSites(original, table));

    for (const entry of ENTRIES) {
      test(`${entry}: the slide is where the kernel keeps it, and vmcoreinfo says it; the seed is gone`, async () => {
        const unmoved = await afterPanic(original, entry);
        const { memory, slide } = await untilUnseen(unmoved, zeros, () => afterPanic(converted, entry));
        // phys_base (arch/x86/kernel/head64.c).
        const negative = aligned(memory, -slide);
        assert.equal(negative.length, 1);
        assert.ok(negative[0]! >= original.imageStart && negative[0]! < original.imageEnd, hex(negative[0]!));
        const notes = search(memory, ascii('KERNELOFFSET='))
          .map((at) => Buffer.from(memory.subarray(at, at + 32)).toString('latin1'))
          .map((text) => /=([0-9a-f]+)\n/.exec(text)?.[1])
          .filter((digits) => digits !== undefined);
        // One that the kernel made, and its copy in the note; the format string has no digits.
        assert.deepEqual([...new Set(notes)], [slide.toString(16)]);
        assert.deepEqual(search(memory, SEED), []);
      });
    }
  });
}

/**
 * A boot after which the slide stands nowhere but in fields of the table. A leak stands in memory after each boot. A number of the kernel's own that
 * happens to be the slide, a size or an address that is a multiple of 2 MiB, does so once in a hundred: three such boots in a row are a leak.
 */
async function untilUnseen(
  unmoved: Snapshot,
  zeros: ReadonlySet<PhysAddr>,
  boot: () => Promise<Snapshot>,
): Promise<Snapshot & { readonly slide: Slide }> {
  const seen: string[] = [];
  for (let boots = 0; boots < 8 && seen.length < 3; boots++) {
    const taken = await boot();
    const { slide } = taken.result;
    assert.ok(slide !== undefined, 'no slide');
    // Numbers that the kernel has in its memory without a slide too, as 0 and 2 MiB, tell nothing.
    if (slide === 0 || aligned(unmoved.memory, slide).length > 0) continue;
    const places = aligned(taken.memory, slide).filter((at) => !zeros.has(at));
    if (places.length === 0) return { ...taken, slide };
    seen.push(`${hex(slide)} at ${places.map(hex).join(', ')}`);
  }
  throw new Error(
    `no boot leaves memory without its slide: ${seen.join('; ') || 'eight slides that are common numbers'}`,
  );
}

/** Where a value stands as an aligned u64. */
function aligned(memory: Uint8Array, value: number): number[] {
  return search(memory, u64(BigInt(value))).filter((at) => at % 8 === 0);
}

/** Pages of pointers into the scratch memory itself, then four of 2 MiB pages, each mapped to itself. */
function assertIdentityMap(scratch: Uint8Array, at: PhysAddr): void {
  const reader = new Reader(scratch);
  for (let offset = SCRATCH.pml5; offset < SCRATCH.log; offset += 8) {
    const entry = reader.u64(offset, 'page table') & ~BigInt(ACCESSED_DIRTY);
    if (offset >= SCRATCH.pd) {
      assert.equal(entry, BigInt(((offset - SCRATCH.pd) / 8) * PMD) | 0x83n, hex(offset));
    } else if (entry !== 0n) {
      const table = Number(entry & ~0xfffn);
      assert.ok(table > at && table < at + SCRATCH.log && (entry & 0xfffn) === 3n, `${hex(offset)}: ${hex(entry)}`);
    }
  }
}

/** 64-bit sites that are zero in the file. */
function zeroSites({ loads, elf }: Vmlinux, { abs64 }: RelocationTable): PhysAddr[] {
  const reader = new Reader(elf.bytes);
  return Array.from(abs64, (entry) => tableEntryToPhys(entry)!).filter((site) => {
    const load = loads.find(({ paddr, filesz }) => site >= paddr && site < paddr + filesz)!;
    return reader.u64(load.offset + site - load.paddr, 'site') === 0n;
  });
}

/** src/stub/entropy.ts in BigInt, as its comments and arch/x86/lib/kaslr.c have it: every value on the way from boot_params and seed to the slide. */
function foretell(
  { memory, bootParams }: Stopped,
  { count, align }: Slots,
): Record<'hashed' | 'low' | 'high' | 'spread' | 'slide', bigint> {
  const params = memory.slice(bootParams, bootParams + BOOT_PARAMS_SIZE);
  params[BOOT_PARAMS.loadflags]! &= ~KASLR_FLAG;
  const rotate = (value: bigint): bigint => (value >> 7n) | BigInt.asUintN(64, value << 57n);
  let hashed = 0n;
  const words = new Reader(params);
  for (let at = 0; at < BOOT_PARAMS_SIZE; at += 8) hashed = rotate(hashed) ^ words.u64(at, 'boot_params');
  for (const byte of SEED) hashed = rotate(hashed) ^ BigInt(byte);
  const product = hashed * 0x5d60_08cb_f384_8dd3n;
  const [low, high] = [BigInt.asUintN(64, product), product >> 64n];
  const spread = BigInt.asUintN(64, low + high);
  return { hashed, low, high, spread, slide: ((spread * BigInt(count)) >> 64n) * BigInt(align) };
}
