import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KernelImageError } from '../../src/base/errors.ts';
import type { Sites } from '../../src/relocs/tables/apply.ts';
import { encodeCompactTable, readCompactTable } from '../../src/relocs/tables/compact.ts';
import { CHAIN, CHAIN_LENGTHS, chainsInBatch } from '../../src/relocs/tables/compact-chains.ts';
import { at, tables } from './compact-tables.ts';

const NONE: Sites = { abs32: new Uint32Array(0), inverse32: new Uint32Array(0), abs64: new Uint32Array(0) };
const IMAGE_SIZE = 0x4000_0000;

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/[^0-9a-f]/g, ''), 'hex'));
const END = '00';
const END_ITEMS = 'ff 00000000';
/** A bitmap of one site. */
const ONE = '0100000000000000';

function roundTrip(sites: Partial<Sites>): Uint8Array {
  const table = { ...NONE, ...sites };
  const encoded = encodeCompactTable(table);
  assert.deepEqual(readCompactTable(encoded), table);
  return encoded;
}

test('the examples of docs/formats.md, byte by byte', () => {
  assert.deepEqual(roundTrip({}), bytes(`${END} ${END} ${END_ITEMS}`));
  const abs32 = at(
    0x0100_0003,
    0x0100_0007,
    0x0100_0014,
    0x0100_1000,
    0x0100_10ff,
    0x0100_1200,
    0x0100_1204,
    0x0102_0000,
    0x0200_0000,
  );
  assert.deepEqual(
    roundTrip({ abs32 }),
    bytes(`01030001 0300 04 0d  02020001 0010 0002 ff 04  01010201 0000  01010002 0000 ${END}  ${END}  ${END_ITEMS}`),
  );
  const abs64 = at(0x0100_0000, 0x0100_0008, 0x0100_01f8, 0x0100_0210, 0x0100_1000, 0x0100_2000, 0x0200_0001);
  assert.deepEqual(
    roundTrip({ abs64 }),
    bytes(
      `${END} ${END}  ff 00000001 00 0300000000000080  ff 00100001 00 ${ONE}  ff 00200001 00 ${ONE}  ff 01000002 00 ${ONE}  02 ${ONE}  ${END_ITEMS}`,
    ),
  );
  const run = at(...Array.from({ length: 130 }, (_, index) => 0x0100_0000 + index * 8));
  assert.deepEqual(
    roundTrip({ abs64: run }),
    bytes(`${END} ${END}  ff 00000001 fe 08000000  ff 00040001 00 0300000000000000  ${END_ITEMS}`),
  );
});

test('four walks of items, the first ones longer by one where they cannot be equal', () => {
  // Bitmaps that are told apart by the second bit that is set, far from each other.
  for (const [count, starts] of [
    [1, [0]],
    [2, [0, 1]],
    [4, [0, 1, 2, 3]],
    [7, [0, 2, 4, 6]],
    [9, [0, 3, 5, 7]],
    [12, [0, 3, 6, 9]],
  ] as const) {
    const sites: number[] = [];
    for (let index = 0; index < count; index++) {
      const first = 0x0100_0000 + index * 0x1_0000;
      sites.push(first, first + 8 * (1 + index));
    }
    const expected: number[] = [];
    for (let turn = 0; expected.length < count; turn++)
      for (const [walk, start] of starts.entries())
        if (start + turn < (starts[walk + 1] ?? count)) expected.push(start + turn);
    const encoded = roundTrip({ abs64: at(...sites) });
    const written = bytes(
      expected
        .map((index) => {
          const address = Buffer.alloc(4);
          address.writeUInt32LE(0x0100_0000 + index * 0x1_0000);
          const bitmap = Buffer.alloc(8);
          bitmap.writeUInt16LE(1 | (1 << (1 + index)));
          return `ff ${address.toString('hex')} 00 ${bitmap.toString('hex')}`;
        })
        .join(' '),
    );
    assert.deepEqual(encoded, bytes(`${END} ${END} ${Buffer.from(written).toString('hex')} ${END_ITEMS}`));
  }
});

/** Behind all others, so many that the first two or three items are in one walk. */
const FAR = Array.from({ length: 6 }, (_, index) => 0x0200_0000 + index * 0x1_0000);

/** Sites `distance` bytes apart. */
const row = (first: number, count: number, distance: number): number[] =>
  Array.from({ length: count }, (_, index) => first + index * distance);

test('chains end where a byte does not reach, batches where two do not', () => {
  const size = (distance: number): number =>
    roundTrip({ inverse32: at(0x0100_0000, 0x0100_0000 + distance) }).length - roundTrip({}).length;
  // A chain of two; two of one, in a batch; in a batch each.
  assert.deepEqual([4, CHAIN.distance].map(size), [7, 7]);
  assert.deepEqual([CHAIN.distance + 1, CHAIN.step].map(size), [8, 8]);
  assert.deepEqual([CHAIN.step + 1, 0x0080_0000].map(size), [12, 12]);
});

