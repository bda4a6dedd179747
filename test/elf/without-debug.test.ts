/** A vmlinux of more than 2 GiB is read as if strip -g had been run over it. The kernel's own relocs tool and strip are the judges. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { Writer } from '../../src/base/bytes.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { EHDR, PHDR, PHDR_SIZE, SHDR, SHDR_SIZE, writeFields } from '../../src/elf/fields.ts';
import { findSection, readElf, sectionBytes, sectionName, segmentBytes } from '../../src/elf/read.ts';
import { readWithoutDebug } from '../../src/elf/without-debug.ts';
import { grow, sparseReader, trailerOf } from '../big-vmlinux.ts';
import type { Sparse } from '../big-vmlinux.ts';
import { DATA, makeVmlinux } from '../make-vmlinux.ts';
import { makeKernel64, scratchFile } from '../relocs/fixtures.ts';
import { judge, kslideRelocs, skip, skipNewer } from '../relocs/judge.ts';

const GIB = 2 ** 30;
const LIMIT = 2 * GIB;
const HOLES = [0, 9 * 2 ** 28, 5 * GIB, 2 ** 43] as const;

function reduce(file: Sparse): Uint8Array {
  const { read, count } = sparseReader(file);
  const bytes = readWithoutDebug(file.size, read, LIMIT);
  assert.ok(bytes);
  // Headers are read twice.
  assert.ok(count.bytes <= 2 * bytes.length, `${count.bytes} bytes were read for ${bytes.length}`);
  return bytes;
}

function named(file: Uint8Array): Map<string, Uint8Array> {
  const elf = readElf(file);
  return new Map(elf.sections.map((section) => [sectionName(elf, section), sectionBytes(elf, section)]));
}

for (const perCpu of ['zero', 'placed', 'none'] as const) {
  const kernel = makeKernel64({ perCpu, reserved: { name: '.data.reloc', size: 512 } });

  test(`${perCpu}: what is kept is the same, whatever the size`, () => {
    const [first, ...others] = HOLES.map((hole) => reduce(grow(kernel, hole)));
    for (const other of others) assert.deepEqual(other, first);
    const [before, after] = [readElf(kernel), readElf(first!)];
    assert.equal(after.sections.length, before.sections.length);
    assert.deepEqual(
      after.segments.map(({ offset, ...rest }) => ({ ...rest, offset: offset % 0x20_0000 })),
      before.segments.map(({ offset, ...rest }) => ({ ...rest, offset: offset % 0x20_0000 })),
    );
    for (const [index, segment] of before.segments.entries())
      assert.deepEqual(segmentBytes(after, after.segments[index]!), segmentBytes(before, segment));
    for (const section of before.sections) {
      const here = after.sections[section.index]!;
      if (/^(\.rela)?\.debug_/.test(sectionName(before, section))) {
        assert.deepEqual(first!.subarray(after.header.shoff + section.index * 64).subarray(0, 64), new Uint8Array(64));
        continue;
      }
      assert.deepEqual({ ...here, offset: 0 }, { ...section, offset: 0 });
      assert.deepEqual(sectionBytes(after, here), sectionBytes(before, section));
    }
  });

  test(`${perCpu}: strip -g leaves the same sections`, () => {
    const [from, to] = [scratchFile('with-debug'), scratchFile('without-debug')];
    writeFileSync(from, kernel);
    execFileSync('strip', ['-g', '-o', to, from]);
    const [theirs, ours] = [named(readFileSync(to)), named(reduce(grow(kernel, 5 * GIB)))];
    assert.deepEqual([...ours.keys()], [...theirs.keys()]);
    for (const [name, bytes] of theirs)
      // Strip sorts symbols and names, and so symbols in relocations have other numbers.
      if (!/^\.(rela|symtab|strtab|shstrtab)/.test(name)) assert.deepEqual(ours.get(name), new Uint8Array(bytes), name);
  });

  test(`${perCpu}: the same relocations`, { skip: perCpu === 'zero' ? skip : skipNewer }, () => {
    const lists = perCpu === 'zero' ? 3 : 2;
    const bytes = reduce(grow(kernel, 5 * GIB));
    const path = scratchFile('reduced');
    writeFileSync(path, bytes);
    const ours = kslideRelocs(bytes, [], lists);
    assert.equal(ours.status, 0, ours.refusal);
    assert.deepEqual(ours.stdout, kslideRelocs(kernel, [], lists).stdout);
    assert.deepEqual(ours.stdout, judge(path, [], { lists }).stdout);
    assert.deepEqual(kslideRelocs(bytes, ['--abs-syms'], lists).stdout, judge(path, ['--abs-syms'], { lists }).stdout);
  });
}

test('bytes that no header names are left out, and the table after the ELF file stays there', () => {
  const kernel = makeVmlinux();
  const { header, sections } = readElf(kernel);
  for (const at of [header.shoff, sections[header.shstrndx]!.offset, DATA.offset, 64 + header.phnum * PHDR_SIZE[64]])
    for (const hole of HOLES.slice(1)) {
      const bytes = reduce(grow(kernel, hole, at));
      assert.ok(bytes.length <= kernel.length + 64, `a hole at ${at}: ${bytes.length} bytes`);
      assert.deepEqual(trailerOf(bytes), trailerOf(kernel));
      assert.equal(trailerOf(bytes).length, 4 * 9);
    }
  // Section headers at the end, with nothing after them.
  const bare = kernel.subarray(0, kernel.length - trailerOf(kernel).length);
  for (const hole of HOLES.slice(1)) assert.equal(trailerOf(reduce(grow(bare, hole, header.shoff))).length, 0);
});

test('segments may lie after the hole, and keep p_offset modulo 2 MiB', () => {
  const kernel = makeVmlinux();
  const bytes = reduce(grow(kernel, 3 * GIB + 0x7000, DATA.offset));
  const elf = readElf(bytes);
  assert.equal(elf.segments[2]!.offset % 0x20_0000, DATA.offset + 0x7000);
  assert.deepEqual(segmentBytes(elf, elf.segments[2]!), kernel.subarray(DATA.offset, DATA.offset + DATA.size));
  assert.deepEqual(trailerOf(bytes), trailerOf(kernel));
});

test('a segment without file bytes may name any offset', () => {
  const kernel = makeVmlinux({
    edit: (elf) => {
      elf.u64(64 + 56 + 8, 7 * GIB + 0x4000);
      elf.u64(64 + 56 + 32, 0);
    },
  });
  const elf = readElf(reduce(grow(kernel, 5 * GIB)));
  assert.equal(elf.segments[1]!.offset, 0x4000);
  assert.equal(elf.segments[1]!.filesz, 0);
});

/** The kernel with 5 GiB of .debug_info, with a change. */
function forged(edit: (writer: Writer, at: { shoff: number; phoff: number; names: number }) => void): Sparse {
  const big = grow(makeKernel64(), 5 * GIB);
  const head = big.pieces[0]!.bytes;
  const { phoff, shstrndx } = readElf(makeKernel64()).header;
  const shoff = Number(new DataView(head.buffer, head.byteOffset).getBigUint64(40, true)) - 5 * GIB;
  edit(new Writer(new Uint8Array(head.buffer)), { shoff, phoff, names: shoff + shstrndx * SHDR_SIZE[64] });
  return big;
}

