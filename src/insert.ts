/**
 * Puts a vmlinux's relocation table into the section that its linker script reserved for it, so that the kernel carries the table in memory.
 *
 * A kernel that relocates itself reads the table as the decompressor does: backwards from the section's end, each list until its zero. So the
 * table ends where the section ends, and the room before it is zeroed. MIPS, which has done this since 4.7, puts another kind of
 * table at the start of its section; docs/kernel-build.md compares the two.
 */
import { PAGE_SIZE } from './base/addresses.ts';
import { alignUp, bytesOfWords, unshared } from './base/bytes.ts';
import { SHT_NOBITS } from './elf/constants.ts';
import { patched } from './elf/write.ts';
import { KernelImageError } from './base/errors.ts';
import { memorySource } from './relocs/tool/byte-source.ts';
import type { CollectOptions } from './relocs/tool/collect.ts';
import { openRelocsImage } from './relocs/tool/image.ts';
import type { RelocsImage } from './relocs/tool/image.ts';
import { RESERVED_NAMES } from './relocs/reserved-section.ts';
import { expectRelocatedText } from './relocs/tool/relocated-text.ts';
import { readTable } from './relocs/tool/sections.ts';
import { kernelTable } from './relocs/tool/tool.ts';

/**
 * Returns the file with its own relocation table in it, as parts: views of `vmlinux`, except for the section. x86-64 and i386. Throws KernelImageError
 * for what `collectRelocations` refuses, if the code has no relocations, if there is no reserved section, and if it is too small (with the size that would do).
 */
export function insertRelocations(vmlinux: Uint8Array, options: CollectOptions = {}): Uint8Array<ArrayBuffer>[] {
  const image = openRelocsImage(memorySource(vmlinux));
  const section = findReserved(image);
  expectRelocatedText(image);
  const table = bytesOfWords(kernelTable(image, options));
  if (table.length > section.size) {
    throw new KernelImageError({
      code: 'too-large',
      what: `relocation table for section ${section.name}`,
      found: table.length,
      expected: `at most 0x${section.size.toString(16)}, the size of the section`,
      hint: `reserve 0x${alignUp(table.length, PAGE_SIZE).toString(16)} bytes`,
    });
  }
  const bytes = new Uint8Array(section.size);
  bytes.set(table, section.size - table.length);
  return patched(vmlinux, [{ offset: section.offset, bytes }]).map(unshared);
}

function findReserved({ source, sections, findSection }: RelocsImage): { name: string; offset: number; size: number } {
  const name = RESERVED_NAMES.find((candidate) => findSection(candidate) >= 0);
  if (name === undefined) {
    throw new KernelImageError({
      code: 'bad-value',
      what: `section ${RESERVED_NAMES.join(' or ')}`,
      found: 'missing',
      expected: 'one that the linker script reserves for the relocation table',
      hint: 'docs/kernel-build.md shows how',
    });
  }
  const index = findSection(name);
  if (sections.word(index, 'sh_type') === SHT_NOBITS) {
    throw new KernelImageError({
      code: 'bad-value',
      what: `sh_type of section ${name}`,
      found: 'SHT_NOBITS',
      expected: 'a section that has bytes in the file',
    });
  }
  const offset = sections.address(index, 'sh_offset');
  const size = sections.address(index, 'sh_size');
  readTable(source, offset, size, `section ${name}`);
  return { name, offset, size };
}
