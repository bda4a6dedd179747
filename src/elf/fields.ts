/**
 * The structures of an ELF file: the offset and width of each field, in both classes. System V ABI, chapters 4 ("ELF Header",
 * "Sections", "Symbol Table", "Relocation") and 5 ("Program Header", "Note Section").
 *
 * No other file knows these offsets: readers, writers and `verify` share them. Each table covers its structure without a gap, so
 * `verify` misses no byte when it compares a structure field by field.
 */
import { Reader } from '../base/bytes.ts';
import type { Writer } from '../base/bytes.ts';
import type { FileOffset } from '../base/addresses.ts';

/** The size of a field in bytes. */
export type Width = 1 | 2 | 4 | 8;
export type Field = readonly [offset: number, width: Width];
export type Layout = Readonly<Record<string, Field>>;
/** ELFCLASS32 or ELFCLASS64. */
export type ElfBits = 32 | 64;
/** Some or all fields of a structure. */
export type FieldValues<L extends Layout> = { readonly [name in keyof L]?: number | bigint };
type ByClass = Readonly<Record<ElfBits, Layout>>;

/** Elf32_Ehdr, Elf64_Ehdr. EI_PAD is part of the eight bytes from EI_ABIVERSION on. */
export const EHDR = {
  32: {
    EI_MAG: [0, 4],
    EI_CLASS: [4, 1],
    EI_DATA: [5, 1],
    EI_VERSION: [6, 1],
    EI_OSABI: [7, 1],
    EI_ABIVERSION: [8, 8],
    e_type: [16, 2],
    e_machine: [18, 2],
    e_version: [20, 4],
    e_entry: [24, 4],
    e_phoff: [28, 4],
    e_shoff: [32, 4],
    e_flags: [36, 4],
    e_ehsize: [40, 2],
    e_phentsize: [42, 2],
    e_phnum: [44, 2],
    e_shentsize: [46, 2],
    e_shnum: [48, 2],
    e_shstrndx: [50, 2],
  },
  64: {
    EI_MAG: [0, 4],
    EI_CLASS: [4, 1],
    EI_DATA: [5, 1],
    EI_VERSION: [6, 1],
    EI_OSABI: [7, 1],
    EI_ABIVERSION: [8, 8],
    e_type: [16, 2],
    e_machine: [18, 2],
    e_version: [20, 4],
    e_entry: [24, 8],
    e_phoff: [32, 8],
    e_shoff: [40, 8],
    e_flags: [48, 4],
    e_ehsize: [52, 2],
    e_phentsize: [54, 2],
    e_phnum: [56, 2],
    e_shentsize: [58, 2],
    e_shnum: [60, 2],
    e_shstrndx: [62, 2],
  },
} as const satisfies ByClass;
export const EHDR_SIZE = { 32: 52, 64: 64 } as const;

/** Elf32_Phdr, Elf64_Phdr. */
export const PHDR = {
  32: {
    p_type: [0, 4],
    p_offset: [4, 4],
    p_vaddr: [8, 4],
    p_paddr: [12, 4],
    p_filesz: [16, 4],
    p_memsz: [20, 4],
    p_flags: [24, 4],
    p_align: [28, 4],
  },
  64: {
    p_type: [0, 4],
    p_flags: [4, 4],
    p_offset: [8, 8],
    p_vaddr: [16, 8],
    p_paddr: [24, 8],
    p_filesz: [32, 8],
    p_memsz: [40, 8],
    p_align: [48, 8],
  },
} as const satisfies ByClass;
export const PHDR_SIZE = { 32: 32, 64: 56 } as const;

/** Elf32_Shdr, Elf64_Shdr. */
export const SHDR = {
  32: {
    sh_name: [0, 4],
    sh_type: [4, 4],
    sh_flags: [8, 4],
    sh_addr: [12, 4],
    sh_offset: [16, 4],
    sh_size: [20, 4],
    sh_link: [24, 4],
    sh_info: [28, 4],
    sh_addralign: [32, 4],
    sh_entsize: [36, 4],
  },
  64: {
    sh_name: [0, 4],
    sh_type: [4, 4],
    sh_flags: [8, 8],
    sh_addr: [16, 8],
    sh_offset: [24, 8],
    sh_size: [32, 8],
    sh_link: [40, 4],
    sh_info: [44, 4],
    sh_addralign: [48, 8],
    sh_entsize: [56, 8],
  },
} as const satisfies ByClass;
export const SHDR_SIZE = { 32: 40, 64: 64 } as const;

/** Elf32_Sym, Elf64_Sym. */
export const SYM = {
  32: { st_name: [0, 4], st_value: [4, 4], st_size: [8, 4], st_info: [12, 1], st_other: [13, 1], st_shndx: [14, 2] },
  64: { st_name: [0, 4], st_info: [4, 1], st_other: [5, 1], st_shndx: [6, 2], st_value: [8, 8], st_size: [16, 8] },
} as const satisfies ByClass;
export const SYM_SIZE = { 32: 16, 64: 24 } as const;

/** Elf32_Rel and Elf64_Rela: the ones that x86 kernels of the two classes use. */
export const REL = {
  32: { r_offset: [0, 4], r_info: [4, 4] },
  64: { r_offset: [0, 8], r_info: [8, 8], r_addend: [16, 8] },
} as const satisfies ByClass;
export const REL_SIZE = { 32: 8, 64: 24 } as const;

/** Elf_Nhdr: the same in both classes. Name and descriptor follow, each padded. */
export const NHDR = { n_namesz: [0, 4], n_descsz: [4, 4], n_type: [8, 4] } as const satisfies Layout;
export const NHDR_SIZE = 12;

/** Reads one field of the structure at `at`. */
export function readField(reader: Reader, at: FileOffset, [offset, width]: Field, name: string): bigint {
  return reader.uint(at + offset, width, name);
}

/** The same for a count or an offset, as a number. Throws `bad-value` for 2^53 and more. */
export function readNumber(reader: Reader, at: FileOffset, [offset, width]: Field, name: string): number {
  return reader.number(at + offset, width, name);
}

/** Reads every field of the structure at `at`. */
export function readFields<L extends Layout>(bytes: Uint8Array, at: FileOffset, layout: L): Record<keyof L, bigint> {
  const reader = new Reader(bytes);
  const values: Record<string, bigint> = {};
  for (const [name, field] of Object.entries(layout)) values[name] = readField(reader, at, field, name);
  return values as Record<keyof L, bigint>;
}

function writeField(writer: Writer, at: FileOffset, [offset, width]: Field, value: number | bigint): void {
  writer.uint(at + offset, width, value);
}

/** Writes the fields that `values` names. The others stay unchanged. */
export function writeFields<L extends Layout>(writer: Writer, at: FileOffset, layout: L, values: FieldValues<L>): void {
  for (const [name, value] of Object.entries(values)) writeField(writer, at, layout[name]!, value as number | bigint);
}
