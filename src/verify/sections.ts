/**
 * The parts of the file that no loader looks at. `section-names` and `section-headers`: `readelf` and debuggers use them. `padding`: the bytes that
 * only keep other things aligned.
 */
import { physToVirt, PAGE_SIZE } from '../base/addresses.ts';
import type { FileOffset } from '../base/addresses.ts';
import { alignUp, ascii } from '../base/bytes.ts';
import { EHDR, PHDR_SIZE, SHDR, SHDR_SIZE, readFields } from '../elf/fields.ts';
import {
  SHF_ALLOC,
  SHF_EXECINSTR,
  SHF_WRITE,
  SHN_LORESERVE,
  SHT_NOBITS,
  SHT_PROGBITS,
  SHT_STRTAB,
} from '../elf/constants.ts';
import { sectionBytes } from '../elf/read.ts';
import type { ElfFile } from '../elf/read.ts';
import { PARAMS, SCRATCH } from '../segment/layout.ts';
import type { Evidence } from './evidence.ts';
import type { Original } from './original.ts';
import type { ExpectedSegment } from './segment.ts';

const NEW_SECTIONS = ['.kslide.params', '.kslide.text', '.kslide.table', '.kslide.bss'] as const;
/** A file without sections gets two: the empty section, number 0, and a name table, number 1. */
export const NEW_NAME_TABLE = 1;
const FIRST_NAMES = '\0.shstrtab\0';
const NO_SECTION = readFields(new Uint8Array(SHDR_SIZE[64]), 0, SHDR[64]);

type SectionValues = Record<keyof (typeof SHDR)[64], number | bigint>;

/** How many section headers the converted file has. */
export function convertedSectionCount({ header }: ElfFile): number {
  return (header.shnum === 0 ? NEW_NAME_TABLE + 1 : header.shnum) + NEW_SECTIONS.length;
}

function oldHeaders({ header, bytes }: ElfFile): SectionValues[] {
  if (header.shnum === 0) return [NO_SECTION, { ...NO_SECTION, sh_name: 1, sh_type: SHT_STRTAB, sh_addralign: 1 }];
  return Array.from({ length: header.shnum }, (_, index) =>
    readFields(bytes, header.shoff + index * SHDR_SIZE[64], SHDR[64]),
  );
}

function oldNames(elf: ElfFile): Uint8Array {
  return elf.header.shnum === 0 ? ascii(FIRST_NAMES) : sectionBytes(elf, elf.sections[elf.header.shstrndx]!);
}

/** The old name table, followed by the new names. */
export function convertedSectionNames(elf: ElfFile): Uint8Array {
  const added = ascii(NEW_SECTIONS.map((name) => `${name}\0`).join(''));
  const old = oldNames(elf);
  const names = new Uint8Array(old.length + added.length);
  names.set(old);
  names.set(added, old.length);
  return names;
}

/** Where the section name table and the section headers must be in the converted file. */
export interface SectionPlaces {
  readonly namesOffset: FileOffset;
  readonly namesEnd: FileOffset;
  /** The section headers: 8-aligned, after the names. */
  readonly offset: FileOffset;
  readonly end: FileOffset;
}

/** The names are at `namesOffset`; the headers follow them. */
export function placeSections(elf: ElfFile, namesOffset: FileOffset): SectionPlaces {
  const namesEnd = namesOffset + convertedSectionNames(elf).length;
  const offset = alignUp(namesEnd, 8);
  return { namesOffset, namesEnd, offset, end: offset + convertedSectionCount(elf) * SHDR_SIZE[64] };
}

/**
 * The name table directly follows the added segment; if that segment ends the file, it follows the original instead. The headers follow the names.
 */
export function checkSectionNames(
  file: Evidence,
  { kernel: { elf }, form }: Original,
  segment: ExpectedSegment,
): SectionPlaces {
  const sections = placeSections(elf, form.atEnd ? elf.bytes.length : segment.offset + segment.filesz);
  file.expectBytes('byte of the section name table', sections.namesOffset, convertedSectionNames(elf));
  return sections;
}

/** The old headers are unchanged, except for the name table's place and size. The new ones show the four parts of the added segment. */
export function checkSectionHeaders(
  file: Evidence,
  { kernel: { elf } }: Original,
  segment: ExpectedSegment,
  { namesOffset, namesEnd, offset }: SectionPlaces,
): void {
  file.expectFields('ELF header', 0, EHDR[64], { e_shoff: offset });
  const nameTable = elf.header.shnum === 0 ? NEW_NAME_TABLE : elf.header.shstrndx;
  const headers = [...oldHeaders(elf), ...newHeaders(elf, segment)];
  headers.forEach((values, index) => {
    file.expectFields(`section header ${index}`, offset + index * SHDR_SIZE[64], SHDR[64], {
      ...values,
      ...(index === nameTable && { sh_offset: namesOffset, sh_size: namesEnd - namesOffset }),
      // Here is the number of sections when it does not fit into e_shnum.
      ...(index === 0 && headers.length >= SHN_LORESERVE && { sh_size: headers.length }),
    });
  });
}

function newHeaders(
  elf: ElfFile,
  { offset, paddr, filesz, program, table, scratch }: ExpectedSegment,
): SectionValues[] {
  const parts = [
    { start: 0, size: PARAMS.size, type: SHT_PROGBITS, flags: SHF_WRITE, align: PAGE_SIZE },
    { start: PARAMS.size, size: program.length, type: SHT_PROGBITS, flags: SHF_EXECINSTR, align: 16 },
    { start: table, size: filesz - table, type: SHT_PROGBITS, flags: 0n, align: 16 },
    { start: scratch, size: SCRATCH.size, type: SHT_NOBITS, flags: SHF_WRITE, align: PAGE_SIZE },
  ];
  const headers: SectionValues[] = [];
  let name = oldNames(elf).length;
  for (const [index, { start, size, type, flags, align }] of parts.entries()) {
    headers.push({
      ...NO_SECTION,
      sh_name: name,
      sh_type: type,
      sh_flags: SHF_ALLOC | flags,
      sh_addr: physToVirt(paddr + start),
      sh_offset: offset + start,
      sh_size: size,
      sh_addralign: align,
    });
    name += NEW_SECTIONS[index]!.length + 1;
  }
  return headers;
}

/** All padding is zero: nothing can hide there. */
export function checkPadding(
  file: Evidence,
  { kernel: { elf }, form }: Original,
  segment: ExpectedSegment,
  { sections, phoff }: { readonly sections: SectionPlaces; readonly phoff: FileOffset },
): void {
  const programEnd = PARAMS.size + segment.program.length;
  // The program headers follow the section headers if they had to move.
  const moved = phoff > sections.offset;
  const headersEnd = moved ? phoff + (elf.header.phnum + 1) * PHDR_SIZE[64] : sections.end;
  file.expectZeros('padding before the added segment', form.atEnd ? headersEnd : elf.bytes.length, segment.offset);
  file.expectZeros('padding before the table', segment.offset + programEnd, segment.offset + segment.table);
  file.expectZeros('padding before the section headers', sections.namesEnd, sections.offset);
  file.expectZeros('padding before the program headers', sections.end, phoff);
}
