/** The dry run by itself: it sees by its result what the checks before it would have seen. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Reader, Writer } from '../../src/base/bytes.ts';
import { readElf } from '../../src/elf/read.ts';
import { applyTable } from '../../src/relocs/tables/apply.ts';
import { PARAMS } from '../../src/segment/layout.ts';
import { dryRun } from '../../src/verify/dry-run.ts';
import { Refutation } from '../../src/verify/evidence.ts';
import { GuestMemory } from '../../src/verify/guest-memory.ts';
import { simulateProgram } from '../../src/verify/program-model.ts';
import { DATA, ENTRY, entryAt, LINK, PERCPU, TABLE, TEXT } from '../make-vmlinux.ts';
import { forge, original } from './forge.ts';

const kernel = await original();
const right = forge(kernel);
const segment = readElf(right).segments.at(-1)!;
const PMD = 0x20_0000;

/** What a loader makes of the file. */
function loaded(file: Uint8Array): GuestMemory {
  const memory = new GuestMemory(readElf(file));
  memory.load();
  return memory;
}

/** All of the memory from LINK to the segment's end. */
function flat(memory: GuestMemory): Uint8Array {
  const bytes = new Uint8Array(segment.paddr + segment.memsz - LINK);
  for (const part of [...memory.parts, ...memory.strays]) bytes.set(part.bytes, part.start - LINK);
  return bytes;
}

test('the memory is what a loader makes of the file', () => {
  const bytes = new Uint8Array(segment.paddr + segment.memsz - LINK);
  for (const { offset, paddr, size } of [TEXT, PERCPU, DATA])
    bytes.set(right.subarray(offset, offset + size), paddr - LINK);
  bytes.set(right.subarray(segment.offset, segment.offset + segment.filesz), segment.paddr - LINK);
  assert.deepEqual(flat(loaded(right)), bytes);
});

function refuted(file: Uint8Array, message: RegExp): void {
  assert.throws(
    () => dryRun(kernel, file),
    (error: unknown) =>
      error instanceof Refutation && message.test(`${error.finding.what}, at ${error.finding.offset.toString(16)}`),
  );
}

test('slides from the smallest to the largest, as many as there are', () => {
  assert.deepEqual(dryRun(kernel, right), [0, PMD, 167 * PMD, 335 * PMD, 503 * PMD]);
  for (const [align, slots] of [
    [0x4000_0000, [0]],
    [0x2000_0000, [0, 1]],
    [0x1000_0000, [0, 1, 2, 3]],
    [0x800_0000, [0, 1, 2, 4, 7]],
  ] as const) {
    const coarse = { ...kernel, slotAlign: align };
    const file = forge(coarse, { slots: { align, count: 0x4000_0000 / align } });
    assert.deepEqual(
      dryRun(coarse, file),
      slots.map((slot) => slot * align),
    );
  }
});

test('the model puts the entry right, and relocates each kind of site by its rule', () => {
  const memory = loaded(right);
  const before = new Reader(flat(memory));
  assert.equal(simulateProgram(memory, ENTRY, 3), 3 * PMD);
  const after = new Reader(flat(memory));
  const changed = new Set<number>();
  const word = (reader: Reader, entry: number, width: 4 | 8): bigint => {
    const at = entry - entryAt(LINK);
    for (let index = 0; index < width; index++) changed.add(at + index);
    return width === 8 ? reader.u64(at, 'site') : BigInt(reader.u32(at, 'site'));
  };
  const slide = BigInt(3 * PMD);
  for (const entry of TABLE.abs64)
    assert.equal(word(after, entry, 8), BigInt.asUintN(64, word(before, entry, 8) + slide));
  for (const entry of TABLE.abs32)
    assert.equal(word(after, entry, 4), BigInt.asUintN(32, word(before, entry, 4) + slide));
  for (const entry of TABLE.inverse32)
    assert.equal(word(after, entry, 4), BigInt.asUintN(32, word(before, entry, 4) - slide));
  assert.deepEqual(after.slice(ENTRY - LINK, 8, 'entry'), kernel.entryBytes);
  for (let at = 0; at < after.length; at++) {
    const entry = at >= ENTRY - LINK && at < ENTRY - LINK + 8;
    if (!entry && !changed.has(at)) assert.equal(after.bytes[at], before.bytes[at]);
  }
});

test('the model and applyTable agree after any number of slides', () => {
  const memory = loaded(right);
  simulateProgram(memory, ENTRY, 0);
  const expected = flat(memory);
  for (const slot of [1, 2, 250, 503]) {
    const moved = loaded(right);
    const slide = simulateProgram(moved, ENTRY, slot);
    const applied = expected.slice();
    applyTable(applied, TABLE, { slide, base: LINK });
    assert.deepEqual(flat(moved), applied);
  }
});

test('a wrong site, a wrong byte and wrong saved bytes show in the image', () => {
  const table = { ...TABLE, abs32: Uint32Array.of(entryAt(LINK + 0x400), entryAt(LINK + 0x408)) };
  refuted(
    forge(kernel, { table }),
    /^image after a slide of 0x200000: byte at physical link address 0x1000409, at 1409$/,
  );
  const edited = (at: number): Uint8Array => {
    const copy = new Writer(right.slice());
    copy.u8(at, right[at]! ^ 1);
    return copy.bytes;
  };
  refuted(
    edited(TEXT.offset + 0x1234),
    /^image after a slide of 0x0: byte at physical link address 0x1001234, at 2234$/,
  );
  refuted(
    edited(segment.offset + PARAMS.entry_bytes + 7),
    /^image after a slide of 0x0: byte at physical link address 0x1000237, at 1237$/,
  );
  // A site in what no file byte is loaded to.
  const outside = { ...TABLE, abs64: Uint32Array.of(...TABLE.abs64, entryAt(DATA.paddr + DATA.size + 0x10)) };
  refuted(
    forge(kernel, { table: outside }),
    /^image after a slide of 0x200000: byte at physical link address 0x1006012, at 1230$/,
  );
});
