/**
 * Where the numbers are in the formats that are fuzzed. The tables are the readers' own (elf/fields.ts, bzimage/header.ts, segment/layout.ts), so a field that is
 * added there is fuzzed without a change here. Inputs are mutated: nothing in them is trusted, and fields outside of them are left out.
 */
import { viewOf } from '../../src/base/bytes.ts';
import { SETUP } from '../../src/bzimage/header.ts';
import { PT_NOTE, SHT_NOTE, SHT_REL, SHT_RELA, SHT_SYMTAB } from '../../src/elf/constants.ts';
import {
  EHDR,
  EHDR_SIZE,
  NHDR,
  NHDR_SIZE,
  PHDR,
  PHDR_SIZE,
  REL,
  REL_SIZE,
  SHDR,
  SHDR_SIZE,
  SYM,
  SYM_SIZE,
} from '../../src/elf/fields.ts';
import type { Field, Layout, Width } from '../../src/elf/fields.ts';

export interface FieldAt {
  readonly offset: number;
  readonly width: Width;
}

/** How many entries of one table are looked at: the first ones are as good as all. */
const ENTRIES = 24;

export function readNumber(bytes: Uint8Array, offset: number, width: Width): number {
  if (!(offset >= 0 && offset + width <= bytes.length)) return 0;
  const view = viewOf(bytes);
  if (width === 8) return Number(view.getBigUint64(offset, true));
  if (width === 4) return view.getUint32(offset, true);
  return width === 2 ? view.getUint16(offset, true) : bytes[offset]!;
}

export function writeNumber(bytes: Uint8Array, { offset, width }: FieldAt, value: bigint): void {
  for (let byte = 0; byte < width; byte++) bytes[offset + byte] = Number((value >> BigInt(8 * byte)) & 0xffn);
}

/** The fields of a structure at `at`. */
export function fieldsAt(bytes: Uint8Array, at: number, layout: Layout): FieldAt[] {
  return Object.values<Field>(layout)
    .map(([offset, width]) => ({ offset: at + offset, width }))
    .filter(({ offset, width }) => offset >= 0 && offset + width <= bytes.length);
}

/** The fields of the first entries of a table. */
function tableAt(bytes: Uint8Array, at: number, count: number, size: number, layout: Layout): FieldAt[] {
  const found: FieldAt[] = [];
  for (let entry = 0; entry < Math.min(count, ENTRIES); entry++)
    found.push(...fieldsAt(bytes, at + entry * size, layout));
  return found;
}

/** ELF header, program and section headers, and the structures in sections that are tables. */
export function elfFields(bytes: Uint8Array): FieldAt[] {
  const bits = bytes[EHDR[64].EI_CLASS[0]] === 1 ? 32 : 64;
  const header = (name: keyof (typeof EHDR)[64]): number => readNumber(bytes, EHDR[bits][name][0], EHDR[bits][name][1]);
  const [phoff, shoff] = [header('e_phoff'), header('e_shoff')];
  const found = fieldsAt(bytes, 0, EHDR[bits]);
  if (bytes.length < EHDR_SIZE[bits]) return found;
  const segments = Math.min(header('e_phnum'), ENTRIES);
  found.push(...tableAt(bytes, phoff, segments, PHDR_SIZE[bits], PHDR[bits]));
  for (let index = 0; index < segments; index++) {
    const at = phoff + index * PHDR_SIZE[bits];
    const of = (name: keyof (typeof PHDR)[64]): number =>
      readNumber(bytes, at + PHDR[bits][name][0], PHDR[bits][name][1]);
    if (of('p_type') === PT_NOTE) found.push(...noteFields(bytes, of('p_offset'), of('p_filesz')));
  }
  const sections = Math.min(header('e_shnum'), 4 * ENTRIES);
  found.push(...tableAt(bytes, shoff, sections, SHDR_SIZE[bits], SHDR[bits]));
  for (let index = 0; index < sections; index++) {
    const at = shoff + index * SHDR_SIZE[bits];
    const of = (name: keyof (typeof SHDR)[64]): number =>
      readNumber(bytes, at + SHDR[bits][name][0], SHDR[bits][name][1]);
    const [type, offset, size] = [of('sh_type'), of('sh_offset'), of('sh_size')];
    if (type === SHT_SYMTAB) found.push(...tableAt(bytes, offset, size / SYM_SIZE[bits], SYM_SIZE[bits], SYM[bits]));
    if (type === SHT_RELA || type === SHT_REL)
      found.push(...tableAt(bytes, offset, size / REL_SIZE[bits], REL_SIZE[bits], REL[bits]));
    if (type === SHT_NOTE) found.push(...noteFields(bytes, offset, size));
  }
  return found;
}

