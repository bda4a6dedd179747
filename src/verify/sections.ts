/** The section headers and their names: no loader needs them, `readelf` and debuggers do. */
import { physToVirt, PAGE_SIZE } from '../base/addresses.ts';
import type { FileOffset } from '../base/addresses.ts';
import { alignUp, ascii } from '../base/bytes.ts';
import { EHDR, SHDR, SHDR_SIZE, readFields } from '../elf/fields.ts';
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
import type { Segment } from './segment.ts';

const NEW_SECTIONS = ['.kslide.params', '.kslide.text', '.kslide.table', '.kslide.bss'] as const;
/** A file without sections gets the empty one, number 0, and a name table, number 1. */
export const NEW_NAME_TABLE = 1;
const FIRST_NAMES = '\0.shstrtab\0';
const NO_SECTION = readFields(new Uint8Array(SHDR_SIZE[64]), 0, SHDR[64]);

type SectionValues = Record<keyof (typeof SHDR)[64], number | bigint>;

/** How many section headers the converted file has. */
export function sectionCount({ header }: ElfFile): number {
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

/** The old name table, with the new names behind. */
export function sectionNames(elf: ElfFile): Uint8Array {
  const added = ascii(NEW_SECTIONS.map((name) => `${name}\0`).join(''));
  const old = oldNames(elf);
  const names = new Uint8Array(old.length + added.length);
  names.set(old);
  names.set(added, old.length);
  return names;
}

export interface SectionTable {
  readonly namesOffset: FileOffset;
  readonly namesEnd: FileOffset;
  /** Of the section headers, 8-aligned behind the names. */
  readonly offset: FileOffset;
  readonly end: FileOffset;
}

/** Names at `namesOffset`, headers behind them. */
export function placeSections(elf: ElfFile, namesOffset: FileOffset): SectionTable {
  const namesEnd = namesOffset + sectionNames(elf).length;
  const offset = alignUp(namesEnd, 8);
  return { namesOffset, namesEnd, offset, end: offset + sectionCount(elf) * SHDR_SIZE[64] };
}

/** The name table directly behind the segment, or behind the original where the segment ends the file; the headers come behind that. */
export function checkSectionNames(file: Evidence, { kernel: { elf }, form }: Original, segment: Segment): SectionTable {
  const sections = placeSections(elf, form.atEnd ? elf.bytes.length : segment.offset + segment.filesz);
  file.expectBytes('byte of the section name table', sections.namesOffset, sectionNames(elf));
  return sections;
}

/** The old ones kept, but for the place and size of the name table; the new ones show the four parts of the segment. */
export function checkSectionHeaders(
  file: Evidence,
  { kernel: { elf } }: Original,
  segment: Segment,
  { namesOffset, namesEnd, offset }: SectionTable,
): void {
  file.expectFields('ELF header', 0, EHDR[64], { e_shoff: offset });
  const nameTable = elf.header.shnum === 0 ? NEW_NAME_TABLE : elf.header.shstrndx;
  const headers = [...oldHeaders(elf), ...newHeaders(elf, segment)];
  headers.forEach((values, index) => {
    file.expectFields(`section header ${index}`, offset + index * SHDR_SIZE[64], SHDR[64], {
      ...values,
      ...(index === nameTable && { sh_offset: namesOffset, sh_size: namesEnd - namesOffset }),
      // Where the number of sections is when e_shnum has no room for it.
      ...(index === 0 && headers.length >= SHN_LORESERVE && { sh_size: headers.length }),
    });
  });
}

function newHeaders(elf: ElfFile, { offset, paddr, filesz, program, table, scratch }: Segment): SectionValues[] {
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
