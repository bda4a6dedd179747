/** The reader that `verify` has against the one in relocs/tables/compact.ts: written apart, so what both take is what the specification means. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { PhysAddr } from '../../src/base/addresses.ts';
import { tableEntryToPhys } from '../../src/base/addresses.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import type { Sites } from '../../src/relocs/tables/apply.ts';
import { encodeCompactTable, readCompactTable } from '../../src/relocs/tables/compact.ts';
import { decodeCompactTable } from '../../src/verify/table/compact.ts';
import { at, tables } from '../relocs/compact-tables.ts';
import { batch, LENGTHS, naiveList, piecesOf } from './chains.ts';
import type { Chain } from './chains.ts';

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

const none = new Uint32Array(0);
const END64 = [255, 0, 0, 0, 0];
const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));
const addresses = (list: Uint32Array): PhysAddr[] => Array.from(list, (entry) => tableEntryToPhys(entry)!);

/** As many chains as a batch holds and more, and all lengths. */
const longList: fc.Arbitrary<PhysAddr[]> = fc
  .array(
    fc.record({
      pieces: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 60, max: 300 })),
      sites: fc.integer({ min: 1, max: 60 }),
      step: fc.oneof(fc.integer({ min: 4, max: 20 }), fc.constantFrom(254, 255)),
      gap: fc.oneof(fc.integer({ min: 256, max: 2000 }), fc.integer({ min: 65_530, max: 65_540 })),
    }),
    { maxLength: 4 },
  )
  .map((parts) => {
    const sites: PhysAddr[] = [];
    for (const { pieces, sites: count, step, gap } of parts)
      for (let piece = 0; piece < pieces; piece++)
        for (let index = 0; index < count; index++)
          sites.push((sites.at(-1) ?? 0x100_0000) + (index === 0 ? gap : step));
    return sites;
  });

test('the examples of the specification', () => {
  const chains = `
    01 03 00 01  03 00  04  0d
    02 02 00 01  00 10  00 02  ff 04
    01 01 02 01  00 00
    01 01 00 02  00 00
    00`;
  const items = `
    ff 00 00 00 01  00 03 00 00 00 00 00 00 80
    ff 00 10 00 01  00 01 00 00 00 00 00 00 00
    ff 00 20 00 01  00 01 00 00 00 00 00 00 00
    ff 01 00 00 02  00 01 00 00 00 00 00 00 00
    02 01 00 00 00 00 00 00 00
    ff 00 00 00 00`;
  const table = {
    abs32: at(0x1000003, 0x1000007, 0x1000014, 0x1001000, 0x10010ff, 0x1001200, 0x1001204, 0x1020000, 0x2000000),
    inverse32: none,
    abs64: at(0x1000000, 0x1000008, 0x10001f8, 0x1000210, 0x1001000, 0x1002000, 0x2000001),
  };
  const bytes = bytesOf(`${chains} 00 ${items}`);
  assert.deepEqual(sitesOf(decodeCompactTable(bytes, 0)), table);
  assert.deepEqual(encodeCompactTable(table), bytes);
  assert.deepEqual(naiveList(addresses(table.abs32), LENGTHS.abs32), [...bytesOf(chains)]);
  for (let length = 0; length < bytes.length; length++)
    assert.throws(
      () => decodeCompactTable(bytes.subarray(0, length), 0),
      /is the end of the table, expected 0x[124] bytes/,
    );
});

test('it reads what the encoder writes', () => {
  fc.assert(
    fc.property(tables, (table) => {
      assert.deepEqual(sitesOf(decodeCompactTable(encodeCompactTable(table), 0)), sitesOf(table));
    }),
    { numRuns: 150 },
  );
});

test('chains as the specification has them are what is written, and read', () => {
  fc.assert(
    fc.property(longList, longList, (first, second) => {
      const table = { abs32: at(...first), inverse32: at(...second), abs64: none };
      const naive = [...naiveList(first, LENGTHS.abs32), ...naiveList(second, LENGTHS.inverse32), ...END64];
      const bytes = Uint8Array.from(naive);
      assert.deepEqual(sitesOf(decodeCompactTable(bytes, 0)), table);
      assert.deepEqual(encodeCompactTable(table), bytes);
    }),
    { numRuns: 60 },
  );
});

