/**
 * Reads the parts of ELF that a kernel image uses: header, program headers, section headers, notes. Both classes, little-endian only.
 *
 * All input is untrusted. Counts and offsets are checked against the file before they are used. Whether a section's or segment's bytes lie in the
 * file is checked when a caller asks for them. Nothing is copied: `bytes` fields are views.
 */
import { alignUp, cString, Reader } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import type { FileOffset, PhysAddr, VirtAddr } from '../base/addresses.ts';
import {
  ELF_MAGIC,
  ELFCLASS32,
  ELFCLASS64,
  ELFDATA2LSB,
  EV_CURRENT,
  PN_XNUM,
  PT_NOTE,
  SHN_XINDEX,
  SHT_NOBITS,
  SHT_STRTAB,
} from './constants.ts';
import { EHDR, EHDR_SIZE, NHDR, NHDR_SIZE, PHDR, PHDR_SIZE, readField, readNumber, SHDR, SHDR_SIZE } from './fields.ts';
import type { Field } from './fields.ts';

export interface ElfHeader {
  readonly bits: 32 | 64;
  readonly type: number;
  readonly machine: number;
  readonly entry: bigint;
  readonly phoff: FileOffset;
  readonly shoff: FileOffset;
  /** The real counts, with PN_XNUM and SHN_XINDEX resolved. */
  readonly phnum: number;
  readonly shnum: number;
  readonly shstrndx: number;
}

export interface Segment {
  readonly index: number;
  readonly type: number;
  readonly flags: number;
  readonly offset: FileOffset;
  readonly vaddr: VirtAddr;
  readonly paddr: PhysAddr;
  readonly filesz: number;
  readonly memsz: number;
  readonly align: number;
}

export interface Section {
  readonly index: number;
  readonly nameOffset: number;
  readonly type: number;
  readonly flags: bigint;
  readonly addr: VirtAddr;
  readonly offset: FileOffset;
  readonly size: number;
  readonly link: number;
  readonly info: number;
  readonly addralign: number;
  readonly entsize: number;
}

export interface Note {
  readonly owner: string;
  readonly type: number;
  readonly desc: Uint8Array;
  /** File offset of `desc`. */
  readonly descOffset: FileOffset;
}

export interface ElfFile {
  readonly bytes: Uint8Array;
  readonly header: ElfHeader;
  readonly segments: readonly Segment[];
  readonly sections: readonly Section[];
}

/**
 * Most program headers, and most section headers, that a file may have. Kernels have 80 sections, or some 250,000 with a section for each function and each
 * variable and the relocations of each. Each becomes an object: a file with as many takes 3 s of CPU time and 0.3 GB to inspect (measured). Without this limit
 * a file of 2 GiB, all of it a hole, could ask for 33 million.
 */
export const HEADERS_AT_MOST = 2 ** 19;

export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && new Reader(bytes).u32(0, 'e_ident') === ELF_MAGIC;
}

/** Throws KernelImageError: not ELF, unknown class or byte order, headers outside the file, or entry sizes other than the standard's. */
export function readElf(bytes: Uint8Array): ElfFile {
  const reader = new Reader(bytes);
  const header = readHeader(reader);
  const segments: Segment[] = [];
  for (let index = 0; index < header.phnum; index++) segments.push(readSegment(reader, header, index));
  const sections: Section[] = [];
  for (let index = 0; index < header.shnum; index++) sections.push(readSection(reader, header, index));
  return { bytes, header, segments, sections };
}

