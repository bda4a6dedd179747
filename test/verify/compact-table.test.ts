/** The reader that `verify` has against the one in relocs/compact.ts: written apart, so what both take is what the specification means. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KernelImageError } from '../../src/errors.ts';
import type { Sites } from '../../src/relocs/apply.ts';
import { encodeCompactTable, readCompactTable } from '../../src/relocs/compact.ts';
import { walkCompactTable } from '../../src/verify/compact-table.ts';
import { at, tables } from '../relocs/compact-tables.ts';

const sitesOf = ({ abs32, inverse32, abs64 }: Sites): Sites => ({ abs32, inverse32, abs64 });

/** What a reader makes of the bytes; undefined when it refuses them. */
function attempt(read: () => Sites): Sites | undefined {
  try {
    return sitesOf(read());
  } catch (error) {
    assert.ok(error instanceof KernelImageError, String(error));
    return undefined;
  }
}

test('it reads what the encoder writes', () => {
  fc.assert(
    fc.property(tables, (table) => {
      assert.deepEqual(sitesOf(walkCompactTable(encodeCompactTable(table), 0)), sitesOf(table));
    }),
    { numRuns: 150 },
  );
});

test('both readers take and refuse the same bytes', () => {
  let taken = 0;
  fc.assert(
    fc.property(tables, fc.nat(), fc.integer({ min: 1, max: 255 }), (table, where, flip) => {
      const changed = encodeCompactTable(table);
      changed[where % changed.length]! ^= flip;
      const [ours, theirs] = [attempt(() => readCompactTable(changed)), attempt(() => walkCompactTable(changed, 0))];
      // Sites of different remainders that overlap are for the comparison with the original to find.
      if (ours !== undefined || theirs === undefined) assert.deepEqual(theirs, ours);
      else assert.ok(theirs.abs64.some((site, index) => site < theirs.abs64[index - 1]! + 8));
      if (ours !== undefined) taken++;
    }),
    { numRuns: 150 },
  );
  assert.ok(taken > 5, `${taken} changes made another table`);
});

test('an entry is found where it is written', () => {
  const table = {
    abs32: at(0x100_0000, 0x100_0010, 0x100_0200, 0x100_0300, 0x100_0400),
    inverse32: at(0x100_0100),
    abs64: at(0x100_0300, 0x100_0308, 0x100_0a01),
  };
  const decoded = walkCompactTable(encodeCompactTable(table), 0x1000);
  const offsets = (['abs32', 'inverse32', 'abs64'] as const).map((list) =>
    [...decoded[list].keys()].map((index) => decoded.offsetOf(list, index) - 0x1000),
  );
  // Four walks begin with 5 bytes, and the first has one more, end; 5, end; address and bitmap for two, the same for the third.
  assert.deepEqual(offsets, [[0, 20, 5, 10, 15], [26], [41, 41, 55]]);
});

test('each rule of the one way to write it has words of its own', () => {
  const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
  const gaps = 'ec00000000';
  const end = 'ff00000000';
  for (const [text, message] of [
    [
      `ec05000000 ${gaps} ${gaps} ${end}`,
      /address in the 32-bit list at offset 0x1001 is 0x5, expected 0x13ec or more/,
    ],
    [
      `ec00000002 ec00000001 ${gaps} ${gaps} ${end}`,
      /site of the 32-bit list at offset 0x1005 is 0x1000000, expected 0x2000004 or more, behind the piece before/,
    ],
    [`${gaps} ${gaps} ff00000001 ff00000002 ${end}`, /is 0xff, expected an item behind an address/],
    [`${gaps} ${gaps} ff00000001 01 0100000000000000 ${end}`, /skip behind an address at offset 0x100f is 0x1/],
    [`${gaps} ${gaps} ff40000000 00 0100000000000000 ${end}`, /expected an item that reaches it from 0x0/],
    [
      `${gaps} ${gaps} 01 0200000000000000 ${end}`,
      /bitmap of the 64-bit list at offset 0x100b is no site in its first bit/,
    ],
    [`${gaps} ${gaps} 01 0100000000000000 02 0100000000000000 ${end}`, /is 0x10, expected a bit of the bitmap at 0x8/],
    [`${gaps} ${gaps} fe00000000 ${end}`, /run of the 64-bit list at offset 0x100b is 0x0, expected 8 or more/],
    [`${gaps} ${gaps} fe07000000 ${end}`, /is a run of 7 × 16, expected a bitmap, for 112 sites in a row/],
    [`${gaps} ${gaps} 00 ffffffffffffffff 40 ffffffffffffffff ${end}`, /is a bitmap, expected a run of 8 × 16/],
    [
      `${gaps} ${gaps} 01 0100000000000000 ff00000100 00 0100000000000000 ff09000000 00 0100000000000000 02 0100000000000000 ${end}`,
      /is 0x10, expected a site behind 0x9/,
    ],
    [`${gaps} ${gaps} ${end} 00`, /end at offset 0x100f is 0x1 bytes that the program never reads/],
    [`${gaps} ${gaps} feffffffff ${end}`, /expected at most 16777216 sites, below 0x40000000/],
    [`${gaps} ${gaps} ff`, /is the end of the table, expected 0x4 bytes/],
  ] as const) {
    assert.throws(() => walkCompactTable(bytes(text), 0x1000), { name: 'KernelImageError', message }, text);
  }
});