test('a row of sites is cut into the longest chains, and chains of a length go together', () => {
  for (const list of ['abs32', 'inverse32'] as const)
    for (let count = 1; count <= 60; count++) {
      const counts = new Map<number, number>();
      for (let left = count; left > 0;) {
        const length = CHAIN_LENGTHS[list].find((candidate) => candidate <= left)!;
        counts.set(length, (counts.get(length) ?? 0) + 1);
        left -= length;
      }
      let expected = roundTrip({}).length;
      for (const [length, chains] of counts) expected += CHAIN.header + chains * (2 + length - 1);
      assert.equal(roundTrip({ [list]: at(...row(0x0100_0000, count, 5)) }).length, expected, `${list}: ${count}`);
    }
});

test('a batch is as large as its first byte and the rule allow', () => {
  assert.deepEqual([1, 2, 3, 4, 24].map(chainsInBatch), [255, 127, 85, 64, 64]);
  for (const length of [1, 2, 3, 4]) {
    const most = chainsInBatch(length);
    for (const [chains, batches] of [
      [most, 1],
      [most + 1, 2],
      [2 * most, 2],
    ] as const) {
      const sites = Array.from({ length: chains }, (_, index) => row(0x0100_0000 + index * 0x800, length, 200)).flat();
      const expected = roundTrip({}).length + batches * CHAIN.header + chains * (length + 1);
      assert.equal(roundTrip({ abs32: at(...sites) }).length, expected);
    }
  }
});

test('skips, runs and bitmaps meet at their boundaries', () => {
  const from = (start: number, count: number): number[] => Array.from({ length: count }, (_, i) => start + i * 8);
  const base = 0x0100_0000;
  for (const far of [[], FAR]) {
    const roundTripOf = (...sites: number[]): Uint8Array => roundTrip({ abs64: at(...sites, ...far) });
    for (const count of [1, 63, 64, 65, 127, 128, 129, 143, 144, 145, 640, 5000]) roundTripOf(...from(base, count));
    for (const words of [1, 63, 64, 65, 253, 254, 255, 317, 318, 319, 5000]) {
      roundTripOf(base, base + words * 8);
      roundTripOf(base, ...from(base + words * 8, 200));
      roundTripOf(...from(base, 128), base + 127 * 8 + words * 8);
    }
  }
  const size = (words: number): number => roundTrip({ abs64: at(base, base + words * 8, ...FAR) }).length;
  const farOnes = roundTrip({ abs64: at(base, ...FAR) }).length;
  // In the bitmap; behind a skip, from the bitmap's end; at an address.
  assert.deepEqual(
    [1, 63, 64, 317, 318].map(size),
    [0, 0, 9, 9, 14].map((more) => farOnes + more),
  );
  // Unaligned ones between, around and instead of aligned ones, of several remainders.
  roundTrip({ abs64: at(base + 1, base + 9, base + 18, base + 26, base + 512, base + 521, base + 530, base + 4096) });
  roundTrip({ abs64: at(...from(base + 3, 200)) });
});

test('the first and the last address that there are', () => {
  roundTrip({ abs32: at(0, 4), inverse32: at(0), abs64: at(0, 8) });
  const encoded = roundTrip({
    abs32: at(0, IMAGE_SIZE - 4),
    inverse32: at(IMAGE_SIZE - 8, IMAGE_SIZE - 4),
    abs64: at(IMAGE_SIZE - 1032, IMAGE_SIZE - 8),
  });
  assert.ok(encoded.length < 90);
});

test('any valid table survives', () => {
  fc.assert(
    fc.property(tables, (table) => {
      roundTrip(table);
    }),
    { numRuns: 150 },
  );
});

test('a changed, missing or additional byte is refused, or is another table that is written just so', () => {
  const check = (changed: Uint8Array, table: Sites): boolean => {
    try {
      const read = readCompactTable(changed);
      assert.deepEqual(encodeCompactTable(read), changed);
      assert.notDeepEqual(read, table);
      return false;
    } catch (error) {
      assert.ok(error instanceof KernelImageError, String(error));
      return true;
    }
  };
  fc.assert(
    fc.property(tables, fc.nat(), fc.integer({ min: 1, max: 255 }), (table, where, flip) => {
      const encoded = encodeCompactTable(table);
      const changed = encoded.slice();
      changed[where % encoded.length]! ^= flip;
      check(changed, table);
      assert.ok(check(encoded.subarray(0, where % encoded.length), table), 'shortened');
      assert.ok(check(Uint8Array.of(...encoded, flip), table), 'lengthened');
    }),
    { numRuns: 150 },
  );
});

test('any bytes give a table or a KernelImageError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (data) => {
      try {
        readCompactTable(data);
      } catch (error) {
        assert.ok(error instanceof KernelImageError, String(error));
      }
    }),
  );
});

