/**
 * The ELF header and section headers of a vmlinux, for reading its relocations.
 *
 * Why not elf/read.ts? First, this file reads from a ByteSource, never the whole file, and decodes a field only when a caller wants it: with
 * -ffunction-sections a kernel has more than 65,280 sections. Second, it accepts and refuses the same headers as the kernel's own tool. That tool
 * checks nothing of the program headers but their size, and requires every table that it might read to be inside the file.
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
import { EHDR, EHDR_SIZE, PHDR_SIZE, readNumber, SHDR, SHDR_SIZE } from '../../elf/fields.ts';
import type { Field } from '../../elf/fields.ts';
import { expectFewHeaders } from '../../elf/read.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { ByteSource } from './byte-source.ts';

type WordField = 'sh_name' | 'sh_type' | 'sh_flags' | 'sh_link' | 'sh_info';
type AddressField = 'sh_addr' | 'sh_offset' | 'sh_size';

export interface SectionTable {
  readonly bits: 32 | 64;
  /** The number of sections and the number of the name table, with SHN_XINDEX resolved. */
  readonly count: number;
  readonly shstrndx: number;
  /** A field of section `index`, which must be less than `count`. For sh_flags the low half, which holds all flags that matter here. */
  word(index: number, field: WordField): number;
  /** The same for a field as wide as an address. From 2^53 on the result is not exact, but such a value is past the end of any file. */
  address(index: number, field: AddressField): number;
}

/** Throws KernelImageError for any header that the kernel's tool would refuse. */
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
  checkExtent(source, shoff, count * size, `section header table of ${count} entries`);
  expectFewHeaders('section', count, shoff);
  const table = fields(bits, source.readAt(shoff, count * size));
  const sections: SectionTable = { bits, count, shstrndx, ...table };
  checkExtents(source, sections);
  return sections;
}

function fields(bits: 32 | 64, bytes: Uint8Array): Pick<SectionTable, 'word' | 'address'> {
  const view = viewOf(bytes);
  const layout = SHDR[bits];
  const size = SHDR_SIZE[bits];
  return {
    word: (index, field) => view.getUint32(index * size + layout[field][0], true),
    address(index, field) {
      const at = index * size + layout[field][0];
      const low = view.getUint32(at, true);
      return bits === 32 ? low : low + view.getUint32(at + 4, true) * 2 ** 32;
    },
  };
}

/** Bytes of a table. A file may have more, most of it holes; no table of a real kernel is nearly as large. */
const TABLE_AT_MOST = 2 ** 31;

/** A range that a header names. Throws `truncated` if it is not inside the file, and `too-large` for more than 2 GiB. */
export function readTable(source: ByteSource, offset: number, length: number, what: string): Uint8Array {
  checkExtent(source, offset, length, what);
  if (length > TABLE_AT_MOST) {
    const expected = `at most 0x${TABLE_AT_MOST.toString(16)}`;
    throw new KernelImageError({ code: 'too-large', what: `size of ${what}`, offset, found: length, expected });
  }
  return source.readAt(offset, length);
}

function checkExtent(source: ByteSource, offset: number, length: number, what: string): void {
  // An empty table may have any offset that the kernel's tool can seek to: up to 16 TiB for a file on ext4.
  if (length === 0 ? offset < 2 ** 44 : offset + length <= source.size) return;
  throw new KernelImageError({
    code: 'truncated',
    what,
    offset,
    expected: `0x${length.toString(16)} bytes before the end at 0x${source.size.toString(16)}`,
  });
}

/** Checks every table that the kernel's tool would read, including those that are not needed here: a truncated file is refused as a whole. */
function checkExtents(source: ByteSource, sections: SectionTable): void {
  const relocations = sections.bits === 64 ? SHT_RELA : SHT_REL;
  for (let index = 0; index < sections.count; index++) {
    const type = sections.word(index, 'sh_type');
    if (type !== SHT_STRTAB && type !== SHT_SYMTAB && type !== SHT_SYMTAB_SHNDX && type !== relocations) continue;
    const size = sections.address(index, 'sh_size');
    checkExtent(source, sections.address(index, 'sh_offset'), size, `bytes of section ${index}`);
  }
}

/**
 * Throws KernelImageError for tables that have more bytes together than the file: they overlap, and a small file could cause any amount of work by naming
 * the same bytes many times. And for more than 2 GiB, as a large file could, of which all but some bytes are a hole.
 */
export function expectTotal(what: string, found: number, source: ByteSource): void {
  const most = Math.min(source.size, TABLE_AT_MOST);
  if (found <= most) return;
  const isFile = most === source.size;
  throw new KernelImageError({
    code: isFile ? 'bad-value' : 'too-large',
    what: `size of all ${what}`,
    found,
    expected: `at most 0x${most.toString(16)}${isFile ? ', the size of the file' : ''}`,
  });
}

type CheckedField =
  | 'EI_CLASS'
  | 'EI_DATA'
  | 'EI_VERSION'
  | 'e_type'
  | 'e_machine'
  | 'e_version'
  | 'e_ehsize'
  | 'e_phentsize'
  | 'e_shentsize';

interface FileHeader {
  readonly bits: 32 | 64;
  readonly shoff: number;
  /** As the header has them: SHN_XINDEX is not resolved. */
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
  const layout = EHDR[bits];
  const machine = bits === 64 ? EM_X86_64 : EM_386;
  const machineName = bits === 64 ? '0x3e (EM_X86_64)' : '0x3 (EM_386)';
  const check = (name: CheckedField, allowed: readonly number[], expected?: string): void =>
    checkField(name, layout[name][0], readNumber(reader, 0, layout[name], name), allowed, expected);
  check('EI_CLASS', [ELFCLASS32, ELFCLASS64], '1 (ELFCLASS32) or 2 (ELFCLASS64)');
  check('EI_DATA', [ELFDATA2LSB], '1 (little-endian)');
  check('EI_VERSION', [EV_CURRENT]);
  check('e_type', [ET_EXEC, ET_DYN], '2 (ET_EXEC) or 3 (ET_DYN)');
  check('e_machine', [machine], machineName);
  check('e_version', [EV_CURRENT]);
  check('e_ehsize', [EHDR_SIZE[bits]]);
  check('e_phentsize', [PHDR_SIZE[bits]]);
  check('e_shentsize', [SHDR_SIZE[bits]]);
  return {
    bits,
    shoff: readOffset(reader, layout.e_shoff, 'e_shoff'),
    shnum: readNumber(reader, 0, layout.e_shnum, 'e_shnum'),
    shstrndx: readNumber(reader, 0, layout.e_shstrndx, 'e_shstrndx'),
  };
}

/** Not `readNumber`, which throws from 2^53 on. Such an offset is refused later, by the check that its table is inside the file. */
function readOffset(reader: Reader, [at, width]: Field, name: string): number {
  const low = reader.u32(at, name);
  return width === 4 ? low : low + reader.u32(at + 4, name) * 2 ** 32;
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
