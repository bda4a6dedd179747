/** Which kernel a file is: the GNU build-id names the build, and a fingerprint of its bytes tells whether they were changed since. */
import { Reader, wordsIn } from '../../base/bytes.ts';
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

const OFFSET_BASIS = 0x811c_9dc5;
const PRIME = 0x0100_0193;

/**
 * A u32: FNV-1a over 32-bit words, in four lanes, because each multiplication waits for the one before it. It guards against mistakes, not against
 * attackers: someone who can change a kernel needs no collision. Of the bytes after the last whole word only the number counts.
 */
export function fingerprint(bytes: Uint8Array): number {
  const words = wordsIn(bytes.subarray(0, bytes.length - (bytes.length % 4)));
  let [a, b, c, d] = [OFFSET_BASIS, OFFSET_BASIS + 1, OFFSET_BASIS + 2, OFFSET_BASIS ^ bytes.length];
  let index = 0;
  for (const end = words.length - (words.length % 4); index < end; index += 4) {
    a = mix(a, words[index]! | 0);
    b = mix(b, words[index + 1]! | 0);
    c = mix(c, words[index + 2]! | 0);
    d = mix(d, words[index + 3]! | 0);
  }
  for (; index < words.length; index++) a = mix(a, words[index]! | 0);
  return mix(mix(mix(a, b), c), d) >>> 0;
}

function mix(hash: number, word: number): number {
  const product = Math.imul(hash ^ word, PRIME);
  return product ^ (product >>> 15); // otherwise a word's high bits would never reach the hash's low ones
}