function readHeader(reader: Reader): ElfHeader {
  if (!isElf(reader.bytes)) {
    throw new KernelImageError({ code: 'not-a-kernel', what: 'e_ident', offset: 0, expected: '"\\x7fELF"' });
  }
  const elfClass = readNumber(reader, 0, EHDR[64].EI_CLASS, 'EI_CLASS');
  if (elfClass !== ELFCLASS32 && elfClass !== ELFCLASS64) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'EI_CLASS',
      offset: EHDR[64].EI_CLASS[0],
      found: elfClass,
      expected: '1 or 2',
    });
  }
  const byteOrder = readNumber(reader, 0, EHDR[64].EI_DATA, 'EI_DATA');
  if (byteOrder !== ELFDATA2LSB) {
    throw new KernelImageError({
      code: 'wrong-architecture',
      what: 'EI_DATA',
      offset: EHDR[64].EI_DATA[0],
      found: byteOrder,
      expected: '1 (little-endian)',
    });
  }
  const version = readNumber(reader, 0, EHDR[64].EI_VERSION, 'EI_VERSION');
  if (version !== EV_CURRENT) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'EI_VERSION',
      offset: EHDR[64].EI_VERSION[0],
      found: version,
      expected: EV_CURRENT,
    });
  }
  const bits = elfClass === ELFCLASS64 ? 64 : 32;
  reader.need(0, EHDR_SIZE[bits], 'ELF header');
  const number = (name: keyof (typeof EHDR)[64]): number => readNumber(reader, 0, EHDR[bits][name], name);
  const type = number('e_type');
  const machine = number('e_machine');
  const entry = readField(reader, 0, EHDR[bits].e_entry, 'e_entry');
  const phoff = number('e_phoff');
  const shoff = number('e_shoff');
  let phnum = number('e_phnum');
  let shnum = number('e_shnum');
  let shstrndx = number('e_shstrndx');
  if (phnum > 0) expectEntrySize(reader, EHDR[bits].e_phentsize, 'e_phentsize', PHDR_SIZE[bits]);
  if (shoff > 0) {
    expectEntrySize(reader, EHDR[bits].e_shentsize, 'e_shentsize', SHDR_SIZE[bits]);
    // Counts that do not fit 16 bits are in section 0 (System V ABI, "Section Header", index 0).
    reader.need(shoff, SHDR_SIZE[bits], 'section header 0');
    if (shnum === 0) shnum = readNumber(reader, shoff, SHDR[bits].sh_size, 'sh_size[0]');
    if (shstrndx === SHN_XINDEX) shstrndx = readNumber(reader, shoff, SHDR[bits].sh_link, 'sh_link[0]');
    if (phnum === PN_XNUM) phnum = readNumber(reader, shoff, SHDR[bits].sh_info, 'sh_info[0]');
  } else {
    shnum = 0;
  }
  reader.need(phoff, phnum * PHDR_SIZE[bits], `program header table of ${phnum} entries`);
  reader.need(shoff, shnum * SHDR_SIZE[bits], `section header table of ${shnum} entries`);
  expectFewHeaders('program', phnum, phoff);
  expectFewHeaders('section', shnum, shoff);
  return { bits, type, machine, entry, phoff, shoff, phnum, shnum, shstrndx };
}

/** Throws KernelImageError for more of them than HEADERS_AT_MOST. `offset`: where the table is. */
export function expectFewHeaders(kind: 'program' | 'section', found: number, offset: FileOffset): void {
  if (found <= HEADERS_AT_MOST) return;
  throw new KernelImageError({
    code: 'too-large',
    what: `number of ${kind} headers`,
    offset,
    found,
    expected: `at most 0x${HEADERS_AT_MOST.toString(16)}`,
  });
}

function expectEntrySize(reader: Reader, [offset]: Field, field: string, expected: number): void {
  const found = reader.u16(offset, field);
  if (found !== expected) throw new KernelImageError({ code: 'bad-value', what: field, offset, found, expected });
}

function readSegment(reader: Reader, { bits, phoff }: ElfHeader, index: number): Segment {
  const at = phoff + index * PHDR_SIZE[bits];
  const number = (name: keyof (typeof PHDR)[64]): number => readNumber(reader, at, PHDR[bits][name], name);
  return {
    index,
    type: number('p_type'),
    flags: number('p_flags'),
    offset: number('p_offset'),
    vaddr: readField(reader, at, PHDR[bits].p_vaddr, 'p_vaddr'),
    paddr: number('p_paddr'),
    filesz: number('p_filesz'),
    memsz: number('p_memsz'),
    align: number('p_align'),
  };
}

function readSection(reader: Reader, { bits, shoff }: ElfHeader, index: number): Section {
  const at = shoff + index * SHDR_SIZE[bits];
  const number = (name: keyof (typeof SHDR)[64]): number => readNumber(reader, at, SHDR[bits][name], name);
  return {
    index,
    nameOffset: number('sh_name'),
    type: number('sh_type'),
    flags: readField(reader, at, SHDR[bits].sh_flags, 'sh_flags'),
    addr: readField(reader, at, SHDR[bits].sh_addr, 'sh_addr'),
    offset: number('sh_offset'),
    size: number('sh_size'),
    link: number('sh_link'),
    info: number('sh_info'),
    addralign: number('sh_addralign'),
    entsize: number('sh_entsize'),
  };
}

