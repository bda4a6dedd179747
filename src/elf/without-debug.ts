/**
 * Reads an ELF file that is too large for memory without its debug sections. A debug build's vmlinux may have 5 GB, of which the kernel itself, its
 * relocations and its symbols are 100 MB.
 *
 * The result is an ELF file of its own, as after `strip -g`: what the headers name keeps its order, and moves towards the start. Segments move by
 * multiples of 2 MiB, so that p_offset still fits p_vaddr. Bytes that no header names are left out. Sections keep their numbers, which symbols use: the
 * header of one that is left out is all zeros, which is SHT_NULL, inactive.
 *
 * What is left out is decided by names, as in binutils: a section that is not loaded and is called `.debug…`, and relocations of one.
 */
import type { FileOffset } from '../base/addresses.ts';
import { cString, Reader, Writer } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import {
  ELFCLASS64,
  ELFDATA2LSB,
  ET_DYN,
  ET_EXEC,
  PN_XNUM,
  SHF_ALLOC,
  SHT_NOBITS,
  SHT_PROGBITS,
  SHT_REL,
  SHT_RELA,
} from './constants.ts';
import { EHDR, EHDR_SIZE, PHDR, PHDR_SIZE, readNumber, SHDR, SHDR_SIZE, writeFields } from './fields.ts';
import { endOfElf, HEADERS_AT_MOST, isElf, readElf } from './read.ts';
import type { ElfFile, Section } from './read.ts';

/** Fills `into` with the file's bytes from `offset` on, all of which the file has. */
export type ReadInto = (into: Uint8Array, offset: FileOffset) => void;

/**
 * Bytes of each header table, and of the section names. A hostile file of as many sections, each alone in a hole of 16 MB, takes 14 s of CPU time and 0.6 GB to inspect (measured), most of it in
 * one `read` for each.
 */
const HEADER_BYTES_AT_MOST = HEADERS_AT_MOST * SHDR_SIZE[64];
/** Segments keep their offsets modulo this, other parts theirs modulo that. */
const SEGMENT_ALIGN = 0x20_0000;
const PART_ALIGN = 64;

const DEBUG_NAMES = ['.debug', '.zdebug', '.gdb_index', '.stab', '.line', '.gnu.debuglto_.debug'];

/**
 * The file without its debug sections. Undefined for anything but a 64-bit ELF program. Reads and allocates no more than `limit` bytes and 2^28 for headers.
 * Throws KernelImageError: `too-large` if the rest has more than `limit`; `truncated` if a header names bytes after the file's end.
 */
export function readWithoutDebug(size: FileOffset, read: ReadInto, limit: number): Uint8Array | undefined {
  const take = (offset: FileOffset, length: number, what: string): Uint8Array => {
    expectInside(offset, length, size, what);
    if (length > HEADER_BYTES_AT_MOST) throw tooLarge(what, length, HEADER_BYTES_AT_MOST);
    const bytes = new Uint8Array(length);
    read(bytes, offset);
    return bytes;
  };
  const header = take(0, Math.min(size, EHDR_SIZE[64]), 'ELF header');
  if (!isProgram64(header)) return undefined;
  const tables = readTables(header, take);
  const { elf } = tables;
  const debug = findDebugSections(elf, take);
  const end = Math.max(endOfElf(elf), ...headerTables(tables).map(({ start, length }) => start + length));
  expectInside(end, 0, size, 'ELF file, by its headers');
  const places = layOut(partsOf(tables, debug, { end, size }));
  const length = places.at(-1)!.to + places.at(-1)!.length;
  if (length > limit) throw tooLarge('ELF file without its debug sections', length, limit);

  const bytes = new Uint8Array(length);
  for (const { start, length: count, to } of places) read(bytes.subarray(to, to + count), start);
  rewriteHeaders(bytes, tables, debug, (offset) => moved(places, offset));
  return bytes;
}

