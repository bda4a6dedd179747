/** The GNU build-id of a kernel: which build it is. */
import { Reader } from '../../base/bytes.ts';
import { NT_GNU_BUILD_ID, PT_NOTE, SHT_NOTE } from '../../elf/constants.ts';
import { sectionBytes, segmentBytes } from '../../elf/read.ts';
import type { ElfFile } from '../../elf/read.ts';

const GNU = 0x55_4e47; // "GNU\0", little-endian

/** In hex, from the notes of segments or sections; undefined when there is none. */
export function buildIdOf({ elf }: { readonly elf: ElfFile }): string | undefined {
  for (const segment of elf.segments) {
    const id = segment.type === PT_NOTE ? findBuildId(segmentBytes(elf, segment)) : undefined;
    if (id !== undefined) return id;
  }
  for (const section of elf.sections) {
    const id = section.type === SHT_NOTE ? findBuildId(sectionBytes(elf, section)) : undefined;
    if (id !== undefined) return id;
  }
  return undefined;
}

/** In the bytes of a note section or segment. */
export function findBuildId(notes: Uint8Array): string | undefined {
  const reader = new Reader(notes);
  const padded = (size: number): number => Math.ceil(size / 4) * 4;
  for (let at = 0; at + 12 <= notes.length;) {
    const nameSize = reader.u32(at, 'n_namesz');
    const descSize = reader.u32(at + 4, 'n_descsz');
    const desc = at + 12 + padded(nameSize);
    if (desc + descSize > notes.length) return undefined;
    const isGnu = nameSize === 4 && reader.u32(at + 12, 'note name') === GNU;
    if (isGnu && reader.u32(at + 8, 'n_type') === NT_GNU_BUILD_ID) {
      return Array.from(notes.subarray(desc, desc + descSize), (byte) => byte.toString(16).padStart(2, '0')).join('');
    }
    at = desc + padded(descSize);
  }
  return undefined;
}
