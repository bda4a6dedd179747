/** Sites in notes: left out of everything that is written, and `verify` leaves out the same ones by its own reading. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { joinParts, Writer } from '../../src/base/bytes.ts';
import { coreCodecs as codecs } from '../../src/codecs/formats.ts';
import type { Encoders } from '../../src/codecs/formats.ts';
import { convert } from '../../src/convert.ts';
import { readElf } from '../../src/elf/read.ts';
import { readVmlinux } from '../../src/kernel/vmlinux.ts';
import { randomize } from '../../src/randomize.ts';
import { rebuildBzImage } from '../../src/rebuild.ts';
import { leaveOutNotes } from '../../src/relocs/note-sites.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../src/relocs/tables/kernel-table.ts';
import { readSegment } from '../../src/segment/read.ts';
import { tableWithoutNotes } from '../../src/verify/notes.ts';
import { verify } from '../../src/verify/verify.ts';
import { makeBzImage } from '../bzimage/make-image.ts';
import { entryAt, LINK, makeVmlinux, TABLE } from '../make-vmlinux.ts';

const MIB = 0x10_0000;
const NOTE = { offset: 0x1800, memory: LINK + 0x800 };

function sorted(table: RelocationTable, site: number): RelocationTable {
  return { ...table, abs64: Uint32Array.from([...table.abs64, site]).toSorted((a, b) => a - b) };
}

/** As a relocs tool of before 2024 makes it: the PVH note's address is a site. */
const leaking = makeVmlinux({ table: sorted(TABLE, entryAt(NOTE.memory + 16)) });
/** The same kernel with a table as newer tools make it. */
const clean = withTable(leaking, TABLE);

function withTable(kernel: Uint8Array, table: RelocationTable): Uint8Array {
  return joinParts([readVmlinux(kernel).elf.bytes, encodeRelocationTable(table)]);
}

test('convert leaves out a site in a note, says so, and the file is proved', async () => {
  for (const table of ['compact', 'kernel'] as const) {
    const { summary, bytes } = await convert(leaking, { codecs, table });
    assert.equal(summary.noteSites, 1);
    assert.equal(summary.relocations.abs64, TABLE.abs64.length);
    assert.deepEqual(bytes(), (await convert(clean, { codecs, table })).bytes(), 'as if it had never been there');
    assert.deepEqual(readSegment(readElf(bytes()))!.sites.abs64, TABLE.abs64);
    const { verdict, relocations } = await verify(leaking, bytes(), { codecs });
    assert.deepEqual([verdict, relocations.abs64], ['proved', TABLE.abs64.length]);
  }
  assert.equal((await convert(clean, { codecs })).summary.noteSites, 0);
});

test('randomize moves no note, and bzimage leaves the site out of both forms of the table', async () => {
  const options = { codecs, virt: 6 * MIB, phys: 6 * MIB };
  const { summary, bytes } = await randomize(leaking, options);
  assert.deepEqual([summary.noteSites, summary.slideInNotes], [1, false]);
  assert.deepEqual(bytes(), (await randomize(clean, options)).bytes());

  const encoders = { gzip: async (data: Uint8Array) => new Uint8Array(gzipSync(data)) } as unknown as Encoders;
  const payload = gzipSync(leaking, { level: 0 });
  const image = makeBzImage({ payload, fields: { init_size: 0x40_0000, kernel_info_offset: 0 } });
  // input_len and output_len, as in a decompressor's data.
  const writer = new Writer(image);
  writer.u32(0x440 + payload.length + 4, payload.length);
  writer.u32(0x440 + payload.length + 8, leaking.length);
  for (const how of [{}, { tableAtEnd: true }, { uncompressed: true }]) {
    const rebuilt = await rebuildBzImage(image, { codecs, encoders, ...how });
    assert.equal(rebuilt.summary.noteSites, 1);
    assert.equal(rebuilt.summary.relocations.abs64, TABLE.abs64.length);
    assert.equal((await verify(image, rebuilt.bytes, { codecs })).verdict, 'proved');
  }
});

test('a site that is only partly in a note, or in its name, stays', async () => {
  for (const at of [-4, 0, 8, 12, 20, 24]) {
    const image = makeVmlinux({ table: sorted(TABLE, entryAt(NOTE.memory + at)) });
    const { summary } = await convert(image, { codecs });
    assert.deepEqual([summary.noteSites, summary.relocations.abs64], [0, TABLE.abs64.length + 1], `${at}`);
  }
});

test('convert and verify agree on what is in a note, whatever the notes are', () => {
  const word = fc.oneof(fc.constantFrom(4, 8, 12, 18, 0, 0x6e6558), fc.nat(24));
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 1, maxLength: 24 }),
      fc.constantFrom(0, 1, 4, 8, 16),
      fc.nat(3),
      fc.array(fc.nat(15), { maxLength: 8 }),
      (words, align, cut, sites) => {
        const list = Uint32Array.from(new Set(sites), (site) => entryAt(NOTE.memory + site * 8)).toSorted();
        const table: RelocationTable = {
          abs64: list,
          inverse32: new Uint32Array(),
          abs32: Uint32Array.of(entryAt(NOTE.memory + 0x80)),
          lists: 3,
        };
        const kernel = readVmlinux(
          makeVmlinux({
            edit: (writer) => {
              words.forEach((value, index) => writer.u32(NOTE.offset + index * 4, value));
              writer.u64(64 + 3 * 56 + 32, Math.max(0, words.length * 4 - cut));
              writer.u64(64 + 3 * 56 + 48, align);
            },
          }),
        );
        assert.deepEqual(leaveOutNotes(table, kernel).table, tableWithoutNotes(table, kernel));
      },
    ),
    { numRuns: 2000 },
  );
});
