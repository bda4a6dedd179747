/** Applying a table in memory, against the same done in BigInt, one site at a time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Reader, Writer } from '../../src/base/bytes.ts';
import { applyTable } from '../../src/relocs/tables/apply.ts';
import type { Sites } from '../../src/relocs/tables/apply.ts';
import { entryAt, LINK } from '../make-vmlinux.ts';

const NONE = new Uint32Array(0);
const at = (...offsets: number[]): Uint32Array => Uint32Array.from(offsets, (offset) => entryAt(LINK + offset));

function memoryOf(...words: bigint[]): Uint8Array {
  const writer = new Writer(new Uint8Array(words.length * 8));
  words.forEach((word, index) => writer.u64(index * 8, word));
  return writer.bytes;
}

function applied(memory: Uint8Array, sites: Partial<Sites>, slide: number, base = LINK): bigint[] {
  applyTable(memory, { abs64: NONE, inverse32: NONE, abs32: NONE, ...sites }, { slide, base });
  const reader = new Reader(memory);
  return Array.from({ length: memory.length / 8 }, (_, index) => reader.u64(index * 8, 'word'));
}

test('64-bit sites take the slide, the carry included', () => {
  assert.deepEqual(applied(memoryOf(0xffff_ffff_8100_0000n, 7n), { abs64: at(0) }, 0x20_0000), [
    0xffff_ffff_8120_0000n,
    7n,
  ]);
  assert.deepEqual(applied(memoryOf(0x1234_5678_fff0_0000n), { abs64: at(0) }, 0x20_0000), [0x1234_5679_0010_0000n]);
  assert.deepEqual(applied(memoryOf(0xffff_ffff_fff0_0000n), { abs64: at(0) }, 0x20_0000), [0x10_0000n]);
  assert.deepEqual(applied(memoryOf(0xffff_ffffn), { abs64: at(0) }, 0xffff_ffff), [0x1_ffff_fffen]);
});

test('32-bit sites take it, inverse ones lose it, and neither touches its neighbours', () => {
  assert.deepEqual(applied(memoryOf(0xaaaa_aaaa_8100_0010n), { abs32: at(0) }, 0x3be0_0000), [0xaaaa_aaaa_bce0_0010n]);
  assert.deepEqual(applied(memoryOf(0xaaaa_aaaa_fff0_0000n), { abs32: at(0) }, 0x20_0000), [0xaaaa_aaaa_0010_0000n]);
  assert.deepEqual(applied(memoryOf(0xaaaa_aaaa_0010_0000n), { inverse32: at(0) }, 0x20_0000), [
    0xaaaa_aaaa_fff0_0000n,
  ]);
  assert.deepEqual(applied(memoryOf(0xaa00_1000_00bb_ccddn), { abs32: at(3) }, 0x20_0000), [0xaa00_3000_00bb_ccddn]);
});

test('a slide of 0 changes nothing', () => {
  const memory = memoryOf(1n, 2n, 3n);
  assert.deepEqual(applied(memory, { abs64: at(0), inverse32: at(8), abs32: at(16) }, 0), [1n, 2n, 3n]);
});

test('what cannot be applied whole is not applied at all', () => {
  const refused = (sites: Partial<Sites>, slide: number, message: RegExp): void => {
    const memory = memoryOf(1n, 2n);
    assert.throws(() => applied(memory, sites, slide), { name: 'RangeError', message });
    assert.deepEqual(memory, memoryOf(1n, 2n));
  };
  refused({ abs64: at(0), abs32: at(13) }, 1, /^relocation of 0x8100000d, outside the memory given$/);
  refused({ abs64: at(9) }, 1, /0x81000009/);
  refused({ abs64: at(0), inverse32: at(-1) }, 1, /0x80ffffff/);
  refused({ abs64: at(0), abs32: Uint32Array.of(0x10) }, 1, /relocation of 0x10,/);
  for (const slide of [-1, 0.5, 2 ** 32, Number.NaN]) refused({ abs64: at(0) }, slide, /^a slide of /);
});

const SIZE = 256;
/** Sites that share no byte: one in each slot of 16 bytes, at any offset in it that leaves room. */
const sites = fc.array(fc.tuple(fc.constantFrom('abs64', 'inverse32', 'abs32'), fc.nat(8)), {
  minLength: SIZE / 16,
  maxLength: SIZE / 16,
});

test('the same as in BigInt, for any memory, sites and slide; two slides are one', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: SIZE, maxLength: SIZE }),
      sites,
      fc.nat(0x7fff_ffff),
      fc.nat(0x7fff_ffff),
      (start, places, first, second) => {
        const table: Sites = { abs64: NONE, inverse32: NONE, abs32: NONE };
        const expected = new Writer(start.slice());
        const reader = new Reader(expected.bytes);
        const slide = BigInt(first) + BigInt(second);
        const lists = { abs64: [] as number[], inverse32: [] as number[], abs32: [] as number[] };
        places.forEach(([list, within], index) => {
          const offset = index * 16 + within;
          lists[list].push(offset);
          if (list === 'abs64') expected.u64(offset, reader.u64(offset, 'site') + slide);
          else {
            const value = BigInt(reader.u32(offset, 'site')) + (list === 'abs32' ? slide : -slide);
            expected.u32(offset, Number(BigInt.asUintN(32, value)));
          }
        });
        const all = {
          ...table,
          abs64: at(...lists.abs64),
          inverse32: at(...lists.inverse32),
          abs32: at(...lists.abs32),
        };
        // Inside a larger buffer: views count from their own start.
        const memory = new Uint8Array(SIZE + 24).subarray(11, 11 + SIZE);
        memory.set(start);
        applyTable(memory, all, { slide: first, base: LINK });
        applyTable(memory, all, { slide: second, base: LINK });
        assert.deepEqual(memory, expected.bytes);
      },
    ),
  );
});
