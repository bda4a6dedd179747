/**
 * The ELF header and section headers of a vmlinux, for reading its relocations.
 *
 * Not src/elf/read.ts, for two reasons. This reads from a ByteSource, never the whole file, and decodes a field when it is asked for: with
 * -ffunction-sections a kernel has more than 65,280 sections. And it takes and refuses the same headers as the kernel's own tool does,
 * which asks nothing of the program headers but their size, and wants all tables that it might read to lie inside the file.
 */
import { Reader, viewOf } from '../../base/bytes.ts';
import {
  ELF_MAGIC,
  ELFCLASS32,
  ELFCLASS64,
  ELFDATA2LSB,
  EM_386,
  EM_X86_64,
  ET_DYN,
  ET_EXEC,
  EV_CURRENT,
  SHN_XINDEX,
  SHT_REL,
  SHT_RELA,
  SHT_STRTAB,
  SHT_SYMTAB,
  SHT_SYMTAB_SHNDX,
} from '../../elf/constants.ts';
import { EHDR_SIZE, PHDR_SIZE, SHDR_SIZE } from '../../elf/fields.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { ByteSource } from './byte-source.ts';

/** Offsets in Elf32_Shdr and Elf64_Shdr; the four fields after sh_flags are words of the class's width. */
const SHDR = {
  32: { sh_name: 0, sh_type: 4, sh_flags: 8, sh_addr: 12, sh_offset: 16, sh_size: 20, sh_link: 24, sh_info: 28 },
  64: { sh_name: 0, sh_type: 4, sh_flags: 8, sh_addr: 16, sh_offset: 24, sh_size: 32, sh_link: 40, sh_info: 44 },
} as const;

type WordField = 'sh_name' | 'sh_type' | 'sh_flags' | 'sh_link' | 'sh_info';
type AddressField = 'sh_addr' | 'sh_offset' | 'sh_size';

export interface SectionTable {
  readonly bits: 32 | 64;
  /** The real count and name table, after SHN_XINDEX. */
  readonly count: number;
  readonly shstrndx: number;
  /** A field of the section with this number, which must be less than `count`. Of sh_flags the low half, where the flags are. */
  word(index: number, field: WordField): number;
  /** The same for a field as wide as an address. Past 2^53 a double is not exact, but then it is past the end of any file as well. */
  address(index: number, field: AddressField): number;
}

/** Throws KernelImageError for all that the kernel's tool refuses in headers. */
export function readSectionTable(source: ByteSource): SectionTable {
  const header = readFileHeader(source);
  const { bits } = header;
  const size = SHDR_SIZE[bits];
  const { shoff } = header;
  let { shnum: count, shstrndx } = header;
  // Counts past 16 bits live in section 0 (System V ABI, "Section Header", index 0).
  if (count === 0 || shstrndx === SHN_XINDEX) {
    const first = fields(bits, readTable(source, shoff, size, 'section header 0'));
    if (count === 0) count = first.address(0, 'sh_size');
    if (shstrndx === SHN_XINDEX) shstrndx = first.word(0, 'sh_link');
  }
  if (shstrndx >= count) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'e_shstrndx',
      found: shstrndx,
      expected: `less than the number of sections, 0x${count.toString(16)}`,
    });
  }
  const table = fields(bits, readTable(source, shoff, count * size, `section header table of ${count} entries`));
  const sections: SectionTable = { bits, count, shstrndx, ...table };
  checkExtents(source, sections);
  return sections;
}

function fields(bits: 32 | 64, bytes: Uint8Array): Pick<SectionTable, 'word' | 'address'> {
  const view = viewOf(bytes);
  const offsets = SHDR[bits];
  const size = SHDR_SIZE[bits];
  return {
    word: (index, field) => view.getUint32(index * size + offsets[field], true),
    address(index, field) {
      const at = index * size + offsets[field];
      const low = view.getUint32(at, true);
      return bits === 32 ? low : low + view.getUint32(at + 4, true) * 2 ** 32;
    },
  };
}

/** A range that a header names. Throws `truncated` when it does not lie inside the file. */
export function readTable(source: ByteSource, offset: number, length: number, what: string): Uint8Array {
  checkExtent(source, offset, length, what);
  return source.readAt(offset, length);
}

