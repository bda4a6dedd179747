/**
 * Rewrites an ELF file: every byte of the original keeps its place and value, except where it is patched. Additions go after the original.
 *
 * Layout first, emit second: all offsets are decided before a byte is written. The result is a list of parts, most of them views of the
 * original, so that a 57 MB kernel is not copied. `joinParts` makes one array of them if a caller needs one. Without patches and additions, the parts
 * are the original.
 */
import { physToVirt, PAGE_SIZE } from '../base/addresses.ts';
import type { FileOffset, PhysAddr, VirtAddr } from '../base/addresses.ts';
import { alignUp, ascii, copyOf, isZero, joinParts, Writer } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import { PT_LOAD, SHF_ALLOC, SHN_LORESERVE, SHT_NOBITS, SHT_NULL, SHT_PROGBITS, SHT_STRTAB } from './constants.ts';
import { EHDR, EHDR_SIZE, PHDR, PHDR_SIZE, SHDR, SHDR_SIZE, writeFields } from './fields.ts';
import { expectCountableHeader, findSectionNames, sectionBytes } from './read.ts';
import type { ElfFile } from './read.ts';

export interface Patch {
  readonly offset: FileOffset;
  readonly bytes: Uint8Array;
}

/** A segment to add, and the sections to show in it. */
export interface NewSegment {
  readonly flags: number;
  readonly paddr: PhysAddr;
  /** Undefined: the address of `paddr` in the kernel's map. */
  readonly vaddr?: VirtAddr | undefined;
  /** The bytes that the file holds at `offset`. */
  readonly content: readonly Uint8Array[];
  readonly offset: FileOffset;
  readonly memsz: number;
  readonly align: number;
  readonly sections: readonly NewSection[];
  /** The new headers go before the segment instead of after it. Then `offset` must be at least `offsetAfterHeaders`. */
  readonly endsFile?: boolean | undefined;
}

export interface NewSection {
  readonly name: string;
  readonly type: number;
  readonly flags: bigint;
  /** From the segment's start. */
  readonly start: number;
  readonly size: number;
  readonly align: number;
}

/** Where a segment appended to this file would start. */
export function appendOffset(elf: ElfFile): FileOffset {
  return alignUp(elf.bytes.length, PAGE_SIZE);
}

/** Where it would start if the section names, the section headers, and the program headers if they must move, came before it. */
export function offsetAfterHeaders(elf: ElfFile, sections: readonly { readonly name: string }[]): FileOffset {
  const names = sectionNames(elf, sections);
  return alignUp(placeHeaders(elf, elf.bytes.length, names.bytes.length, sections.length).end, PAGE_SIZE);
}

interface HeaderPlaces {
  readonly namesAt: FileOffset;
  readonly sectionsAt: FileOffset;
  readonly segmentsAt: FileOffset;
  readonly moved: boolean;
  readonly end: FileOffset;
}

function placeHeaders(elf: ElfFile, namesAt: FileOffset, namesSize: number, added: number): HeaderPlaces {
  const { phoff, phnum, shnum } = elf.header;
  const sectionsAt = alignUp(namesAt + namesSize, 8);
  const sectionsEnd = sectionsAt + ((shnum > 0 ? shnum : 2) + added) * SHDR_SIZE[64];
  const moved = !hasRoomForProgramHeader(elf);
  const segmentsAt = moved ? alignUp(sectionsEnd, 8) : phoff;
  const end = moved ? segmentsAt + (phnum + 1) * PHDR_SIZE[64] : sectionsEnd;
  return { namesAt, sectionsAt, segmentsAt, moved, end };
}

