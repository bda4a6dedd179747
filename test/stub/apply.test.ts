/**
 * The program's apply step, run by this machine's CPU on tables of all kinds: the same bytes as in converted kernels. The result is compared with
 * that of the kernel's own loop (in bench/apply-table.c) and with that of applyTable().
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { compileHarness, runHarness } from '../../bench/apply-step.ts';
import type { StepCpu } from '../../bench/apply-step.ts';
import { applyTable } from '../../src/relocs/tables/apply.ts';
import type { Sites } from '../../src/relocs/tables/apply.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { joinParts, Writer } from '../../src/base/bytes.ts';
import { alignUp } from '../../src/base/bytes.ts';
import { PARAMS, TABLE_FORMAT } from '../../src/segment/layout.ts';
import { assembleStub } from '../../src/stub/program.ts';
import { encodeStubTable, STUB_TABLES } from '../../src/segment/table.ts';
import type { StubTable } from '../../src/segment/table.ts';
import { at } from '../relocs/compact-tables.ts';

assert.equal(process.arch, 'x64', 'these tests run the program on the machine itself');

const BASE = 0x0100_0000;
const SLIDE = 0x1f40_0000;
const IMAGE_SIZE = 0x20_0000;
/** UNROLLED and LAG of src/stub/relocate-chains.ts. */
const UNROLLED = 8;
const LAG = 512;

const folder = mkdtempSync(join(tmpdir(), 'kslide-apply-'));
after(() => rmSync(folder, { recursive: true }));
const harness = compileHarness(folder);
const program = assembleStub().code;

/** Pseudo-random bytes, so that an add at a wrong site shows. */
const image = new Uint8Array(IMAGE_SIZE);
for (let index = 0, value = 1; index < image.length; index++, value = (value * 0x41c6_4e6d + 0x3039) >>> 0)
  image[index] = value >>> 16;

/** As much of a segment as the step reads: parameters that say where the table is, the program, the table. */
function layOut({ format, bytes }: StubTable): Uint8Array {
  const params = new Writer(new Uint8Array(PARAMS.size));
  params.u64(PARAMS.table, PARAMS.size + program.length);
  params.u64(PARAMS.table_end, PARAMS.size + program.length + bytes.length);
  params.u64(PARAMS.scratch, alignUp(PARAMS.size + program.length + bytes.length, 4096));
  params.u32(PARAMS.table_format, format);
  return joinParts([params.bytes, program, bytes]);
}

const AMD = 0x444d_4163;
const INTEL = 0x6c65_746e;
const POPCNT = 1 << 23;
const BMI1 = 1 << 3;
/** The loop that counts a bitmap's bits runs only where this machine has what it needs. */
const canCount = /^flags\s*:(?=.* popcnt\b)(?=.* bmi1\b)/m.test(readFileSync('/proc/cpuinfo', 'utf8'));

/** Each reader of the 32-bit lists and each loop for a bitmap's bits, by the CPUID bits that choose them. */
const CPUS: readonly (StepCpu & { readonly what: string })[] = [
  { what: 'AMD, bits by the loop: no POPCNT', vendor: AMD, leaf1: ~POPCNT >>> 0, leaf7: 0xffff_ffff },
  canCount
    ? { what: 'Intel, bits counted', vendor: INTEL, leaf1: POPCNT, leaf7: BMI1 }
    : { what: 'Intel, bits by the loop: no BMI1', vendor: INTEL, leaf1: POPCNT, leaf7: ~BMI1 >>> 0 },
];

function check(table: Sites): void {
  const expected = image.slice();
  applyTable(expected, table, { slide: SLIDE, base: BASE });
  const kernelTable = encodeRelocationTable({ ...table, lists: 3 });
  for (const name of STUB_TABLES) {
    const segment = layOut(encodeStubTable({ ...table, lists: 3 }, name));
    for (const cpu of name === 'compact' ? CPUS : CPUS.slice(0, 1)) {
      runHarness(harness, folder, { segment, kernelTable, image, base: BASE, slide: SLIDE, rounds: 0, cpu });
      assert.ok(Buffer.from(expected).equals(readFileSync(join(folder, 'out'))), `${name}, ${cpu.what}`);
    }
  }
}

const NONE: Sites = { abs32: at(), inverse32: at(), abs64: at() };

test('empty lists, single sites, the first and the last byte', () => {
  check(NONE);
  check({ ...NONE, abs32: at(BASE) });
  check({ ...NONE, inverse32: at(BASE + IMAGE_SIZE - 4) });
  check({ ...NONE, abs64: at(BASE + IMAGE_SIZE - 8) });
  check({ abs32: at(BASE), inverse32: at(BASE + 4), abs64: at(BASE + 9) });
});

test('the processor without POPCNT or BMI1, or of which nothing is known, and this one', () => {
  const table = { abs32: at(BASE, BASE + 9), inverse32: at(BASE + 4), abs64: at(BASE + 16, BASE + 24, BASE + 80) };
  const expected = image.slice();
  applyTable(expected, table, { slide: SLIDE, base: BASE });
  const kernelTable = encodeRelocationTable({ ...table, lists: 3 });
  const segment = layOut(encodeStubTable({ ...table, lists: 3 }, 'compact'));
  const job = { segment, kernelTable, image, base: BASE, slide: SLIDE, rounds: 0 };
  for (const cpu of [
    { vendor: 0, leaf1: 0, leaf7: 0 },
    { vendor: INTEL, leaf1: ~POPCNT >>> 0, leaf7: 0xffff_ffff },
    { vendor: AMD, leaf1: 0xffff_ffff, leaf7: ~BMI1 >>> 0 },
    undefined,
  ]) {
    runHarness(harness, folder, cpu === undefined ? job : { ...job, cpu });
    assert.ok(Buffer.from(expected).equals(readFileSync(join(folder, 'out'))), JSON.stringify(cpu));
  }
});

