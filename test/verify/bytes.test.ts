/**
 * Each byte of a converted kernel changed, one at a time. That all are refuted shows that nothing in the file goes unchecked; that each is by the
 * check which has that byte shows that the blame falls on the right place.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EHDR, EHDR_SIZE, PHDR, PHDR_SIZE, SHDR, SHDR_SIZE } from '../../src/elf/fields.ts';
import { findSection, readElf } from '../../src/elf/read.ts';
import type { ElfFile, Segment } from '../../src/elf/read.ts';
import { hex } from '../../src/base/errors.ts';
import { ENTRY_BYTES, PARAMETERS, PARAMS } from '../../src/segment/layout.ts';
import type { CheckName } from '../../src/verify/verify.ts';
import type { Original } from '../../src/verify/original.ts';
import { DATA, entryAt, LINK, TABLE } from '../make-vmlinux.ts';
import { examined, forge, original, program } from './forge.ts';
import type { Forgery } from './forge.ts';

interface Region {
  readonly start: number;
  readonly end: number;
  readonly checks: readonly CheckName[];
}

/** The whole of a converted file, by the check that each part of it is for; where regions overlap, the first counts. */
function regionsOf({ kernel }: Original, elf: ElfFile): Region[] {
  const { header, segments, sections, bytes } = elf;
  const region = (check: CheckName | CheckName[], start: number, size: number): Region => {
    return { checks: [check].flat(), start, end: start + size };
  };
  const section = (name: string): { offset: number; size: number } => findSection(elf, name)!;
  const segment = segments.at(-1)!;
  const names = sections[header.shstrndx]!;
  const added = header.phoff + (header.phnum - 1) * PHDR_SIZE[64];
  const [text, table] = [section('.kslide.text'), section('.kslide.table')];
  return [
    // If the program headers had to move after the section headers, e_phoff is checked first, and the two may contradict each other.
    region(header.phoff === 64 ? 'section-headers' : ['section-headers', 'elf-header'], EHDR[64].e_shoff[0], 8),
    region('elf-header', 0, 64),
    region('placement', added + PHDR[64].p_vaddr[0], 16),
    region('placement', added + PHDR[64].p_memsz[0], 8),
    region('program-headers', header.phoff, header.phnum * PHDR_SIZE[64]),
    region('hook', kernel.entryOffset, 5),
    region('original-bytes', 0, kernel.elf.bytes.length),
    region('hook', segment.offset + PARAMS.entry_bytes, 8),
    region('slots', segment.offset + PARAMS.slot_count, 16),
    // A format that exists, but not the table's: the table tells.
    region(['parameters', 'table'], segment.offset + PARAMS.table_format, 4),
    region('parameters', segment.offset, PARAMS.size),
    region('program', text.offset, text.size),
    region('table', table.offset, table.size),
    region('section-names', names.offset, names.size),
    region('section-headers', header.shoff, header.shnum * SHDR_SIZE[64]),
    region('padding', 0, bytes.length),
  ];
}

/** How far from a changed byte the offence may be said to be: in the same field, save where two fields contradict each other. */
const NEAR: Partial<Record<CheckName, number>> = { placement: 48, 'elf-header': 16 };

class Subject {
  readonly kernel: Original;
  readonly converted: Uint8Array;
  readonly elf: ElfFile;
  readonly segment: Segment;
  readonly tableAt: number;
  readonly tableEnd: number;
  readonly #regions: readonly Region[];

  constructor(kernel: Original, forgery: Forgery = {}) {
    this.kernel = kernel;
    this.converted = forge(kernel, forgery);
    this.elf = readElf(this.converted);
    this.segment = this.elf.segments.at(-1)!;
    this.tableAt = this.segment.offset + PARAMS.size + program.length;
    this.tableEnd = this.segment.offset + this.segment.filesz;
    this.#regions = regionsOf(kernel, this.elf);
    assert.equal(examined(kernel, this.converted).verdict, 'proved');
  }

  refuted(at: number, value: number): void {
    const right = this.converted[at]!;
    if (value === right) return;
    this.converted[at] = value;
    const { verdict, offence } = examined(this.kernel, this.converted);
    this.converted[at] = right;
    const what = `byte ${hex(at)} changed from ${hex(right)} to ${hex(value)}: ${JSON.stringify(offence)}`;
    assert.equal(verdict, 'refuted', what);
    const { checks } = this.#regions.find(({ start, end }) => at >= start && at < end)!;
    assert.ok(checks.includes(offence!.check), what);
    // In a compact table all that follows may read otherwise.
    const near = offence!.check === 'table' ? this.tableEnd - this.tableAt + 2 : (NEAR[offence!.check] ?? 8);
    assert.ok(Math.abs(offence!.offset - at) < near, what);
  }
}