/** The original with `patches` applied and `segment` appended, as parts. ELF64 only. */
export function addSegment(elf: ElfFile, segment: NewSegment, patches: readonly Patch[]): Uint8Array[] {
  const { header, bytes } = elf;
  if (header.bits !== 64) throw new RangeError('addSegment writes ELF64 only');
  expectCountableHeader(elf);
  // Layout: everything new, in file order.
  const filesz = segment.content.reduce((sum, part) => sum + part.length, 0);
  const names = sectionNames(elf, segment.sections);
  const before = segment.endsFile === true;
  const { namesAt, sectionsAt, segmentsAt, moved } = placeHeaders(
    elf,
    before ? bytes.length : segment.offset + filesz,
    names.bytes.length,
    segment.sections.length,
  );
  const sections = sectionTable(
    elf,
    segment.sections.map((section) => ({
      ...section,
      flags: section.flags | SHF_ALLOC,
      addr: vaddrOf(segment) + BigInt(section.start),
      offset: segment.offset + section.start,
    })),
    names,
    namesAt,
  );
  const segments = programHeaders(elf, segment, filesz);

  // Emit.
  const ehdr = headerWithSections(elf, sections, names, sectionsAt);
  writeFields(ehdr, 0, EHDR[64], { e_phoff: segmentsAt, e_phnum: header.phnum + 1 });
  const all: Patch[] = [{ offset: 0, bytes: ehdr.bytes }, ...patches];
  if (!moved) all.push({ offset: header.phoff, bytes: segments });
  const parts = patched(bytes, all);
  let end = bytes.length;
  const append = (at: FileOffset, part: Uint8Array): void => {
    if (at > end) parts.push(new Uint8Array(at - end));
    parts.push(part);
    end = at + part.length;
  };
  const appendHeaders = (): void => {
    append(namesAt, names.bytes);
    append(sectionsAt, sections.bytes);
    if (moved) append(segmentsAt, segments);
  };
  if (before) appendHeaders();
  let at = segment.offset;
  for (const part of segment.content) {
    append(at, part);
    at += part.length;
  }
  if (!before) appendHeaders();
  return parts;
}

/** A section that is only in the file and is not loaded. */
export interface FileSection {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** The original, followed by sections that no loader reads, as parts. ELF64 only. */
export function addFileSections(elf: ElfFile, added: readonly FileSection[]): Uint8Array[] {
  const { bytes } = elf;
  if (elf.header.bits !== 64) throw new RangeError('addFileSections writes ELF64 only');
  // Layout: the sections, their names, the headers; all at multiples of 8.
  let end = alignUp(bytes.length, 8);
  const rows = added.map(({ name, bytes: { length } }) => {
    const offset = end;
    end = alignUp(end + length, 8);
    return { name, type: SHT_PROGBITS, flags: 0n, addr: 0n, offset, size: length, align: 8 };
  });
  const names = sectionNames(elf, rows);
  const namesAt = end;
  const sections = sectionTable(elf, rows, names, namesAt);
  const sectionsAt = alignUp(namesAt + names.bytes.length, 8);

  // Emit.
  const { bytes: header } = headerWithSections(elf, sections, names, sectionsAt);
  const padded = (part: Uint8Array): Uint8Array[] => [part, new Uint8Array(alignUp(part.length, 8) - part.length)];
  const parts = [header, bytes.subarray(header.length), new Uint8Array(alignUp(bytes.length, 8) - bytes.length)];
  for (const { bytes: content } of added) parts.push(...padded(content));
  parts.push(...padded(names.bytes), sections.bytes);
  return parts;
}

/** The ELF header, changed to point to a new section header table. */
function headerWithSections(
  { bytes, header }: ElfFile,
  sections: { readonly count: number },
  names: SectionNames,
  sectionsAt: FileOffset,
): Writer {
  const ehdr = new Writer(copyOf(bytes.subarray(0, EHDR_SIZE[64])));
  const e_shnum = sections.count < SHN_LORESERVE ? sections.count : 0;
  writeFields(ehdr, 0, EHDR[64], { e_shoff: sectionsAt, e_shnum });
  if (header.shnum === 0) writeFields(ehdr, 0, EHDR[64], { e_shentsize: SHDR_SIZE[64], e_shstrndx: names.index });
  return ehdr;
}

/** The original with the patches in place of its bytes, as parts. Patches must not overlap each other or reach past the end. */
export function patched(original: Uint8Array, patches: readonly Patch[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const patch of patches.toSorted((a, b) => a.offset - b.offset)) {
    if (patch.offset < at || patch.offset + patch.bytes.length > original.length) {
      throw new RangeError(`patch at 0x${patch.offset.toString(16)} overlaps another or the end of the file`);
    }
    if (patch.offset > at) parts.push(original.subarray(at, patch.offset));
    parts.push(patch.bytes);
    at = patch.offset + patch.bytes.length;
  }
  if (at < original.length) parts.push(original.subarray(at));
  return parts;
}

/** Copies the parts into an array of their total length. Parts that are views of this array, already at their place, are not copied. */
export function settleParts(file: Uint8Array, parts: readonly Uint8Array[]): void {
  let at = 0;
  for (const part of parts) {
    if (part.buffer !== file.buffer || part.byteOffset !== file.byteOffset + at) file.set(part, at);
    at += part.length;
  }
  if (at !== file.length) throw new RangeError(`parts of ${at} bytes for ${file.length}`);
}

/** One more program header fits in place if the bytes after the table are zeros and belong to nothing else in the file. */
function hasRoomForProgramHeader(elf: ElfFile): boolean {
  const start = elf.header.phoff + elf.header.phnum * PHDR_SIZE[64];
  const end = start + PHDR_SIZE[64];
  const taken = (from: FileOffset, size: number): boolean => size > 0 && from < end && from + size > start;
  if (end > elf.bytes.length || taken(elf.header.shoff, elf.header.shnum * SHDR_SIZE[64])) return false;
  if (elf.segments.some(({ offset, filesz }) => taken(offset, filesz))) return false;
  if (elf.sections.some(({ type, offset, size }) => type !== SHT_NOBITS && type !== SHT_NULL && taken(offset, size)))
    return false;
  return isZero(elf.bytes.subarray(start, end));
}

function vaddrOf({ vaddr, paddr }: NewSegment): VirtAddr {
  return vaddr ?? physToVirt(paddr);
}

/** The old program headers are copied as bytes and not encoded again, so none of their bits can change. */
function programHeaders(elf: ElfFile, segment: NewSegment, filesz: number): Uint8Array {
  const { phoff, phnum } = elf.header;
  const old = elf.bytes.subarray(phoff, phoff + phnum * PHDR_SIZE[64]);
  const writer = new Writer(joinParts([old, new Uint8Array(PHDR_SIZE[64])]));
  writeFields(writer, old.length, PHDR[64], {
    p_type: PT_LOAD,
    p_flags: segment.flags,
    p_offset: segment.offset,
    p_vaddr: vaddrOf(segment),
    p_paddr: segment.paddr,
    p_filesz: filesz,
    p_memsz: segment.memsz,
    p_align: segment.align,
  });
  return writer.bytes;
}

interface SectionNames {
  readonly bytes: Uint8Array;
  /** The section number of the name table, and the offset of each new name in it. */
  readonly index: number;
  readonly offsets: readonly number[];
}

/** The old name table followed by the new names. If there was none, a new table, which is section 1. */
function sectionNames(elf: ElfFile, added: readonly { readonly name: string }[]): SectionNames {
  const old = findSectionNames(elf);
  const oldBytes = old !== undefined ? sectionBytes(elf, old) : new Uint8Array(0);
  const start = oldBytes.length;
  if (old !== undefined && oldBytes.at(-1) !== 0) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'last byte of the section name table',
      offset: old.offset + old.size - 1,
      found: oldBytes.at(-1),
      expected: '0',
    });
  }
  let text = old !== undefined ? '' : '\0.shstrtab\0';
  const offsets = added.map(({ name }) => {
    const at = start + text.length;
    text += `${name}\0`;
    return at;
  });
  const bytes = joinParts([oldBytes, ascii(text)]);
  return { bytes, index: old?.index ?? 1, offsets };
}

