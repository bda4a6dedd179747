/**
 * The section that a linker script reserves for the relocation table, and that `kslide relocs --keep` fills: the table is flush with its end, with
 * zeros before it. Whoever reads it comes from the end, as the decompressor does; nothing says where it begins.
 */
import { wordsOfBytes } from '../../base/bytes.ts';
import type { FileOffset } from '../../base/addresses.ts';
import { SHT_NOBITS } from '../../elf/constants.ts';
import { findSection, sectionBytes } from '../../elf/read.ts';
import type { ElfFile } from '../../elf/read.ts';
import { KernelImageError } from '../../base/errors.ts';
import { readRelocationTable } from '../tables/kernel-table.ts';
import type { RelocationTable } from '../tables/kernel-table.ts';

/** Names that the section may have, the usual one first. */
export const RESERVED = ['.data.reloc', '.data.relocs'] as const;

export interface ReservedSection {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly offset: FileOffset;
}

/** The section, if there is one and something was put into it. */
export function findFilledSection(elf: ElfFile): ReservedSection | undefined {
  for (const name of RESERVED) {
    const section = findSection(elf, name);
    if (section === undefined || section.type === SHT_NOBITS) continue;
    const bytes = sectionBytes(elf, section);
    if (bytes.some((byte) => byte !== 0)) return { name, bytes, offset: section.offset };
  }
  return undefined;
}

/**
 * Where there are two lists, the word before the last two zeros is a zero again, or not there: a kernel has 64-bit sites, so with three lists
 * something stands there. Throws KernelImageError for what is no table, and for anything but zeros before it.
 */
export function readFilledSection({ name, bytes, offset }: ReservedSection): RelocationTable {
  const words = wordsOfBytes(bytes.subarray(bytes.length % 4));
  const before32 = words.lastIndexOf(0);
  const second = before32 > 0 ? words.lastIndexOf(0, before32 - 1) : -1;
  const third = second > 0 ? words.lastIndexOf(0, second - 1) : -1;
  const start = third >= 0 && second - third > 1 ? third : second;
  if (start < 0 || words.subarray(0, start).some((word) => word !== 0)) {
    throw new KernelImageError({
      code: 'bad-value',
      what: `section ${name}`,
      offset,
      expected: 'a relocation table that ends with it, and zeros before that',
      hint: 'kslide relocs --keep writes one',
    });
  }
  const at = (bytes.length % 4) + start * 4;
  return readRelocationTable(bytes.subarray(at), offset + at);
}