test("the kernel's format with two lists", () => {
  const table = { ...NONE, abs32: at(BASE, BASE + 4, BASE + 99), abs64: at(BASE + 8, BASE + 200), lists: 2 as const };
  const kernelTable = encodeRelocationTable(table);
  const expected = image.slice();
  applyTable(expected, table, { slide: SLIDE, base: BASE });
  const segment = layOut({ name: 'kernel', format: TABLE_FORMAT.kernel_two_lists, bytes: kernelTable });
  runHarness(harness, folder, { segment, kernelTable, image, base: BASE, slide: SLIDE, rounds: 0 });
  assert.ok(Buffer.from(expected).equals(readFileSync(join(folder, 'out'))));
});

/** `count` chains of `length` sites, from `first` on. */
function chains(first: number, count: number, length: number): number[] {
  const sites: number[] = [];
  for (let chain = 0; chain < count; chain++)
    for (let index = 0, site = first + chain * (length * 24 + 300); index < length; index++) {
      sites.push(site);
      site += 4 + ((chain * 7 + index * 11) % 20);
    }
  return sites;
}

test('rows of every length: multiples of the unrolled loop, and those that enter it in the middle', () => {
  for (let count = 0; count <= 3 * UNROLLED; count++)
    for (const length of [1, 2, 3]) {
      const abs32 = chains(BASE + 3, count, length);
      check({ ...NONE, abs32: at(...abs32), inverse32: at(...abs32.map((site) => site + 0x10_0000)) });
    }
});

test('chains of every length, full batches, and more sites than the log holds', () => {
  for (const length of [1, 2, 3, 4, 6, 9, 14, 24])
    for (const count of [63, 64, 65, 200])
      check({ ...NONE, abs32: at(...chains(BASE, count, length)), inverse32: at(...chains(BASE + 0x18_0000, 64, 4)) });
  const dense = Array.from({ length: 60_000 }, (_, index) => BASE + index * 20);
  check({
    abs32: at(...dense),
    inverse32: at(...dense.map((site) => site + 4)),
    abs64: at(...dense.map((site) => site + 8)),
  });
  const scattered = Array.from({ length: 6500 }, (_, index) => BASE + index * 320);
  check({ ...NONE, abs32: at(...scattered), inverse32: at(...scattered.map((site) => site + 4)) });
});

test('LAG sites, one fewer and one more', () => {
  for (const count of [LAG - 1, LAG, LAG + 1]) {
    const sites = Array.from({ length: count }, (_, index) => BASE + index * 600);
    check({ ...NONE, abs32: at(...sites), inverse32: at(...sites.map((site) => site + 4)) });
  }
});

test('item counts that end the list in each walk', () => {
  for (let count = 0; count <= 3 * UNROLLED; count++) {
    const sites = Array.from({ length: count }, (_, index) => BASE + index * 600);
    check({
      abs32: at(...sites),
      inverse32: at(...sites.map((site) => site + 4)),
      abs64: at(...sites.map((site) => site + 8)),
    });
  }
});

test('bitmaps, skips, runs, and sites that are not aligned', () => {
  const row = (start: number, count: number): number[] => Array.from({ length: count }, (_, i) => start + i * 8);
  // With six more items elsewhere, the first two or three belong to one walk.
  for (const others of [[], row(0, 6).map((index) => BASE + 0x10_0000 + index * 512)]) {
    const checkItems = (...sites: number[]): void => check({ ...NONE, abs64: at(...sites, ...others) });
    for (const count of [1, 2, 63, 64, 65, 127, 128, 143, 144, 1000]) checkItems(...row(BASE, count));
    for (const words of [63, 64, 65, 253, 254, 255, 317, 318, 319]) checkItems(BASE, ...row(BASE + words * 8, 200));
    checkItems(BASE + 1, BASE + 9, BASE + 18, ...row(BASE + 32, 130), BASE + 2000 + 5);
  }
});

/** Sites of all lists, drawn in one pass so that they do not overlap. */
const mixed = fc
  .array(
    fc.record({
      kind: fc.constantFrom('abs32', 'inverse32', 'abs64'),
      gap: fc.oneof({ weight: 8, arbitrary: fc.nat(60) }, { weight: 2, arbitrary: fc.nat(700) }, fc.nat(9000)),
      row: fc.oneof({ weight: 20, arbitrary: fc.integer({ min: 1, max: 12 }) }, fc.constantFrom(128, 160, 200)),
      aligned: fc.boolean(),
    }),
    { maxLength: 120 },
  )
  .map((steps): Sites => {
    const lists: Record<'abs32' | 'inverse32' | 'abs64', number[]> = { abs32: [], inverse32: [], abs64: [] };
    let free = BASE;
    for (const { kind, gap, row, aligned } of steps) {
      const width = kind === 'abs64' ? 8 : 4;
      free += gap;
      if (aligned) free = Math.ceil(free / 8) * 8;
      for (let index = 0; index < row && free + width <= BASE + IMAGE_SIZE; index++, free += width)
        lists[kind as keyof typeof lists].push(free);
    }
    return { abs32: at(...lists.abs32), inverse32: at(...lists.inverse32), abs64: at(...lists.abs64) };
  });

test('any table', () => {
  fc.assert(fc.property(mixed, check), { numRuns: 40 });
});
