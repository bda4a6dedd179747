/**
 * The structures that `verify` compares field by field, so that it can name the one that is wrong: ELF64 headers (System V ABI, chapters 4
 * and 5) and the parameters of the added segment. Each covers its structure without a gap: a byte that no field has would be a byte that
 * nobody looked at.
 */
import { Reader } from '../base/bytes.ts';
import type { FileOffset } from '../base/addresses.ts';
import { PARAMS } from '../segment/layout.ts';

export type Width = 1 | 2 | 4 | 8;
export type Layout = Readonly<Record<string, readonly [offset: number, width: Width]>>;
/** Some or all fields of a structure. */
export type Values<L extends Layout> = { readonly [name in keyof L]?: number | bigint };

export const EHDR = {
  EI_MAG: [0, 4],
  EI_CLASS: [4, 1],
  EI_DATA: [5, 1],
  EI_VERSION: [6, 1],
  EI_OSABI: [7, 1],
  EI_ABIVERSION: [8, 8], // and EI_PAD behind it
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
} as const satisfies Layout;

export const PHDR = {
  p_type: [0, 4],
  p_flags: [4, 4],
  p_offset: [8, 8],
  p_vaddr: [16, 8],
  p_paddr: [24, 8],
  p_filesz: [32, 8],
  p_memsz: [40, 8],
  p_align: [48, 8],
} as const satisfies Layout;

export const SHDR = {
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
} as const satisfies Layout;

/** Without the reserved bytes behind the last field. */
export const PARAMETERS = {
  magic: [PARAMS.magic, 8],
  link_base: [PARAMS.link_base, 8],
  entry: [PARAMS.entry, 8],
  entry_bytes: [PARAMS.entry_bytes, 8],
  image_start: [PARAMS.image_start, 8],
  segment_size: [PARAMS.segment_size, 8],
  slot_count: [PARAMS.slot_count, 8],
  slot_align: [PARAMS.slot_align, 8],
  scratch: [PARAMS.scratch, 8],
  table: [PARAMS.table, 8],
  table_end: [PARAMS.table_end, 8],
  table_format: [PARAMS.table_format, 4],
  flags: [PARAMS.flags, 4],
} as const satisfies Layout;

export function readUint(reader: Reader, offset: FileOffset, width: Width, field: string): bigint {
  if (width === 8) return reader.u64(offset, field);
  if (width === 4) return BigInt(reader.u32(offset, field));
  return BigInt(width === 2 ? reader.u16(offset, field) : reader.u8(offset, field));
}

/** All fields of the structure at `at`. */
export function valuesAt<L extends Layout>(bytes: Uint8Array, at: FileOffset, layout: L): Record<keyof L, bigint> {
  const reader = new Reader(bytes);
  const values: Record<string, bigint> = {};
  for (const [name, [offset, width]] of Object.entries(layout))
    values[name] = readUint(reader, at + offset, width, name);
  return values as Record<keyof L, bigint>;
}