function isProgram64(header: Uint8Array): boolean {
  if (header.length < EHDR_SIZE[64] || !isElf(header)) return false;
  const reader = new Reader(header);
  const field = (name: keyof (typeof EHDR)[64]): number => readNumber(reader, 0, EHDR[64][name], name);
  const type = field('e_type');
  return field('EI_CLASS') === ELFCLASS64 && field('EI_DATA') === ELFDATA2LSB && (type === ET_EXEC || type === ET_DYN);
}

type Take = (offset: FileOffset, length: number, what: string) => Uint8Array;

interface Tables {
  /** Of the three header tables alone, one after the other: `phoff` and `shoff` of its header are not the file's, all other offsets are. */
  readonly elf: ElfFile;
  /** Where the program and section headers are in the file. */
  readonly phoff: FileOffset;
  readonly shoff: FileOffset;
}

function readTables(header: Uint8Array, take: Take): Tables {
  const reader = new Reader(header);
  const field = (name: keyof (typeof EHDR)[64]): number => readNumber(reader, 0, EHDR[64][name], name);
  const [phoff, shoff] = [field('e_phoff'), field('e_shoff')];
  let [phnum, shnum] = [field('e_phnum'), shoff === 0 ? 0 : field('e_shnum')];
  // Counts that do not fit 16 bits are in section 0.
  if (shoff > 0 && (shnum === 0 || phnum === PN_XNUM)) {
    const first = new Reader(take(shoff, SHDR_SIZE[64], 'section header 0'), shoff);
    if (shnum === 0) shnum = readNumber(first, 0, SHDR[64].sh_size, 'sh_size[0]');
    if (phnum === PN_XNUM) phnum = readNumber(first, 0, SHDR[64].sh_info, 'sh_info[0]');
  }
  const programs = take(phoff, phnum * PHDR_SIZE[64], `program header table of ${phnum} entries`);
  const sections = take(shoff, shnum * SHDR_SIZE[64], `section header table of ${shnum} entries`);
  const bytes = new Uint8Array(EHDR_SIZE[64] + programs.length + sections.length);
  const at = { programs: EHDR_SIZE[64], sections: EHDR_SIZE[64] + programs.length };
  bytes.set(header);
  bytes.set(programs, at.programs);
  bytes.set(sections, at.sections);
  const places = { e_phoff: at.programs, e_shoff: shoff === 0 ? 0 : at.sections };
  writeFields(new Writer(bytes), 0, EHDR[64], places);
  try {
    return { elf: readElf(bytes), phoff, shoff };
  } catch (error) {
    if (!(error instanceof KernelImageError) || error.data.offset === undefined) throw error;
    const { offset } = error.data;
    const [from, to] =
      offset < at.programs ? [0, 0] : offset < at.sections ? [at.programs, phoff] : [at.sections, shoff];
    throw new KernelImageError({ ...error.data, offset: offset - from + to });
  }
}

/** Their numbers. None in a file without section names. */
function findDebugSections({ header, sections }: ElfFile, take: Take): Set<number> {
  const debug = new Set<number>();
  const table = sections[header.shstrndx];
  if (table === undefined || table.type === SHT_NOBITS) return debug;
  const names = take(table.offset, table.size, 'section names');
  for (const { index, nameOffset, type, flags } of sections) {
    if (type !== SHT_PROGBITS || (flags & SHF_ALLOC) !== 0n || nameOffset >= names.length) continue;
    const name = cString(names, nameOffset, 32);
    if (DEBUG_NAMES.some((start) => name.startsWith(start))) debug.add(index);
  }
  for (const { index, type, info } of sections)
    if ((type === SHT_RELA || type === SHT_REL) && debug.has(info)) debug.add(index);
  return debug;
}

interface Part {
  readonly start: FileOffset;
  length: number;
  align: number;
}

function headerTables({ elf: { header }, phoff, shoff }: Tables): Part[] {
  return [
    { start: phoff, length: header.phnum * PHDR_SIZE[64], align: PART_ALIGN },
    { start: shoff, length: header.shnum * SHDR_SIZE[64], align: PART_ALIGN },
  ];
}

