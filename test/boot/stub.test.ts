/** The stub on a machine, with a probe for a kernel: the state that it leaves, what it obeys, and what it survives. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coreCodecs } from '../../src/codecs/formats.ts';
import { KASLR_FLAG } from '../../src/base/boot-params.ts';
import { Reader, Writer } from '../../src/base/bytes.ts';
import { convert } from '../../src/convert.ts';
import { findSection, readElf } from '../../src/elf/read.ts';
import type { BootOptions } from '../../src/node/qemu/qemu.ts';
import { PARAMS } from '../../src/segment/layout.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { search } from '../measure/guest-memory.ts';
import { makeProbe, readProbe, slideOf } from './probe.ts';
import type { ProbeReport } from './probe.ts';
import { bootInTurn } from './lane.ts';

/** A converted probe, and the physical address of the stub's scratch memory in it. */
async function convertProbe(scratch: number): Promise<{ bytes: Uint8Array; scratch: number }> {
  const bytes = (await convert(makeProbe(scratch), { codecs: coreCodecs })).bytes();
  const segment = readVmlinux(bytes).loads.at(-1)!;
  return { bytes, scratch: segment.paddr + new Reader(bytes).u32(segment.offset + PARAMS.scratch, 'scratch') };
}

/** The probe must know where the scratch memory is; that depends on sizes alone, so a first conversion tells. */
async function convertedProbe(): Promise<Uint8Array> {
  const { scratch } = await convertProbe(0);
  const second = await convertProbe(scratch);
  assert.equal(second.scratch, scratch);
  return second.bytes;
}

const image = await convertedProbe();
const SLOTS = 504; // 1 + (1 GiB − 16 MiB − 8 KiB) / 2 MiB

async function probe(options: Partial<BootOptions> = {}): Promise<ProbeReport & { slide: bigint }> {
  const result = await bootInTurn(undefined, {
    image,
    entry: 'linux64',
    memoryMib: 64,
    timeoutMs: 120_000,
    ...options,
  });
  const report = readProbe(result.console);
  assert.ok(report, `the probe did not speak: ${result.end} ${result.errors} ${JSON.stringify(result.console)}`);
  const slide = slideOf(report);
  assert.notEqual(slide, undefined, 'the three lists were moved by different slides');
  return { ...report, slide: slide! };
}

function assertRandomized({ slide, ...report }: ProbeReport & { slide: bigint }): void {
  assert.equal(slide % 0x20_0000n, 0n);
  assert.ok(slide < BigInt(SLOTS) * 0x20_0000n, `slide ${slide} out of range`);
  assert.equal(report['loadflags']! & BigInt(KASLR_FLAG), BigInt(KASLR_FLAG));
}

function assertUntouched(report: ProbeReport & { slide: bigint }, flag: number): void {
  assert.equal(report.slide, 0n);
  assert.equal(report['loadflags']! & BigInt(KASLR_FLAG), BigInt(flag));
}

test('registers carry boot_params and nothing else; the loader has its tables and stack back; nothing secret is left', async () => {
  const report = await probe();
  assertRandomized(report);
  for (const name of ['rax', 'rbx', 'rcx', 'rdx', 'rdi', 'rbp', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15']) {
    assert.equal(report[name], 0n, name);
  }
  assert.equal(report['scratch'], 0n);
  // Interrupts off, direction up.
  assert.equal(report['rflags']! & 0x600n, 0n);
  // An unconverted probe, entered by the same loader, says what the loader had.
  const before = await probe({ image: makeProbe(0) });
  for (const name of ['rsi', 'rsp', 'cs', 'ss', 'cr3', 'idtr', 'gdtr', 'entry'])
    assert.equal(report[name], before[name], name);
});

test('slides differ from boot to boot', async () => {
  const slides = new Set<bigint>();
  for (let round = 0; round < 6; round++) slides.add((await probe()).slide);
  assert.ok(slides.size >= 4, `6 boots gave only ${[...slides].join(' ')}`);
});

for (const append of [
  'nokaslr',
  'nokaslr quiet',
  'quiet nokaslr',
  'a\tnokaslr b',
  '"nokaslr" x="y nokaslr z"',
  `${'x'.repeat(1900)} nokaslr`,
]) {
  test(`not randomized with ${JSON.stringify(append.slice(-40))}`, async () =>
    assertUntouched(await probe({ append }), 0));
}

for (const append of [
  '',
  'xnokaslr',
  'nokaslrx',
  'nokaslr=1',
  'no kaslr',
  'NOKASLR',
  'x="nokaslr"',
  `${'x'.repeat(1900)}nokaslr`,
  'abcdefghnokaslr',
]) {
  test(`randomized with ${JSON.stringify(append.slice(-40))}`, async () => assertRandomized(await probe({ append })));
}

test('randomized without a command line', async () =>
  assertRandomized(await probe({ linux64: { commandLine: 'none' } })));

test('not randomized again when KASLR_FLAG is set', async () =>
  assertUntouched(await probe({ linux64: { kaslrFlag: true } }), KASLR_FLAG));

for (const cpu of [
  'max,-rdseed',
  'max,-rdrand',
  'max,-rdrand,-rdseed',
  'max,-tsc',
  'max,-rdrand,-rdseed,-tsc',
  'qemu64',
  'Nehalem',
]) {
  test(`randomized on CPU ${cpu}`, async () => assertRandomized(await probe({ cpu })));
}

/** The image with an instruction of two bytes in the stub made UD2, which faults wherever it stands. */
function faulting(instruction: Uint8Array): Uint8Array {
  const { offset, size } = findSection(readElf(image), '.kslide.text')!;
  const copy = new Writer(image.slice());
  const places = search(image.subarray(offset, offset + size), instruction);
  assert.ok(places.length > 0);
  for (const at of places) copy.copy(offset + at, UD2);
  return copy.bytes;
}

const UD2 = Uint8Array.of(0x0f, 0x0b);
const CPUID = Uint8Array.of(0x0f, 0xa2);

// No machine here is a confidential guest; but to the stub one fault is as good as another.
for (const cpu of ['max', 'max,-rdrand,-rdseed', 'qemu64']) {
  test(`CPUID that faults, on CPU ${cpu}: all that it could have told of is tried`, async () => {
    const withoutCpuid = faulting(CPUID);
    const slides = new Set<bigint>();
    for (let round = 0; round < 4; round++) {
      const report = await probe({ cpu, image: withoutCpuid });
      assertRandomized(report);
      assert.equal(report['scratch'], 0n);
      slides.add(report.slide);
    }
    assert.ok(slides.size >= 3, `4 boots gave only ${[...slides].join(' ')}`);
  });
}

test('randomized on 5-level page tables', async () => {
  assertRandomized(await probe({ cpu: 'max,+la57', linux64: { fiveLevel: true } }));
});

test('randomized at a physical slide, and on what little Firecracker maps', async () => {
  assertRandomized(await probe({ memoryMib: 256, linux64: { physicalSlide: 0x400_0000 } }));
  assertRandomized(await probe({ linux64: { identityGib: 1, selectors: { code: 0x8, data: 0x10 } } }));
});

test('a fault while reading is survived: a command line outside the page tables counts as none', async () => {
  const report = await probe({
    append: 'nokaslr',
    memoryMib: 2048,
    linux64: { identityGib: 1, commandLine: { copiedTo: 0x5000_0000 } },
  });
  assertRandomized(report);
  assert.equal(report['scratch'], 0n);
});

test("the boot loader's seed is hashed", async () => {
  assertRandomized(await probe({ linux64: { rngSeed: Uint8Array.from({ length: 32 }, (_, index) => index) } }));
});