const usual = new Subject(await original());
const kernelTable = new Subject(usual.kernel, { format: 'kernel' });
/** Chains of all lengths, in batches of one and of two. */
const manyChains = new Subject(
  await original({
    table: {
      ...TABLE,
      abs32: Uint32Array.from(
        [24, 14, 9, 6, 4, 3, 2, 1, 3, 1].flatMap((length, piece) =>
          Array.from({ length }, (_, index) => entryAt(LINK + 0x400 + piece * 0x180 + index * 5)),
        ),
      ),
      inverse32: Uint32Array.of(entryAt(LINK + 0x1800), entryAt(LINK + 0x18ff), entryAt(DATA.paddr + 0x1000)),
    },
  }),
);
const KERNELS = {
  'as most are': usual,
  "with a table in the kernel's format": kernelTable,
  'without sections': new Subject(await original({ sections: false })),
  'whose program headers have to move': new Subject(await original({ crowded: true })),
};

for (const [name, subject] of Object.entries(KERNELS)) {
  const { kernel, converted } = subject;

  test(`a kernel ${name}: every byte`, () => {
    for (let at = 0; at < converted.length; at++) subject.refuted(at, converted[at]! ^ 0xff);
  });

  test(`a kernel ${name}: every length`, () => {
    for (let length = 0; length < converted.length; length += length < 0x400 ? 1 : 7) {
      const { verdict, offence } = examined(kernel, converted.subarray(0, length));
      assert.equal(verdict, 'refuted', `${length}`);
      assert.ok(offence!.offset <= converted.length);
    }
  });
}

test('every bit of all that is not the original', () => {
  const { elf, entryOffset } = usual.kernel.kernel;
  const places = [
    [0, usual.elf.header.phoff + usual.elf.header.phnum * PHDR_SIZE[64]],
    [entryOffset, entryOffset + ENTRY_BYTES],
    [elf.bytes.length, usual.converted.length],
  ] as const;
  for (const [start, end] of places)
    for (let at = start; at < end; at++)
      for (let bit = 0; bit < 8; bit++) usual.refuted(at, usual.converted[at]! ^ (1 << bit));
});

test('every bit of a table of many chains', () => {
  for (let at = manyChains.tableAt; at < manyChains.tableEnd; at++)
    for (let bit = 0; bit < 8; bit++) manyChains.refuted(at, manyChains.converted[at]! ^ (1 << bit));
});

test('every value of every byte of ELF header, program header, hook, parameters and table', () => {
  const { kernel, elf, segment, tableAt } = usual;
  const { phoff, phnum } = elf.header;
  const { entryOffset } = kernel.kernel;
  const places = [
    [0, EHDR_SIZE[64]],
    [phoff + (phnum - 1) * PHDR_SIZE[64], phoff + phnum * PHDR_SIZE[64]],
    [entryOffset - 1, entryOffset + ENTRY_BYTES + 1],
    [segment.offset, segment.offset + PARAMS.size],
    [tableAt, segment.offset + segment.filesz],
  ] as const;
  for (const [start, end] of places)
    for (let at = start; at < end; at++) for (let value = 0; value < 256; value++) usual.refuted(at, value);
  for (let at = kernelTable.tableAt; at < kernelTable.tableEnd; at++)
    for (let value = 0; value < 256; value++) kernelTable.refuted(at, value);
  for (let value = 0; value < 256; value++)
    kernelTable.refuted(kernelTable.segment.offset + PARAMS.table_format, value);
});

test('the structures that are compared field by field have no gaps', () => {
  for (const [layout, size] of [
    [EHDR[64], EHDR_SIZE[64]],
    [PHDR[64], PHDR_SIZE[64]],
    [SHDR[64], SHDR_SIZE[64]],
    [PARAMETERS, PARAMS.virt_slide + 8],
  ] as const) {
    let end = 0;
    for (const [offset, width] of Object.values(layout)) {
      assert.equal(offset, end);
      end += width;
    }
    assert.equal(end, size);
  }
});