/** What is kept: headers, segments, the other sections, and what follows the ELF file. */
function partsOf(
  tables: Tables,
  debug: ReadonlySet<number>,
  { end, size }: { readonly end: FileOffset; readonly size: FileOffset },
): Part[] {
  const { segments, sections } = tables.elf;
  // Not aligned: a reader looks for it where the ELF file ends.
  const trailer = { start: end, length: size - end, align: 1 };
  return [
    { start: 0, length: EHDR_SIZE[64], align: SEGMENT_ALIGN },
    ...headerTables(tables),
    ...segments.map(({ offset, filesz }) => ({ start: offset, length: filesz, align: SEGMENT_ALIGN })),
    ...sections
      .filter((section) => hasBytes(section) && !debug.has(section.index))
      .map(({ offset, size: length }) => ({ start: offset, length, align: PART_ALIGN })),
    trailer,
  ].filter(({ length }) => length > 0);
}

/** Section 0 has none: it may hold counts. */
function hasBytes({ index, type }: Section): boolean {
  return index > 0 && type !== SHT_NOBITS;
}

interface Place {
  readonly start: FileOffset;
  readonly length: number;
  /** Offset in the result. */
  readonly to: FileOffset;
}

/** The places of the parts, by rising offset. Parts that touch or overlap stay together. */
function layOut(parts: readonly Part[]): Place[] {
  const whole: Part[] = [];
  for (const part of parts.toSorted((a, b) => a.start - b.start)) {
    const last = whole.at(-1);
    if (last === undefined || part.start > last.start + last.length) {
      whole.push({ ...part });
      continue;
    }
    last.length = Math.max(last.length, part.start + part.length - last.start);
    last.align = Math.max(last.align, part.align);
  }
  let at = 0;
  return whole.map(({ start, length, align }) => {
    const skipped = (start - at) % align;
    const to = at + skipped;
    at = to + length;
    return { start, length, to };
  });
}

/** The new offset of a byte that is kept. For another one, as a segment without file bytes may name it, one that is the same modulo 2 MiB. */
function moved(places: readonly Place[], offset: FileOffset): FileOffset {
  let [low, high] = [0, places.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle]!.start <= offset) low = middle + 1;
    else high = middle;
  }
  const place = places[low - 1];
  return place !== undefined && offset <= place.start + place.length
    ? offset - place.start + place.to
    : offset % SEGMENT_ALIGN;
}

function rewriteHeaders(
  bytes: Uint8Array,
  { elf, phoff, shoff }: Tables,
  debug: ReadonlySet<number>,
  move: (offset: FileOffset) => FileOffset,
): void {
  const writer = new Writer(bytes);
  writeFields(writer, 0, EHDR[64], { e_phoff: move(phoff), e_shoff: shoff === 0 ? 0 : move(shoff) });
  for (const { index, offset } of elf.segments)
    writeFields(writer, move(phoff) + index * PHDR_SIZE[64], PHDR[64], { p_offset: move(offset) });
  for (const { index, offset } of elf.sections) {
    const at = move(shoff) + index * SHDR_SIZE[64];
    if (debug.has(index)) bytes.fill(0, at, at + SHDR_SIZE[64]);
    else if (index > 0) writeFields(writer, at, SHDR[64], { sh_offset: move(offset) });
  }
}

function expectInside(offset: FileOffset, length: number, size: FileOffset, what: string): void {
  if (offset + length <= size) return;
  throw new KernelImageError({
    code: 'truncated',
    what,
    offset: length === 0 ? size : offset,
    expected:
      length === 0
        ? `an end at 0x${offset.toString(16)}`
        : `0x${length.toString(16)} bytes before the end at 0x${size.toString(16)}`,
  });
}

function tooLarge(what: string, found: number, limit: number): KernelImageError {
  return new KernelImageError({
    code: 'too-large',
    what: `size of ${what}`,
    found,
    expected: `at most 0x${limit.toString(16)}`,
  });
}