/** The bytes of the segment that the file holds, as a view. Where p_filesz is 0, p_offset means nothing and may lie past the end of the file. */
export function segmentBytes(elf: ElfFile, segment: Segment): Uint8Array {
  if (segment.filesz === 0) return elf.bytes.subarray(0, 0);
  return new Reader(elf.bytes).slice(segment.offset, segment.filesz, `bytes of program header ${segment.index}`);
}

/** A section's contents, as a view; empty for SHT_NOBITS. */
export function sectionBytes(elf: ElfFile, section: Section): Uint8Array {
  if (section.type === SHT_NOBITS || section.size === 0) return new Uint8Array(0);
  return new Reader(elf.bytes).slice(section.offset, section.size, `bytes of section ${section.index}`);
}

/**
 * A section's name, or the empty string if the file has no usable name table. That is no error: names never decide what is loaded. At most `limit` bytes of it:
 * all sections may have the same long name.
 */
export function sectionName(elf: ElfFile, section: Section, limit = 1024): string {
  const names = elf.sections[elf.header.shstrndx];
  if (names === undefined || section.nameOffset >= names.size) return '';
  if (names.offset + names.size > elf.bytes.length) return '';
  return cString(elf.bytes.subarray(names.offset, names.offset + names.size), section.nameOffset, limit);
}

/** The section name table; undefined in a file without sections. Throws KernelImageError when e_shstrndx names no SHT_STRTAB section. */
export function findSectionNames({ header, sections }: ElfFile): Section | undefined {
  if (header.shnum === 0) return undefined;
  const names = sections[header.shstrndx];
  if (names?.type === SHT_STRTAB) return names;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'e_shstrndx',
    offset: EHDR[header.bits].e_shstrndx[0],
    found: header.shstrndx,
    expected: 'the number of a SHT_STRTAB section',
  });
}

/** Throws KernelImageError when e_phnum cannot count one more program header. */
export function expectCountableHeader({ header }: ElfFile): void {
  if (header.phnum + 1 < PN_XNUM) return;
  throw new KernelImageError({
    code: 'unsupported',
    what: 'e_phnum',
    offset: EHDR[header.bits].e_phnum[0],
    found: header.phnum,
    expected: 'room for one more program header',
  });
}

export function findSection(elf: ElfFile, name: string): Section | undefined {
  return elf.sections.find((section) => sectionName(elf, section, name.length + 1) === name);
}

/** Kernels have 500 bytes of notes. Without a limit, a small file could cause any amount of work by naming the same bytes in many segments. */
const NOTES_AT_MOST = 0x10_0000;

/**
 * Where a note's descriptor and the next note begin. `at`, and both results, count from the start of the segment. Readers differ in this wherever
 * p_align is not 4:
 *
 * - `byFour`: name and descriptor are padded to 4 bytes each. Linux, Xen (libelf), and what linkers write in practice: ld gives a PT_NOTE the largest
 *   alignment of its sections, so a .note.gnu.property makes it 8, but each note stays padded to 4 within.
 * - `byEight`: a genuine PT_NOTE of p_align 8. Descriptor and next note begin at multiples of 8, counted from the start: with name "Xen", 16 bytes
 *   after the note's header begins, not 20 (gABI; binutils; Linux's .note.gnu.property).
 * - `byAlignment`: each size is rounded up to p_align by itself. QEMU (include/hw/elf_ops.h.inc) and rust-vmm's linux-loader, which Firecracker and
 *   Cloud Hypervisor use. It is no note format, but those programs find notes by it.
 */
type Reading = (at: number, nameSize: number, descSize: number) => { readonly desc: number; readonly next: number };

const byFour: Reading = (at, nameSize, descSize) => {
  const desc = at + NHDR_SIZE + alignUp(nameSize, 4);
  return { desc, next: desc + alignUp(descSize, 4) };
};

