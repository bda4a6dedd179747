/**
 * ELF, as much of it as a kernel image uses: header, program headers, section headers, notes. Both classes, little-endian only.
 *
 * Everything is untrusted: counts and offsets are checked against the file before they are used, and a section's or segment's bytes
 * are checked when they are asked for. Nothing is copied: `bytes` fields are views.
 */
import { cString, Reader } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import type { FileOffset, PhysAddr, VirtAddr } from '../base/addresses.ts';
import {
  EHDR_SIZE,
  ELF_MAGIC,
  ELFCLASS32,
  ELFCLASS64,
  ELFDATA2LSB,
  EV_CURRENT,
  PHDR_SIZE,
  PN_XNUM,
  PT_NOTE,
  SHDR_SIZE,
  SHN_XINDEX,
  SHT_NOBITS,
} from './constants.ts';

export interface ElfHeader {
  readonly bits: 32 | 64;
  readonly type: number;
  readonly machine: number;
  readonly entry: bigint;
  readonly phoff: FileOffset;
  readonly shoff: FileOffset;
  /** The real counts, after PN_XNUM and SHN_XINDEX. */
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

export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && new Reader(bytes).u32(0, 'e_ident') === ELF_MAGIC;
}

/** Throws KernelImageError: not ELF, unknown class or byte order, headers outside the file, or entry sizes that are not the standard's. */
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
  const elfClass = reader.u8(4, 'EI_CLASS');
  if (elfClass !== ELFCLASS32 && elfClass !== ELFCLASS64) {
    throw new KernelImageError({ code: 'bad-value', what: 'EI_CLASS', offset: 4, found: elfClass, expected: '1 or 2' });
  }
  const byteOrder = reader.u8(5, 'EI_DATA');
  if (byteOrder !== ELFDATA2LSB) {
    throw new KernelImageError({
      code: 'wrong-architecture',
      what: 'EI_DATA',
      offset: 5,
      found: byteOrder,
      expected: '1 (little-endian)',
    });
  }
  const version = reader.u8(6, 'EI_VERSION');
  if (version !== EV_CURRENT) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'EI_VERSION',
      offset: 6,
      found: version,
      expected: EV_CURRENT,
    });
  }
  const bits = elfClass === ELFCLASS64 ? 64 : 32;
  const wide = bits === 64;
  reader.need(0, EHDR_SIZE[bits], 'ELF header');
  const type = reader.u16(16, 'e_type');
  const machine = reader.u16(18, 'e_machine');
  const entry = wide ? reader.u64(24, 'e_entry') : BigInt(reader.u32(24, 'e_entry'));
  const phoff = wide ? reader.u64AsNumber(32, 'e_phoff') : reader.u32(28, 'e_phoff');
  const shoff = wide ? reader.u64AsNumber(40, 'e_shoff') : reader.u32(32, 'e_shoff');
  const counts = wide ? 54 : 42; // e_phentsize; the five u16 from here on have the same order in both classes
  let phnum = reader.u16(counts + 2, 'e_phnum');
  let shnum = reader.u16(counts + 6, 'e_shnum');
  let shstrndx = reader.u16(counts + 8, 'e_shstrndx');
  if (phnum > 0) expectEntrySize(reader, counts, 'e_phentsize', PHDR_SIZE[bits]);
  if (shoff > 0) {
    expectEntrySize(reader, counts + 4, 'e_shentsize', SHDR_SIZE[bits]);
    // Counts past 16 bits live in section 0 (System V ABI, "Section Header", index 0).
    reader.need(shoff, SHDR_SIZE[bits], 'section header 0');
    if (shnum === 0) shnum = wide ? reader.u64AsNumber(shoff + 32, 'sh_size[0]') : reader.u32(shoff + 20, 'sh_size[0]');
    if (shstrndx === SHN_XINDEX) shstrndx = reader.u32(shoff + (wide ? 40 : 24), 'sh_link[0]');
    if (phnum === PN_XNUM) phnum = reader.u32(shoff + (wide ? 44 : 28), 'sh_info[0]');
  } else {
    shnum = 0;
  }
  reader.need(phoff, phnum * PHDR_SIZE[bits], `program header table of ${phnum} entries`);
  reader.need(shoff, shnum * SHDR_SIZE[bits], `section header table of ${shnum} entries`);
  return { bits, type, machine, entry, phoff, shoff, phnum, shnum, shstrndx };
}

function expectEntrySize(reader: Reader, offset: FileOffset, field: string, expected: number): void {
  const found = reader.u16(offset, field);
  if (found !== expected) throw new KernelImageError({ code: 'bad-value', what: field, offset, found, expected });
}

function readSegment(reader: Reader, header: ElfHeader, index: number): Segment {
  const at = header.phoff + index * PHDR_SIZE[header.bits];
  const type = reader.u32(at, 'p_type');
  if (header.bits === 64) {
    return {
      index,
      type,
      flags: reader.u32(at + 4, 'p_flags'),
      offset: reader.u64AsNumber(at + 8, 'p_offset'),
      vaddr: reader.u64(at + 16, 'p_vaddr'),
      paddr: reader.u64AsNumber(at + 24, 'p_paddr'),
      filesz: reader.u64AsNumber(at + 32, 'p_filesz'),
      memsz: reader.u64AsNumber(at + 40, 'p_memsz'),
      align: reader.u64AsNumber(at + 48, 'p_align'),
    };
  }
  return {
    index,
    type,
    flags: reader.u32(at + 24, 'p_flags'),
    offset: reader.u32(at + 4, 'p_offset'),
    vaddr: BigInt(reader.u32(at + 8, 'p_vaddr')),
    paddr: reader.u32(at + 12, 'p_paddr'),
    filesz: reader.u32(at + 16, 'p_filesz'),
    memsz: reader.u32(at + 20, 'p_memsz'),
    align: reader.u32(at + 28, 'p_align'),
  };
}