test('any other chains of the same sites are refused', () => {
  let others = 0;
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 0, max: 900 }), { maxLength: 12 }),
      fc.infiniteStream(fc.nat()),
      (places, draw) => {
        const next = (below: number): number => draw.next().value % below;
        const sites = places.toSorted((a, b) => a - b).map((place) => 0x100_0000 + place * 40);
        // Cut at random, gone on with or not, most of them in some order of length.
        const chains: Chain[] = [];
        for (const piece of piecesOf(sites))
          for (let start = 0; start < piece.length; start += chains.at(-1)!.length) {
            const fitting = LENGTHS.abs32.filter((length) => length <= piece.length - start);
            chains.push(piece.slice(start, start + fitting[next(4) === 0 ? next(fitting.length) : 0]!));
          }
        const ordered = chains.toSorted((a, b) => b.length - a.length || a[0]! - b[0]!);
        if (next(3) === 0) ordered.push(...ordered.splice(next(ordered.length + 1), 1));
        const batches: Chain[][] = [];
        for (const chain of ordered) {
          const before = batches.at(-1)?.at(-1);
          const goesOn = before?.length === chain.length && before[0]! < chain[0]!;
          if (goesOn && next(8) > 0) batches.at(-1)!.push(chain);
          else batches.push([chain]);
        }
        const bytes = Uint8Array.from([...batches.flatMap((of) => batch(...of)), 0, 0, ...END64]);
        const right = Uint8Array.from([...naiveList(sites, LENGTHS.abs32), 0, ...END64]);
        const same = Buffer.compare(bytes, right) === 0;
        if (!same) others++;
        const expected = same ? { abs32: at(...sites), inverse32: none, abs64: none } : undefined;
        assert.deepEqual(
          attempt(() => decodeCompactTable(bytes, 0)),
          expected,
        );
        assert.deepEqual(
          attempt(() => readCompactTable(bytes)),
          expected,
        );
      },
    ),
    { numRuns: 300 },
  );
  assert.ok(others > 50, `${others} of 300 were written otherwise`);
});