function refusal(file: Sparse): string {
  const { read, count } = sparseReader(file);
  try {
    readWithoutDebug(file.size, read, LIMIT);
  } catch (error) {
    assert.ok(error instanceof KernelImageError, String(error));
    assert.ok(count.bytes < 2 ** 20, `${count.bytes} bytes were read`);
    return `${error.code}: ${error.message}`;
  }
  return 'read';
}

test('hostile headers are refused at once, with what is wrong and where', () => {
  const shoffOf = (file: Sparse): number => readHeaderOffset(file);
  const cases: [string, (file: Sparse) => RegExp, Parameters<typeof forged>[0], more?: number][] = [
    [
      'section headers after the end',
      () => /^truncated: .*section header table of \d+ entries at offset 0x80000000000/,
      (elf) => elf.u64(40, 2 ** 43),
    ],
    ['program headers after the end', () => /^truncated: .*program header table of 3/, (elf) => elf.u64(32, 2 ** 43)],
    ['e_shentsize', () => /^bad-value: .*e_shentsize at offset 0x3a is 0x28, expected 0x40/, (elf) => elf.u16(58, 40)],
    [
      'more headers than memory',
      () => /^too-large: .*size of section header table of 16777216 entries is 0x40000000, expected at most 0x2000000$/,
      (elf, { shoff }) => {
        elf.u16(60, 0);
        writeFields(elf, shoff, SHDR[64], { sh_size: 2 ** 24 });
      },
      2 * GIB,
    ],
    [
      'a count of sections that no file can hold',
      () => /^truncated: .*section header table of 4503599627370496 entries/,
      (elf, { shoff }) => {
        elf.u16(60, 0);
        writeFields(elf, shoff, SHDR[64], { sh_size: 2 ** 52 });
      },
    ],
    [
      'an offset of 2^60',
      (file) =>
        new RegExp(
          `^bad-value: .*sh_offset at offset 0x${(shoffOf(file) + 64 + 24).toString(16)} is 0x1000000000000000`,
        ),
      (elf, { shoff }) => writeFields(elf, shoff + 64, SHDR[64], { sh_offset: 2n ** 60n }),
    ],
    [
      'a p_offset of 2^60',
      () => /^bad-value: .*p_offset at offset 0x80 is 0x1000000000000000/,
      (elf, { phoff }) => elf.u64(phoff + PHDR_SIZE[64] + 8, 2n ** 60n),
    ],
    [
      'a section that ends after the file',
      () => /^truncated: .*ELF file, by its headers at offset 0x[0-9a-f]+: expected an end at 0x10000100001/,
      (elf, { shoff }) => writeFields(elf, shoff + 64, SHDR[64], { sh_size: 2 ** 40, sh_offset: 2 ** 20 + 1 }),
    ],
    [
      'section names of 4 GiB',
      () => /^too-large: .*size of section names is 0x100000000/,
      (elf, { names }) => writeFields(elf, names, SHDR[64], { sh_size: 4 * GIB, sh_offset: 0 }),
    ],
    [
      'a segment of 3 GiB',
      () => /^too-large: .*size of ELF file without its debug sections is 0xc[0-9a-f]+, expected at most 0x80000000/,
      (elf, { phoff }) => elf.u64(phoff + 32, 3 * GIB),
    ],
    [
      'no section names, and so no debug sections',
      () => /^too-large: .*without its debug sections/,
      (elf) => writeFields(elf, 0, EHDR[64], { e_shstrndx: 0 }),
    ],
  ];
  for (const [name, expected, edit, more = 0] of cases) {
    const { size, pieces } = forged(edit);
    const file = { size: size + more, pieces };
    assert.match(refusal(file), expected(file), name);
  }
});

