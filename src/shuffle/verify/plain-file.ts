/**
 * The plain kernel in a shuffled one that relocates itself: the file before the program was added.
 *
 * A plain file is the original's file, changed, then .kslide.moves, the section names and the section headers. So its length follows from the original
 * and from where .kslide.moves lies. A mistake in taking a file apart would be found afterwards: `verify` must prove the whole file from the plain one.
 */
import { alignUp, ascii, copyOf, Writer } from '../../base/bytes.ts';
import { SHN_LORESERVE } from '../../elf/constants.ts';
import { EHDR, PHDR_SIZE, SHDR_SIZE, writeFields } from '../../elf/fields.ts';
import { findSection } from '../../elf/read.ts';
import type { ElfFile } from '../../elf/read.ts';
import { ENTRY_BYTES, PARAMS, PARAMS_MAGIC } from '../../segment/layout.ts';
import { refute } from '../../verify/evidence.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';

/** The section that says what went where. */
export const MOVES = '.kslide.moves';

export interface PlainKernel {
  readonly bytes: Uint8Array;
  readonly selfRelocating: boolean;
}

/** The number of sections of a shuffled file: the original's, and .kslide.moves. A file without sections gets a null one and a name table as well. */
export function shuffledSectionCount(original: ElfFile): number {
  return (original.header.shnum === 0 ? 2 : original.header.shnum) + 1;
}

/** e_shnum for this many sections. When the number does not fit, e_shnum is 0 and section header 0 holds it. */
export function shnumOf(count: number): number {
  return count < SHN_LORESERVE ? count : 0;
}

interface Tail {
  readonly namesAt: number;
  readonly shoff: number;
  /** Where a plain file ends, not counting the relocation table. */
  readonly end: number;
}

/** What follows .kslide.moves. */
export function tailOf(original: ElfFile, moves: { readonly offset: number; readonly size: number }): Tail {
  const namesAt = alignUp(moves.offset + moves.size, 8);
  const shoff = alignUp(namesAt + shuffledSectionNames(original).length, 8);
  return { namesAt, shoff, end: shoff + shuffledSectionCount(original) * SHDR_SIZE[64] };
}

/** The contents of the section name table: the original's names, and one more. */
export function shuffledSectionNames({ header, sections, bytes }: ElfFile): Uint8Array {
  const names = header.shnum === 0 ? undefined : sections[header.shstrndx];
  const old = names === undefined ? ascii('\0.shstrtab\0') : bytes.subarray(names.offset, names.offset + names.size);
  const all = new Uint8Array(old.length + MOVES.length + 1);
  all.set(old);
  all.set(ascii(MOVES), old.length);
  return all;
}

export function extractPlain(shuffled: ElfFile, original: Vmlinux): PlainKernel {
  const moves = findSection(shuffled, MOVES);
  if (moves === undefined) return refute(`section ${MOVES}`, 0, { found: 'missing', expected: 'what moved where' });
  // Everything below computes with this offset, and may: it has one right value.
  const expected = alignUp(original.elf.bytes.length, 8);
  if (moves.offset !== expected) refute(`sh_offset of ${MOVES}`, moves.offset, { found: moves.offset, expected });
  const { bytes } = shuffled;
  const hook = findParameters(shuffled);
  if (hook === undefined) return { bytes, selfRelocating: false };

  const { shoff, end } = tailOf(original.elf, moves);
  if (end > bytes.length)
    refute(`section ${MOVES}`, moves.offset, { found: moves.size, expected: 'section headers after it' });
  const writer = new Writer(copyOf(bytes.subarray(0, end)));
  const { header } = original.elf;
  writeFields(writer, 0, EHDR[64], {
    e_phoff: header.phoff,
    e_phnum: header.phnum,
    e_shoff: shoff,
    e_shnum: shnumOf(shuffledSectionCount(original.elf)),
  });
  // One more program header may have been written after the old ones, over the original's bytes.
  const afterHeaders = header.phoff + header.phnum * PHDR_SIZE[64];
  writer.copy(afterHeaders, original.elf.bytes.subarray(afterHeaders, afterHeaders + PHDR_SIZE[64]));
  writer.copy(original.entryOffset, bytes.subarray(hook, hook + ENTRY_BYTES));
  return { bytes: writer.bytes, selfRelocating: true };
}

/** The file offset of the entry's saved bytes; undefined when kslide's program was not added. */
function findParameters({ bytes, segments }: ElfFile): number | undefined {
  const last = segments.at(-1);
  if (last === undefined || last.offset + PARAMS.size > bytes.length) return undefined;
  const isOurs = PARAMS_MAGIC.every((byte, at) => bytes[last.offset + at] === byte);
  return isOurs ? last.offset + PARAMS.entry_bytes : undefined;
}