const byEight: Reading = (at, nameSize, descSize) => {
  const desc = alignUp(at + NHDR_SIZE + nameSize, 8);
  return { desc, next: alignUp(desc + descSize, 8) };
};

const byAlignment =
  (align: number): Reading =>
  (at, nameSize, descSize) => {
    const desc = at + NHDR_SIZE + alignUp(nameSize, align);
    return { desc, next: desc + alignUp(descSize, align) };
  };

/** A note's header in its segment. `desc` and `next` need not lie in the segment, nor in the file. */
interface NotePlace {
  readonly at: number;
  readonly nameSize: number;
  readonly descSize: number;
  readonly type: number;
  readonly desc: number;
}

/**
 * All headers that begin in the segment, by one way of reading; the last may reach beyond it. `whole`: the notes fill the segment, and none reaches
 * beyond it. `file`: the bytes from the segment's start to the end of the file.
 */
function walkNotes(
  file: Reader,
  end: number,
  read: Reading,
): { readonly places: NotePlace[]; readonly whole: boolean } {
  const places: NotePlace[] = [];
  let at = 0;
  while (at < end && at + NHDR_SIZE <= file.length) {
    const nameSize = readNumber(file, at, NHDR.n_namesz, 'n_namesz');
    const descSize = readNumber(file, at, NHDR.n_descsz, 'n_descsz');
    const type = readNumber(file, at, NHDR.n_type, 'n_type');
    const { desc, next } = read(at, nameSize, descSize);
    places.push({ at, nameSize, descSize, type, desc });
    if (at + NHDR_SIZE > end || desc + descSize > end) return { places, whole: false };
    at = next;
  }
  return { places, whole: at >= end };
}

function noteSegments(elf: ElfFile): Segment[] {
  const notes = elf.segments.filter(({ type }) => type === PT_NOTE);
  let total = 0;
  for (const { filesz } of notes) {
    total += filesz;
    if (total <= NOTES_AT_MOST) continue;
    throw new KernelImageError({
      code: 'too-large',
      what: 'size of all PT_NOTE segments',
      found: total,
      expected: `at most 0x${NOTES_AT_MOST.toString(16)}`,
    });
  }
  return notes;
}

/**
 * All notes of all PT_NOTE segments, as their linker meant them: padded to 4, or to 8 if p_align is 8 and only that fills the segment. A malformed
 * note ends its segment's notes.
 */
export function readNotes(elf: ElfFile): Note[] {
  return noteSegments(elf).flatMap((segment) => {
    const reader = new Reader(segmentBytes(elf, segment), segment.offset);
    let walk = walkNotes(reader, reader.length, byFour);
    if (!walk.whole && segment.align === 8) {
      const other = walkNotes(reader, reader.length, byEight);
      if (other.whole) walk = other;
    }
    return walk.places
      .filter(({ desc, descSize }) => desc + descSize <= reader.length)
      .map(({ at, nameSize, descSize, type, desc }) => ({
        owner: cString(reader.slice(at + NHDR_SIZE, nameSize, 'note name'), 0),
        type,
        desc: reader.slice(desc, descSize, 'note descriptor'),
        descOffset: segment.offset + desc,
      }));
  });
}

/** The ways in which boot loaders read this segment. */
function readingsOf({ align }: Segment): Reading[] {
  const readings = [byFour];
  if (align !== 0 && align !== 4) readings.push(byAlignment(align));
  if (align === 8) readings.push(byEight);
  return readings;
}

/** A place where some boot loader finds a note's descriptor. It may lie after the end of its segment, but begins in the file. */
export interface LoaderNote {
  readonly segment: Segment;
  readonly descOffset: FileOffset;
  readonly descSize: number;
}

/**
 * Every place where a boot loader may find the descriptor of a note of this type. Loaders look for one type and differ in everything else. So this is
 * wider than `readNotes`:
 *
 * - each way of reading counts, whatever p_align is. QEMU and linux-loader cannot read a PT_NOTE of p_align 0 (the one divides by it, the other refuses
 *   it), so only `byFour` is left for that;
 * - the owner does not count, nor whether its name ends in NUL: QEMU compares neither;
 * - the note may be cut off by the segment's end: QEMU and linux-loader check that its header begins in the segment, and read on in the file.
 *
 * What lies after the segment is not searched for headers. QEMU's loop does so if no note has the type (`findLoaderReads`).
 */