interface SectionRow {
  readonly type: number;
  readonly flags: bigint;
  readonly addr: VirtAddr;
  readonly offset: FileOffset;
  readonly size: number;
  readonly align: number;
}

/** The old headers, followed by one for each of `added`, in the order of their names. */
function sectionTable(
  elf: ElfFile,
  added: readonly SectionRow[],
  names: SectionNames,
  namesAt: FileOffset,
): { bytes: Uint8Array; count: number } {
  const size = SHDR_SIZE[64];
  const { shoff, shnum } = elf.header;
  const kept = shnum > 0 ? elf.bytes.subarray(shoff, shoff + shnum * size) : new Uint8Array(2 * size);
  const first = kept.length / size;
  const count = first + added.length;
  const writer = new Writer(joinParts([kept, new Uint8Array(added.length * size)]));
  const own = names.index * size;
  if (shnum === 0) writeFields(writer, own, SHDR[64], { sh_name: 1, sh_type: SHT_STRTAB, sh_addralign: 1 });
  writeFields(writer, own, SHDR[64], { sh_offset: namesAt, sh_size: names.bytes.length });
  if (count >= SHN_LORESERVE) writeFields(writer, 0, SHDR[64], { sh_size: count });
  added.forEach((section, index) => {
    writeFields(writer, (first + index) * size, SHDR[64], {
      sh_name: names.offsets[index]!,
      sh_type: section.type,
      sh_flags: section.flags,
      sh_addr: section.addr,
      sh_offset: section.offset,
      sh_size: section.size,
      sh_addralign: section.align,
    });
  });
  return { bytes: writer.bytes, count };
}