function readSection(reader: Reader, header: ElfHeader, index: number): Section {
  const at = header.shoff + index * SHDR_SIZE[header.bits];
  const nameOffset = reader.u32(at, 'sh_name');
  const type = reader.u32(at + 4, 'sh_type');
  if (header.bits === 64) {
    return {
      index,
      nameOffset,
      type,
      flags: reader.u64(at + 8, 'sh_flags'),
      addr: reader.u64(at + 16, 'sh_addr'),
      offset: reader.u64AsNumber(at + 24, 'sh_offset'),
      size: reader.u64AsNumber(at + 32, 'sh_size'),
      link: reader.u32(at + 40, 'sh_link'),
      info: reader.u32(at + 44, 'sh_info'),
      addralign: reader.u64AsNumber(at + 48, 'sh_addralign'),
      entsize: reader.u64AsNumber(at + 56, 'sh_entsize'),
    };
  }
  return {
    index,
    nameOffset,
    type,
    flags: BigInt(reader.u32(at + 8, 'sh_flags')),
    addr: BigInt(reader.u32(at + 12, 'sh_addr')),
    offset: reader.u32(at + 16, 'sh_offset'),
    size: reader.u32(at + 20, 'sh_size'),
    link: reader.u32(at + 24, 'sh_link'),
    info: reader.u32(at + 28, 'sh_info'),
    addralign: reader.u32(at + 32, 'sh_addralign'),
    entsize: reader.u32(at + 36, 'sh_entsize'),
  };
}

/** The part of the segment that lies in the file, as a view. */
export function segmentBytes(elf: ElfFile, segment: Segment): Uint8Array {
  return new Reader(elf.bytes).slice(segment.offset, segment.filesz, `bytes of program header ${segment.index}`);
}

/** A section's contents, as a view; empty for SHT_NOBITS. */
export function sectionBytes(elf: ElfFile, section: Section): Uint8Array {
  if (section.type === SHT_NOBITS) return new Uint8Array(0);
  return new Reader(elf.bytes).slice(section.offset, section.size, `bytes of section ${section.index}`);
}

/** A section's name, or the empty string where the file has no usable name table: names never decide what is loaded. */
export function sectionName(elf: ElfFile, section: Section): string {
  const names = elf.sections[elf.header.shstrndx];
  if (names === undefined || section.nameOffset >= names.size) return '';
  if (names.offset + names.size > elf.bytes.length) return '';
  return cString(elf.bytes.subarray(names.offset, names.offset + names.size), section.nameOffset);
}

export function findSection(elf: ElfFile, name: string): Section | undefined {
  return elf.sections.find((section) => sectionName(elf, section) === name);
}

/** Kernels have 500 bytes of notes. A small file could claim any amount of work by naming the same bytes in many segments. */
const NOTES_AT_MOST = 0x10_0000;

/** All notes of all PT_NOTE segments. A malformed tail ends a segment's notes, as loaders read them. */
export function readNotes(elf: ElfFile): Note[] {
  const notes: Note[] = [];
  let total = 0;
  for (const segment of elf.segments) {
    if (segment.type !== PT_NOTE) continue;
    total += segment.filesz;
    if (total > NOTES_AT_MOST) {
      throw new KernelImageError({
        code: 'too-large',
        what: 'size of all PT_NOTE segments',
        found: total,
        expected: `at most 0x${NOTES_AT_MOST.toString(16)}`,
      });
    }
    const reader = new Reader(segmentBytes(elf, segment), segment.offset);
    // p_align 8 pads to 8 bytes (gABI), everything else to 4 (what Linux emits).
    const padding = segment.align === 8 ? 8 : 4;
    const padded = (size: number): number => Math.ceil(size / padding) * padding;
    for (let at = 0; at + 12 <= reader.length;) {
      const nameSize = reader.u32(at, 'n_namesz');
      const descSize = reader.u32(at + 4, 'n_descsz');
      const descAt = at + 12 + padded(nameSize);
      if (descAt + descSize > reader.length) break;
      notes.push({
        owner: cString(reader.slice(at + 12, nameSize, 'note name'), 0),
        type: reader.u32(at + 8, 'n_type'),
        desc: reader.slice(descAt, descSize, 'note descriptor'),
        descOffset: segment.offset + descAt,
      });
      at = descAt + padded(descSize);
    }
  }
  return notes;
}

/**
 * Where the ELF file ends and what was put behind it begins: the greatest end of the headers, segments and sections.
 * May lie past the end of the bytes when the file is cut; the caller decides what that means.
 */
export function endOfElf(elf: ElfFile): FileOffset {
  const { header } = elf;
  let end = Math.max(
    EHDR_SIZE[header.bits],
    header.phoff + header.phnum * PHDR_SIZE[header.bits],
    header.shoff + header.shnum * SHDR_SIZE[header.bits],
  );
  for (const segment of elf.segments) end = Math.max(end, segment.offset + segment.filesz);
  for (const section of elf.sections) {
    if (section.type !== SHT_NOBITS) end = Math.max(end, section.offset + section.size);
  }
  return end;
}
