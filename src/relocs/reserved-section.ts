/**
 * The section that a linker script reserves for the relocation table, and that `kslide relocs --keep` fills (insert.ts). The table ends where the section
 * ends, with zeros before it. Nothing says where the table begins: like the decompressor, a reader starts at the end and goes backwards.
 */
import { wordsOfBytes } from '../base/bytes.ts';
import type { FileOffset } from '../base/addresses.ts';
import { SHT_NOBITS } from '../elf/constants.ts';
import { findSection, sectionBytes } from '../elf/read.ts';
import type { ElfFile } from '../elf/read.ts';
import { KernelImageError } from '../base/errors.ts';
import { readRelocationTable } from './tables/kernel-table.ts';
import type { RelocationTable } from './tables/kernel-table.ts';

/** The names that the section may have, the usual one first. */
export const RESERVED_NAMES = ['.data.reloc', '.data.relocs'] as const;

export interface ReservedSection {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly offset: FileOffset;
}

/** The section, if there is one and it is not all zeros. */
export function findFilledSection(elf: ElfFile): ReservedSection | undefined {
  for (const name of RESERVED_NAMES) {
    const section = findSection(elf, name);
    if (section === undefined || section.type === SHT_NOBITS) continue;
    const bytes = sectionBytes(elf, section);
    if (bytes.some((byte) => byte !== 0)) return { name, bytes, offset: section.offset };
  }
  return undefined;
}

/**
 * Zeros tell where the table begins: it has two if it has two lists, three if it has three. The kernel tells which: three where per-cpu data is linked at 0
 * (`perCpu`); elsewhere two, or three of which the inverse one is empty. Throws KernelImageError for a section that does not end with a table, or has anything but zeros
 * before it.
 */
export function readFilledSection({ name, bytes, offset }: ReservedSection, perCpu: boolean): RelocationTable {
  const words = wordsOfBytes(bytes.subarray(bytes.length % 4));
  const before32 = words.lastIndexOf(0);
  const second = before32 > 0 ? words.lastIndexOf(0, before32 - 1) : -1;
  const third = second > 0 ? words.lastIndexOf(0, second - 1) : -1;
  const start = perCpu || (second > 0 && before32 - second === 1) ? third : second;
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