test('both readers take and refuse the same bytes', () => {
  let taken = 0;
  fc.assert(
    fc.property(tables, fc.nat(), fc.integer({ min: 1, max: 255 }), (table, where, flip) => {
      const changed = encodeCompactTable(table);
      changed[where % changed.length]! ^= flip;
      const [ours, theirs] = [attempt(() => readCompactTable(changed)), attempt(() => decodeCompactTable(changed, 0))];
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
  const decoded = decodeCompactTable(encodeCompactTable(table), 0x1000);
  const offsets = (['abs32', 'inverse32', 'abs64'] as const).map((list) =>
    [...decoded[list].keys()].map((index) => decoded.offsetOf(list, index) - 0x1000),
  );
  // A batch of a chain of two: its u16 after 4 bytes, its byte; one of three chains; end. One chain, end; address and bitmap for two, the same for
  // the third.
  assert.deepEqual(offsets, [[4, 6, 11, 13, 15], [22], [30, 30, 44]]);
});

const L = 0x100_0000;
/** A table of this 32-bit list and nothing else. */
const only = (...batches: number[][]): Uint8Array => Uint8Array.from([...batches.flat(), 0, 0, ...END64]);
/** `count` chains, each `apart` bytes after the one before it. */
const row = (count: number, apart: number, chain: Chain = [0]): Chain[] =>
  Array.from({ length: count }, (_, index) => chain.map((site) => L + index * apart + site));
const every = (count: number, step: number): Chain => Array.from({ length: count }, (_, index) => index * step);

test('each rule of chains has words of its own', () => {
  const apart = [[L], [L + 0x200], [L + 0x400]] as const;
  for (const [what, bytes, message] of [
    [
      'no such length',
      [1, 0],
      /length of chains in the 32-bit list at offset 0x1001 is 0x0, expected one of 24, 14, 9/,
    ],
    [
      'no such length',
      [1, 5],
      /length of chains in the 32-bit list at offset 0x1001 is 0x5, expected one of 24, 14, 9/,
    ],
    ['none of this list', [0, 1, 6], /in the inverse 32-bit list at offset 0x1002 is 0x6, expected one of 4, 3, 2, 1$/],
    [
      'too many',
      [65, 24],
      /number of chains of 24 sites in the 32-bit list at offset 0x1000 is 0x41, expected at most 64$/,
    ],
    ['too many', [128, 2], /number of chains of 2 sites .* is 0x80, expected at most 127$/],
    [
      'too many',
      [0, 86, 3],
      /number of chains of 3 sites in the inverse 32-bit list at offset 0x1001 is 0x56, expected at/,
    ],
    [
      'short ones first',
      only(batch([L]), batch([L + 0x200, L + 0x204])),
      /length of chains in the 32-bit list at offset 0x1007 is 0x2, expected at most 1, that of the batch before$/,
    ],
    [
      'a batch too small',
      only(batch(apart[0]), batch(apart[1], apart[2])),
      /first chain of a batch in the 32-bit list at offset 0x100a is 0x1000200, expected 0x1010000 or more, or a place in/,
    ],
    [
      'a batch too small by one byte',
      only(batch([L]), batch([L + 0xffff])),
      /is 0x100ffff, expected 0x1010000 or more, or a place in the batch before$/,
    ],
    [
      'a batch too small by one chain',
      only(batch(...row(254, 0x100)), batch([L + 254 * 0x100])),
      /offset 0x1204 is 0x100fe00, expected 0x101fd00 or more, or a place in the batch before$/,
    ],
    [
      'batches that descend',
      only(batch([L + 0x2_0000]), batch([L])),
      /first chain of a batch in the 32-bit list at offset 0x100a is 0x1000000, expected more than 0x1020000, where/,
    ],
    [
      'batches that begin at the same place, the first one full',
      only(batch(...row(255, 0x100)), batch([L + 254 * 0x100])),
      /is 0x100fe00, expected more than 0x100fe00, where the chain before it begins$/,
    ],
    [
      'a site twice',
      only(batch([L], [L])),
      /chain of the 32-bit list at offset 0x1006 is 0x1000000, expected 0x1000004 or more, after the chain before it$/,
    ],
    [
      'chains that overlap',
      only(batch([L, L + 8], [L + 11, L + 15])),
      /at offset 0x1006 is 0x100000b, expected 0x100000c/,
    ],
    [
      'chains in each other',
      only(batch([L, L + 80], [L + 40, L + 120])),
      /offset 0x1006 is 0x1000028, expected 0x1000054/,
    ],
    [
      'chains of two lengths in each other',
      only(batch([L, L + 40, L + 80]), batch([L + 60])),
      /chain of the 32-bit list at offset 0x100c is 0x100003c, expected 0x1000054 or more/,
    ],
    [
      'sites that overlap',
      only(batch([L, L + 3])),
      /distance in a chain of the 32-bit list at offset 0x1006 is 0x3, expected 4 or more$/,
    ],
    ['a site twice in a chain', only(batch([L, L + 4, L + 4])), /at offset 0x1007 is 0x0, expected 4 or more$/],
    [
      'two chains for one',
      only(batch([L], [L + 255])),
      /chain of the 32-bit list at offset 0x1004 is one of 1, expected one of 2, for 2 sites that are at most 255 bytes apart$/,
    ],
    [
      'a short chain before a long one',
      only(batch([L + 4, L + 8, L + 12]), batch([L])),
      /at offset 0x100c is one of 1, expected one of 4, for 4 sites/,
    ],
    [
      'a long chain cut as if for what follows',
      only(batch([L, L + 4, L + 8], [L + 12, L + 16, L + 20])),
      /at offset 0x1004 is one of 3, expected one of 6, for 6 sites/,
    ],
    [
      'the second of a piece',
      only(batch(every(24, 4).map((site) => L + site)), batch([L + 96], [L + 100])),
      /at offset 0x1021 is one of 1, expected one of 2, for 2 sites/,
    ],
    [
      'more than the kernel image',
      [1, 1, 0xff, 0x3f, 0xfd, 0xff],
      /site of the 32-bit list at offset 0x1004 is 0x3ffffffd/,
    ],
    ['far more', [1, 1, 0xff, 0xff, 0xff, 0xff], /is 0xffffffff, expected at most 262240 sites, below 0x40000000$/],
    ['in its second site', [1, 2, 0xff, 0x3f, 0xfc, 0xff, 4], /site of the 32-bit list at offset 0x1006 is 0x40000000/],
  ] as const) {
    const read = (): unknown => decodeCompactTable(Uint8Array.from(bytes), 0x1000);
    assert.throws(read, { name: 'KernelImageError', message }, what);
  }
});

test('what is at the edge of a rule of chains is right', () => {
  for (const bytes of [
    only(batch([L]), batch([L + 0x1_0000])),
    only(batch([L, L + 255]), batch([L + 511])),
    only(batch(...row(255, 0x100)), batch([L + 255 * 0x100])),
    only(batch(...row(127, 0x200, [0, 4])), batch([L + 127 * 0x200, L + 127 * 0x200 + 4])),
    only(batch(...row(64, 0x400, every(24, 4))), batch([L + 64 * 0x400, L + 64 * 0x400 + 4])),
    only(batch(...row(64, 96, every(24, 4))), batch([L + 64 * 96, L + 64 * 96 + 4])),
    only([1, 1, 0, 0, 0, 0]),
    only([1, 1, 0xff, 0x3f, 0xfc, 0xff]),
  ]) {
    const read = sitesOf(decodeCompactTable(bytes, 0));
    assert.ok(read.abs32.length > 0);
    assert.deepEqual(sitesOf(readCompactTable(bytes)), read);
  }
});

test('a list has 2^24 sites at most', () => {
  const most = 2 ** 24;
  const chains = Math.floor(most / 24);
  const full = Uint8Array.from(batch(...row(64, 96, every(24, 4))));
  const bytes = new Uint8Array(Math.ceil(chains / 64) * full.length + 64);
  let length = 0;
  for (let done = 0; done < chains; done += 64) {
    const count = Math.min(64, chains - done);
    const [low, high] = [(done * 96) & 0xffff, (done * 96) >> 16];
    const some = count === 64 ? full : Uint8Array.from(batch(...row(count, 96, every(24, 4))));
    bytes.set(some, length);
    bytes.set([high & 0xff, high >> 8, low & 0xff, low >> 8], length + 2);
    length += some.length;
  }
  const last = every(17, 4).map((site) => site + chains * 96);
  const ending = (...sizes: number[]): Uint8Array => {
    let first = 0;
    const batches = sizes.flatMap((size) => batch(last.slice(first, (first += size))));
    const end = [...batches, 0, 0, ...END64];
    bytes.set(end, length);
    return bytes.subarray(0, length + end.length);
  };
  assert.equal(decodeCompactTable(ending(14, 2), 0).abs32.length, most);
  const message = /site of the 32-bit list at .* is 0x4000000, expected at most 16777216 sites/;
  assert.throws(() => decodeCompactTable(ending(14, 3), 0), message);
});

test('each rule of items has words of its own', () => {
  const end = 'ff00000000';
  for (const [text, message] of [
    [`ff00000001 ff00000002 ${end}`, /is 0xff, expected an item after an address/],
    [`ff00000001 01 0100000000000000 ${end}`, /skip after an address at offset 0x1007 is 0x1/],
    [`ff40000000 00 0100000000000000 ${end}`, /expected an item that reaches it from 0x0/],
    [`01 0200000000000000 ${end}`, /bitmap of the 64-bit list at offset 0x1003 is no site in its first bit/],
    [`01 0100000000000000 02 0100000000000000 ${end}`, /is 0x10, expected a bit of the bitmap at 0x8/],
    [`fe00000000 ${end}`, /run of the 64-bit list at offset 0x1003 is 0x0, expected 8 or more/],
    [`fe07000000 ${end}`, /is a run of 7 × 16, expected a bitmap, for 112 sites in a row/],
    [`00 ffffffffffffffff 40 ffffffffffffffff ${end}`, /is a bitmap, expected a run of 8 × 16/],
    [
      `01 0100000000000000 ff00000100 00 0100000000000000 ff09000000 00 0100000000000000 02 0100000000000000 ${end}`,
      /is 0x10, expected a site after 0x9/,
    ],
    [`${end} 00`, /end at offset 0x1007 is 0x1 bytes that the program never reads/],
    [`feffffffff ${end}`, /expected at most 262336 sites, below 0x40000000/],
    [`ff`, /is the end of the table, expected 0x4 bytes/],
  ] as const) {
    assert.throws(
      () => decodeCompactTable(bytesOf(`00 00 ${text}`), 0x1000),
      { name: 'KernelImageError', message },
      text,
    );
  }
});