test('every other way to write the same sites is refused, saying where', () => {
  const refused = (text: string, message: RegExp): void => {
    assert.throws(
      () => readCompactTable(bytes(text), 0x1000),
      (error: Error) => error instanceof KernelImageError && message.test(error.message),
      text,
    );
  };
  const rest = `${END} ${END_ITEMS}`;
  const bytewise = (offset: number): RegExp =>
    new RegExp(`byte of the compact format at offset 0x${(0x1000 + offset).toString(16)} `);
  refused('', /truncated: relocation table: 32-bit list at offset 0x1000/);
  refused(`01010001 00`, /truncated: relocation table: 32-bit list/);
  refused(`01020001 0000`, /truncated: relocation table: 32-bit list at offset 0x1006/);
  // Two chains that are one; one that is too long for its list, or has no length; two batches that are one, or change places.
  refused(`02010001 0000 0800 ${END} ${rest}`, bytewise(0));
  refused(`${END} 01060001 0000 0808080808 ${rest}`, bytewise(2));
  refused(`01000001 0000 ${END} ${rest}`, bytewise(1));
  refused(`01010001 0000 01010001 0002 ${END} ${rest}`, bytewise(0));
  refused(`01010001 0000 01020101 0000 08 ${END} ${rest}`, bytewise(1));
  // Chains that descend, overlap, or leave the kernel's map.
  refused(`01010201 0000 01010001 0000 ${END} ${rest}`, bytewise(2));
  refused(`01020001 0300 03 ${END} ${rest}`, /entry 1 of the 32-bit list, of the table at offset 0x1000 is 0x81000006/);
  refused(`02010001 0000 0000 ${END} ${rest}`, /entry 1 of the 32-bit list/);
  refused(
    `0101ff3f fcff ${END} ${END} ${END_ITEMS} 00`,
    /byte of the compact format at offset 0x100d is 0x0, expected the end/,
  );
  refused(`01010040 0000 ${END} ${rest}`, /is 0xc0000000, expected a link address inside the kernel image/);
  refused(`0102ff3f ffff 01 ${END} ${rest}`, /is 0xc0000000, expected a link address inside the kernel image/);
  const items = `${END} ${END}`;
  // A bitmap that begins without a site, or has none; a run that is short, split or empty; an address that a skip would reach.
  refused(`${items} ff 00000001 00 0200000000000000 ${END_ITEMS}`, bytewise(3));
  refused(`${items} ff 00000001 00 0000000000000000 ${END_ITEMS}`, bytewise(6));
  refused(`${items} ff 00000001 fe 07000000 ${END_ITEMS}`, bytewise(7));
  refused(`${items} ff 00000001 fe 04000000 ff 00020001 fe 04000000 ${END_ITEMS}`, bytewise(8));
  refused(`${items} ff 00000001 fe 00000000 ${END_ITEMS}`, bytewise(6));
  const others = ['00000002', '00100002', '00200002'].map((address) => `ff ${address} 00 ${ONE}`).join(' ');
  refused(`${items} ff 00000001 00 ${ONE} ${others} ff 08020001 00 ${ONE} ${END_ITEMS}`, bytewise(58));
  // Unaligned sites before aligned ones; sites that overlap.
  refused(`${items} ff 01000001 00 0100000000000000 ff 00000002 00 0100000000000000 ${END_ITEMS}`, bytewise(3));
  refused(
    `${items} ff 00000001 00 0100000000000000 ff 01000001 00 0100000000000000 ${END_ITEMS}`,
    /entry 1 of the 64-bit list/,
  );
  // More than any kernel has, in a few bytes: refused before memory is spent on it.
  refused(`${items} ff 00000001 fe ffffffff ${END_ITEMS}`, /expected a link address inside|too large/);
  const again = 'ff 08000000 fe 00100000 '.repeat(40);
  refused(
    `${items} ${again} ${END_ITEMS}`,
    // Without a kernel: 2^18, and 16 for each of the 407 bytes.
    /too large: relocation table: list is 0x50000, expected at most 0x41970 sites/,
  );
});

test('sites that are not what checkSites wants are a mistake of the caller', () => {
  for (const [sites, message] of [
    [{ abs32: at(0x100_0004, 0x100_0000) }, /overlap or descend/],
    [{ inverse32: at(0x100_0000, 0x100_0003) }, /overlap or descend/],
    [{ abs64: at(0x100_0000, 0x100_0007) }, /overlap or descend/],
    [{ abs32: Uint32Array.of(0x7fff_ffff) }, /no link address/],
    [{ abs64: Uint32Array.of(0xc000_0000) }, /no link address/],
  ] as const) {
    assert.throws(() => encodeCompactTable({ ...NONE, ...sites }), { name: 'RangeError', message });
  }
});