/** Elf_Nhdr, one after the other. */
export function noteFields(bytes: Uint8Array, start: number, size: number): FieldAt[] {
  const found: FieldAt[] = [];
  const padded = (length: number): number => Math.ceil(length / 4) * 4;
  for (let at = start, note = 0; at + NHDR_SIZE <= start + size && note < ENTRIES; note++) {
    found.push(...fieldsAt(bytes, at, NHDR), ...fieldsAt(bytes, at + NHDR_SIZE + 4, { desc: [0, 8] }));
    at += NHDR_SIZE + padded(readNumber(bytes, at, 4)) + padded(readNumber(bytes, at + 4, 4));
  }
  return found;
}

export function setupFields(bytes: Uint8Array): FieldAt[] {
  return Object.values(SETUP).filter(({ offset, width }) => offset + width <= bytes.length);
}

const COFF = { Machine: [0, 2], NumberOfSections: [2, 2], SizeOfOptionalHeader: [16, 2] } as const satisfies Layout;
const OPTIONAL = {
  Magic: [0, 2],
  AddressOfEntryPoint: [16, 4],
  SectionAlignment: [32, 4],
  FileAlignment: [36, 4],
  SizeOfImage: [56, 4],
  SizeOfHeaders: [60, 4],
  CheckSum: [64, 4],
  NumberOfRvaAndSizes: [108, 4],
  CertificateTable: [144, 4],
  CertificateTableSize: [148, 4],
} as const satisfies Layout;
const PE_SECTION = {
  Name: [0, 8],
  VirtualSize: [8, 4],
  VirtualAddress: [12, 4],
  SizeOfRawData: [16, 4],
  PointerToRawData: [20, 4],
} as const satisfies Layout;
const [E_LFANEW, COFF_SIZE, PE_SECTION_SIZE] = [0x3c, 20, 40];

export function peFields(bytes: Uint8Array): FieldAt[] {
  const coff = readNumber(bytes, E_LFANEW, 4) + 4;
  const optional = coff + COFF_SIZE;
  const sections = optional + readNumber(bytes, coff + COFF.SizeOfOptionalHeader[0], 2);
  return [
    ...fieldsAt(bytes, 0, { e_magic: [0, 2], e_lfanew: [E_LFANEW, 4] }),
    ...fieldsAt(bytes, coff - 4, { Signature: [0, 4] }),
    ...fieldsAt(bytes, coff, COFF),
    ...fieldsAt(bytes, optional, OPTIONAL),
    ...tableAt(bytes, sections, readNumber(bytes, coff + COFF.NumberOfSections[0], 2), PE_SECTION_SIZE, PE_SECTION),
  ];
}

/** Every u32 of a table of words: a sample, spread over all of it. */
export function wordFields(bytes: Uint8Array): FieldAt[] {
  const words = Math.floor(bytes.length / 4);
  const step = Math.max(1, Math.floor(words / 256));
  return Array.from({ length: Math.ceil(words / step) }, (_, index) => ({ offset: index * step * 4, width: 4 }));
}