function checkExtent(source: ByteSource, offset: number, length: number, what: string): void {
  // An empty table may be said to lie anywhere that can be sought to; in a file on ext4 that is 16 TiB.
  if (length === 0 ? offset < 2 ** 44 : offset + length <= source.size) return;
  throw new KernelImageError({
    code: 'truncated',
    what,
    offset,
    expected: `0x${length.toString(16)} bytes before the end at 0x${source.size.toString(16)}`,
  });
}

/** Every table that the kernel's tool would read, those that are not needed here included: a file cut short is refused as a whole. */
function checkExtents(source: ByteSource, sections: SectionTable): void {
  const relocations = sections.bits === 64 ? SHT_RELA : SHT_REL;
  for (let index = 0; index < sections.count; index++) {
    const type = sections.word(index, 'sh_type');
    if (type !== SHT_STRTAB && type !== SHT_SYMTAB && type !== SHT_SYMTAB_SHNDX && type !== relocations) continue;
    const size = sections.address(index, 'sh_size');
    checkExtent(source, sections.address(index, 'sh_offset'), size, `bytes of section ${index}`);
  }
}

/** A small file could claim any amount of work by naming the same bytes again and again. */
export function overlapping(what: string, total: number, fileSize: number): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: `size of all ${what}`,
    found: total,
    expected: `at most 0x${fileSize.toString(16)}, the size of the file`,
  });
}

interface FileHeader {
  readonly bits: 32 | 64;
  readonly shoff: number;
  /** As they stand in the header. */
  readonly shnum: number;
  readonly shstrndx: number;
}

function readFileHeader(source: ByteSource): FileHeader {
  const reader = new Reader(source.readAt(0, Math.min(source.size, EHDR_SIZE[64])));
  if (reader.length < 4 || reader.u32(0, 'e_ident') !== ELF_MAGIC) {
    throw new KernelImageError({ code: 'not-a-kernel', what: 'e_ident', offset: 0, expected: '"\\x7fELF"' });
  }
  const bits = reader.u8(4, 'EI_CLASS') === ELFCLASS64 ? 64 : 32;
  reader.need(0, EHDR_SIZE[bits], 'ELF header');
  const sizes = bits === 64 ? 52 : 40; // e_ehsize; the six u16 from here on have the same order in both classes
  const machine = bits === 64 ? EM_X86_64 : EM_386;
  const machineName = bits === 64 ? '0x3e (EM_X86_64)' : '0x3 (EM_386)';
  checkField('EI_CLASS', 4, reader.u8(4, 'EI_CLASS'), [ELFCLASS32, ELFCLASS64], '1 (ELFCLASS32) or 2 (ELFCLASS64)');
  checkField('EI_DATA', 5, reader.u8(5, 'EI_DATA'), [ELFDATA2LSB], '1 (little-endian)');
  checkField('EI_VERSION', 6, reader.u8(6, 'EI_VERSION'), [EV_CURRENT]);
  checkField('e_type', 16, reader.u16(16, 'e_type'), [ET_EXEC, ET_DYN], '2 (ET_EXEC) or 3 (ET_DYN)');
  checkField('e_machine', 18, reader.u16(18, 'e_machine'), [machine], machineName);
  checkField('e_version', 20, reader.u32(20, 'e_version'), [EV_CURRENT]);
  checkField('e_ehsize', sizes, reader.u16(sizes, 'e_ehsize'), [EHDR_SIZE[bits]]);
  checkField('e_phentsize', sizes + 2, reader.u16(sizes + 2, 'e_phentsize'), [PHDR_SIZE[bits]]);
  checkField('e_shentsize', sizes + 6, reader.u16(sizes + 6, 'e_shentsize'), [SHDR_SIZE[bits]]);
  return {
    bits,
    shoff: bits === 64 ? reader.u32(40, 'e_shoff') + reader.u32(44, 'e_shoff') * 2 ** 32 : reader.u32(32, 'e_shoff'),
    shnum: reader.u16(sizes + 8, 'e_shnum'),
    shstrndx: reader.u16(sizes + 10, 'e_shstrndx'),
  };
}

function checkField(
  what: string,
  offset: number,
  found: number,
  allowed: readonly number[],
  expected: string | number | undefined = allowed[0],
): void {
  if (allowed.includes(found)) return;
  const code = what === 'e_machine' || what === 'EI_DATA' ? 'wrong-architecture' : 'bad-value';
  throw new KernelImageError({ code, what, offset, found, expected });
}