function readHeaderOffset({ pieces }: Sparse): number {
  const { bytes } = pieces[0]!;
  return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(40, true));
}

test('3 GiB after the ELF file are no table', () => {
  const { size, pieces } = grow(makeKernel64(), 5 * GIB);
  assert.match(refusal({ size: size + 3 * GIB, pieces }), /^too-large: .*without its debug sections/);
});

test('524,288 sections over 8 TB, each in a place of its own', () => {
  const count = 2 ** 19;
  const file = new Writer(new Uint8Array(64 + count * 64));
  file.copy(0, makeVmlinux().subarray(0, 64));
  writeFields(file, 0, EHDR[64], { e_phnum: 0, e_shoff: 64, e_shnum: 0, e_shstrndx: 0 });
  for (let index = 1; index < count; index++)
    writeFields(file, 64 + index * 64, SHDR[64], { sh_type: 1, sh_offset: (index + 2) * 2 ** 24, sh_size: 1 });
  writeFields(file, 64, SHDR[64], { sh_type: 0, sh_offset: 0, sh_size: count });
  const size = (count + 1) * 2 ** 24 + 1;
  const { read, count: total } = sparseReader({ size, pieces: [{ offset: 0, bytes: file.bytes }] });
  const bytes = readWithoutDebug(size, read, LIMIT);
  assert.equal(bytes?.length, 64 + count * 64 + (count - 2) * 64 + 1);
  assert.ok(total.bytes < 2 * bytes.length);
});

test('what is no 64-bit ELF program for a little-endian machine is left to others', () => {
  for (const [at, value] of [
    [0, 0],
    [4, 1],
    [5, 2],
    [16, 4],
    [16, 1],
  ] as const) {
    const bytes = makeVmlinux();
    bytes[at] = value;
    assert.equal(readWithoutDebug(bytes.length, sparseReader(grow0(bytes)).read, LIMIT), undefined);
  }
  assert.equal(
    readWithoutDebug(0, () => {}, LIMIT),
    undefined,
  );
});

function grow0(bytes: Uint8Array): Sparse {
  return { size: bytes.length, pieces: [{ offset: 0, bytes }] };
}

test('.debug_info that is loaded is kept', () => {
  const file = makeKernel64();
  const elf = readElf(file);
  const { index, size } = findSection(elf, '.debug_info')!;
  writeFields(new Writer(file), elf.header.shoff + index * 64, SHDR[64], { sh_flags: 2 });
  assert.equal(findSection(readElf(reduce(grow0(file))), '.debug_info')?.size, size);
});

test('whatever the headers say: a file of at most the limit, or one error', () => {
  const kernel = makeKernel64();
  const { header } = readElf(kernel);
  const values = fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 6n * BigInt(GIB)), fc.bigInt(0n, 0x8000n));
  const fields = [EHDR[64], PHDR[64], SHDR[64]].map((layout) => Object.keys(layout));
  const edit = fc.record({ table: fc.nat(2), entry: fc.nat(255), field: fc.nat(255), value: values });
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      // Two views of one array, which has the headers where they were.
      const big = grow(kernel, 5 * GIB);
      const bytes = new Uint8Array(big.pieces[0]!.bytes.buffer);
      for (const { table, entry, field, value } of edits) {
        const [at, size, count] = [
          [0, 0, 1],
          [header.phoff, PHDR_SIZE[64], header.phnum],
          [header.shoff, SHDR_SIZE[64], header.shnum],
        ][table]! as [number, number, number];
        const layout = [EHDR[64], PHDR[64], SHDR[64]][table]!;
        const name = fields[table]![field % fields[table]!.length]!;
        writeFields(new Writer(bytes), at + (entry % count) * size, layout, { [name]: value });
      }
      const { read, count } = sparseReader(big);
      const limit = 2 ** 22;
      try {
        const result = readWithoutDebug(big.size, read, limit);
        assert.ok(result === undefined || result.length <= limit);
        if (result !== undefined) readElf(result);
      } catch (error) {
        assert.ok(error instanceof KernelImageError, String(error));
      }
      assert.ok(count.bytes <= limit + 2 ** 27);
    }),
    { numRuns: Number(process.env['RUNS'] ?? 300) },
  );
});
