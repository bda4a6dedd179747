import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KernelImageError } from '../../src/errors.ts';
import type { Sites } from '../../src/relocs/apply.ts';
import { encodeCompactTable, GAP, readCompactTable } from '../../src/relocs/compact.ts';
import { at, tables } from './compact-tables.ts';

const NONE: Sites = { abs32: new Uint32Array(0), inverse32: new Uint32Array(0), abs64: new Uint32Array(0) };
const IMAGE_SIZE = 0x4000_0000;

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/[^0-9a-f]/g, ''), 'hex'));
const END = 'ec 00000000';
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
  const walks = [
    [0x0100_0003, 0x0100_0007, 0x0100_0014],
    [0x0100_1000, 0x0100_1200, 0x0100_1204],
    [0x0100_2000, 0x0100_2008],
    [0x0100_3000, 0x0200_0000],
  ];
  const abs32 = at(...walks.flat());
  assert.deepEqual(
    roundTrip({ abs32 }),
    bytes(
      `ec 03000001  ec 00100001  ec 00200001  ec 00300001  00  ee 10  04  ec 00000002  09  00  ${END}  ${END}  ${END_ITEMS}`,
    ),
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

test('four walks, the first ones longer by one where they cannot be equal', () => {
  // Each site has a gap of its own index, but for those that begin a walk.
  for (const [count, starts] of [
    [1, [0]],
    [2, [0, 1]],
    [4, [0, 1, 2, 3]],
    [7, [0, 2, 4, 6]],
    [9, [0, 3, 5, 7]],
    [12, [0, 3, 6, 9]],
  ] as const) {
    const sites: number[] = [];
    for (let index = 0; index < count; index++) sites.push((sites.at(-1) ?? 0x0100_0000 - 4) + 4 + index);
    const expected: number[] = [];
    for (let turn = 0; expected.length < count; turn++)
      for (const [walk, start] of starts.entries())
        if (start + turn < (starts[walk + 1] ?? count)) expected.push(start + turn);
    const encoded = roundTrip({ abs32: at(...sites) });
    let offset = 0;
    for (const index of expected) {
      const isFirst = starts.some((start) => start === index);
      assert.equal(encoded[offset], isFirst ? GAP.address : index, `${count}: ${index}`);
      offset += isFirst ? 5 : 1;
    }
    assert.equal(encoded[offset], GAP.address);
  }
});

/** Behind all others, so many that the first two or three items or sites are in one walk. */
const FAR = Array.from({ length: 6 }, (_, index) => 0x0200_0000 + index * 0x1_0000);

test('a gap takes one byte, two or five, and each boundary is where the specification says', () => {
  const size = (gap: number): number => {
    const first = 0x0100_0000;
    const far = FAR.slice(0, 3);
    const two = roundTrip({ abs32: at(first, first + 4 + gap, ...far) }).length;
    assert.equal(roundTrip({ inverse32: at(first, first + 4 + gap, ...far) }).length, two);
    return two - roundTrip({ abs32: at(first, ...far) }).length;
  };
  assert.deepEqual([0, 1, GAP.address - 1].map(size), [1, 1, 1]);
  assert.deepEqual([GAP.address, GAP.address + 1, GAP.address + 255].map(size), [2, 2, 2]);
  assert.deepEqual([GAP.address + 256, GAP.limit - 1].map(size), [2, 2]);
  assert.deepEqual([GAP.limit, GAP.limit + 1, 0x0080_0000].map(size), [5, 5, 5]);
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
  assert.ok(encoded.length < 70);
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
  refused(`ec 030000`, /truncated: relocation table: 32-bit list/);
  // An address where a gap would do; and one of two bytes for the same.
  refused(`ec 05000000 ${END} ${rest}`, bytewise(0));
  refused(`ec 03000001 ec 00000002 ec 00100002 ec 00200002 ec 08000001 ${END} ${rest}`, bytewise(20));
  refused(
    `ec 03000001 ec 03000001 ${END} ${rest}`,
    /entry 1 of the 32-bit list, of the table at offset 0x1000 is 0x81000003/,
  );
  refused(
    `ec fdffff3f ${END} ${END} ${END_ITEMS} 00`,
    /byte of the compact format at offset 0x1014 is 0x0, expected the end/,
  );
  refused(`ec 00000040 ${END} ${rest}`, /is 0xc0000000, expected a link address inside the kernel image/);
  const items = `${END} ${END}`;
  // A bitmap that begins without a site, or has none; a run that is short, split or empty; an address that a skip would reach.
  refused(`${items} ff 00000001 00 0200000000000000 ${END_ITEMS}`, bytewise(11));
  refused(`${items} ff 00000001 00 0000000000000000 ${END_ITEMS}`, bytewise(14));
  refused(`${items} ff 00000001 fe 07000000 ${END_ITEMS}`, bytewise(15));
  refused(`${items} ff 00000001 fe 04000000 ff 00020001 fe 04000000 ${END_ITEMS}`, bytewise(16));
  refused(`${items} ff 00000001 fe 00000000 ${END_ITEMS}`, bytewise(14));
  const others = ['00000002', '00100002', '00200002'].map((address) => `ff ${address} 00 ${ONE}`).join(' ');
  refused(`${items} ff 00000001 00 ${ONE} ${others} ff 08020001 00 ${ONE} ${END_ITEMS}`, bytewise(66));
  // Unaligned sites before aligned ones; sites that overlap.
  refused(`${items} ff 01000001 00 0100000000000000 ff 00000002 00 0100000000000000 ${END_ITEMS}`, bytewise(11));
  refused(
    `${items} ff 00000001 00 0100000000000000 ff 01000001 00 0100000000000000 ${END_ITEMS}`,
    /entry 1 of the 64-bit list/,
  );
  // More than any kernel has, in a few bytes: refused before memory is spent on it.
  refused(`${items} ff 00000001 fe ffffffff ${END_ITEMS}`, /expected a link address inside|too large/);
  const again = 'ff 08000000 fe f0ff0700 '.repeat(40);
  refused(
    `${items} ${again} ${END_ITEMS}`,
    /too large: relocation table: list is 0x1000001, expected at most 0x1000000 sites/,
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