export function findLoaderNotes(elf: ElfFile, type: number): LoaderNote[] {
  const found: LoaderNote[] = [];
  for (const segment of noteSegments(elf)) {
    const { offset, filesz } = segment;
    segmentBytes(elf, segment);
    const file = new Reader(elf.bytes.subarray(offset), offset);
    const seen = new Set<FileOffset>();
    for (const place of readingsOf(segment).flatMap((read) => walkNotes(file, filesz, read).places)) {
      const descOffset = offset + place.desc;
      if (place.type !== type || seen.has(descOffset) || descOffset >= elf.bytes.length) continue;
      seen.add(descOffset);
      found.push({ segment, descOffset, descSize: place.descSize });
    }
  }
  return found;
}

/** Bytes of the file that a boot loader reads while it looks for a note. */
export interface NoteRead {
  readonly segment: Segment;
  readonly offset: FileOffset;
  readonly size: number;
}

/** Bytes of a descriptor that QEMU reads for a 64-bit kernel, whatever n_descsz is. */
const DESCRIPTOR = 8;

/**
 * All bytes that boot loaders read in search of a note of this type, as `findLoaderNotes` has it: the segments, the descriptors, and the headers that QEMU
 * looks at after a segment without the type. QEMU stops at a note that is larger than the segment by itself, and not where the segment ends. What is
 * returned last may reach beyond the end of the file. Throws KernelImageError if the search takes too many steps: it may go on through a whole file of zeros.
 */
export function findLoaderReads(elf: ElfFile, type: number): NoteRead[] {
  const reads: NoteRead[] = [];
  const reader = new Reader(elf.bytes);
  let steps = 0;
  for (const segment of noteSegments(elf)) {
    const { offset, filesz, align } = segment;
    if (filesz === 0) continue;
    reads.push({ segment, offset, size: filesz });
    const file = new Reader(elf.bytes.subarray(offset), offset);
    for (const read of readingsOf(segment))
      for (const place of walkNotes(file, filesz, read).places) {
        reads.push({ segment, offset: offset + place.at, size: NHDR_SIZE });
        if (place.type === type) reads.push({ segment, offset: offset + place.desc, size: DESCRIPTOR });
      }
    // QEMU divides by it.
    if (align === 0) continue;
    for (let at = offset; ; steps++) {
      if (at >= offset + filesz) reads.push({ segment, offset: at, size: NHDR_SIZE });
      if (at + NHDR_SIZE > reader.length) break;
      const { desc, next } = byAlignment(align)(
        0,
        readNumber(reader, at, NHDR.n_namesz, 'n_namesz'),
        readNumber(reader, at, NHDR.n_descsz, 'n_descsz'),
      );
      if (readNumber(reader, at, NHDR.n_type, 'n_type') === type) {
        reads.push({ segment, offset: at + desc, size: DESCRIPTOR });
        break;
      }
      if (next > filesz) break;
      if (steps * NHDR_SIZE > NOTES_AT_MOST) throw tooManyNotes(segment);
      at += next;
    }
  }
  return reads;
}

function tooManyNotes({ index }: Segment): KernelImageError {
  return new KernelImageError({
    code: 'too-large',
    what: `program header ${index} (PT_NOTE): notes, as QEMU reads on after the segment`,
    expected: `a note that it looks for, or one that is none, within 0x${NOTES_AT_MOST.toString(16)} bytes`,
  });
}

/**
 * Where the ELF file ends and appended data begins: the largest end of the headers, segments and sections. If the file was cut off, this is past the
 * end of the bytes; the caller decides what that means.
 */
export function endOfElf(elf: ElfFile): FileOffset {
  const { header } = elf;
  let end = Math.max(
    EHDR_SIZE[header.bits],
    header.phoff + header.phnum * PHDR_SIZE[header.bits],
    header.shoff + header.shnum * SHDR_SIZE[header.bits],
  );
  for (const segment of elf.segments) if (segment.filesz > 0) end = Math.max(end, segment.offset + segment.filesz);
  for (const section of elf.sections) {
    if (section.type !== SHT_NOBITS && section.size > 0) end = Math.max(end, section.offset + section.size);
  }
  return end;
}
