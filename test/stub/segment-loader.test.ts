/**
 * The segment loader's instructions, as offset, bytes and assembly: written down in segment-loader.golden.txt, and read back from the bytes by objdump and
 * iced-x86. After an intended change: KSLIDE_UPDATE_GOLDEN=1, and read the diff. Real boots show that it copies right (test/boot/bzimage.test.ts).
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { formatListing } from '../../src/asm/assembler.ts';
import { isZero, Reader } from '../../src/base/bytes.ts';
import { assembleSegmentLoader } from '../../src/stub/segment-loader-program.ts';
import { buildSegmentLoader, ENTRY_64, MAX_SEGMENT_COPIES, SEGMENT_LOADER } from '../../src/stub/segment-loader.ts';
import { iced, objdump } from '../asm/judges.ts';

const { code, listing } = assembleSegmentLoader();
const golden = fileURLToPath(new URL('segment-loader.golden.txt', import.meta.url));
const LONG_MODE = 0x180;

test('the code is the one that was reviewed', () => {
  const text = formatListing(listing);
  if (process.env['KSLIDE_UPDATE_GOLDEN'] !== undefined) writeFileSync(golden, text);
  assert.equal(text, readFileSync(golden, 'utf8'));
});

test('objdump and iced-x86 read every instruction as it is meant', () => {
  const parts = [
    { start: 0, limit: LONG_MODE, bits: 32 },
    { start: LONG_MODE, limit: ENTRY_64, bits: 64 },
    { start: ENTRY_64, limit: SEGMENT_LOADER.gdt, bits: 64 },
  ] as const;
  for (const { start, limit, bits } of parts) {
    const own = listing.filter((line) => !line.data && line.offset >= start && line.offset < limit);
    const end = own.at(-1)!.offset + own.at(-1)!.bytes.length;
    // Mnemonics only: operands of branches are relative to the part that the judge sees.
    const ALIAS: Record<string, string> = { movabs: 'mov', lgdtd: 'lgdt', ret: 'retf' };
    const bare = (text: string): string => ALIAS[text.split(/[ ,]/)[0]!] ?? text.split(/[ ,]/)[0]!;
    const expected = own.map(({ offset, bytes, text }) => `${offset - start} ${bytes.length} ${bare(text)}`);
    const part = code.subarray(start, end);
    for (const judged of [objdump(part, bits), iced(part, bits)])
      assert.deepEqual(
        judged.map(({ offset, bytes, text }) => `${offset} ${bytes.length} ${bare(text)}`),
        expected,
      );
  }
});

test('the data describes the kernel', () => {
  const copies = [
    { file: 0, memory: 0, filesz: 0x3000, memsz: 0x3000 },
    { file: 0x20_4000, memory: 0x4000, filesz: 0x2000, memsz: 0x5000 },
  ];
  const bytes = buildSegmentLoader({ first: 0x40_0000, link: 0x100_0000, entry: 0x100_0230, align: 0x20_0000, copies });
  const reader = new Reader(bytes);
  const u64 = (at: number): number => reader.u64AsNumber(at, 'u64');
  assert.equal(bytes.length, SEGMENT_LOADER.size);
  assert.deepEqual(bytes.subarray(0, code.length), code);
  assert.deepEqual(
    [u64(SEGMENT_LOADER.first), u64(SEGMENT_LOADER.link), u64(SEGMENT_LOADER.entry)],
    [0x40_0000, 0x100_0000, 0x100_0230],
  );
  assert.deepEqual([u64(SEGMENT_LOADER.align_mask), u64(SEGMENT_LOADER.lead)], [0x1f_ffff, 0x20_0000]);
  assert.deepEqual([reader.u32(SEGMENT_LOADER.count, ''), reader.u32(SEGMENT_LOADER.in_place, '')], [2, 1]);
  assert.deepEqual(
    [0, 8, 16, 24].map((at) => u64(SEGMENT_LOADER.copies + 32 + at)),
    [0x20_4000, 0x4000, 0x2000, 0x5000],
  );
  assert.ok(isZero(bytes.subarray(SEGMENT_LOADER.copies + 64)));
});

test('a segment that lies lower in the file than in memory cannot stay', () => {
  const copy = { filesz: 1, memsz: 1 };
  const copies = [
    { ...copy, file: 0, memory: 0 },
    { ...copy, file: 0x1000, memory: 0x2000 },
  ];
  const plan = { first: 0x20_0000, link: 0x100_0000, entry: 0x100_0000, align: 0x20_0000 };
  assert.equal(new Reader(buildSegmentLoader({ ...plan, copies })).u32(SEGMENT_LOADER.in_place, ''), 0);
  const many = Array.from({ length: MAX_SEGMENT_COPIES + 1 }, () => ({ ...copy, file: 0, memory: 0 }));
  assert.throws(() => buildSegmentLoader({ ...plan, copies: many }), RangeError);
});
