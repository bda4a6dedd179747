/**
 * The plain kernel in a shuffled one that relocates itself: what it was before the program was added.
 *
 * A plain one is the original's file, changed, then .kslide.moves, the section names and the section headers. So how long it is follows from the original
 * and from where .kslide.moves lies. What is taken apart here wrongly is found afterwards: `verify` has to prove the whole file from it.
 */
import { alignUp, ascii, copyOf, Writer } from '../../base/bytes.ts';
import { EHDR64, SHDR_SIZE, SHN_LORESERVE } from '../../elf/constants.ts';
import { findSection } from '../../elf/read.ts';
import type { ElfFile } from '../../elf/read.ts';
import { ENTRY_BYTES, PARAMS, PARAMS_MAGIC } from '../../segment/layout.ts';
import { refute } from '../../verify/evidence.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';

const MOVES = '.kslide.moves';

export interface PlainKernel {
  readonly bytes: Uint8Array;
  readonly selfRelocating: boolean;
}

/** Sections of a shuffled file: the original's, and .kslide.moves; a file that had none gets a null one and a name table. */
export function sectionCount(original: ElfFile): number {
  return (original.header.shnum === 0 ? 2 : original.header.shnum) + 1;
}

/** What e_shnum says of so many: more than it has room for are counted in section header 0. */
export function shnumOf(count: number): number {
  return count < SHN_LORESERVE ? count : 0;
}

interface Tail {
  readonly namesAt: number;
  readonly shoff: number;
  /** Where a plain file ends, but for the relocation table. */
  readonly end: number;
}

/** What is behind .kslide.moves, by what is before it. */
export function layOutTail(original: ElfFile, moves: { readonly offset: number; readonly size: number }): Tail {
  const namesAt = alignUp(moves.offset + moves.size, 8);
  const shoff = alignUp(namesAt + sectionNames(original).length, 8);
  return { namesAt, shoff, end: shoff + sectionCount(original) * SHDR_SIZE[64] };
}

/** The original's, and one more. */
export function sectionNames({ header, sections, bytes }: ElfFile): Uint8Array {
  const names = header.shnum === 0 ? undefined : sections[header.shstrndx];
  const old = names === undefined ? ascii('\0.shstrtab\0') : bytes.subarray(names.offset, names.offset + names.size);
  const all = new Uint8Array(old.length + MOVES.length + 1);
  all.set(old);
  all.set(ascii(MOVES), old.length);
  return all;
}

export function unconvert(shuffled: ElfFile, original: Vmlinux): PlainKernel {
  const moves = findSection(shuffled, MOVES);
  if (moves === undefined) return refute(`section ${MOVES}`, 0, { found: 'missing', expected: 'what moved where' });
  const { bytes } = shuffled;
  const hook = findParameters(shuffled);
  if (hook === undefined) return { bytes, selfRelocating: false };

  const { shoff, end } = layOutTail(original.elf, moves);
  if (end > bytes.length)
    refute(`section ${MOVES}`, moves.offset, { found: moves.size, expected: 'section headers behind it' });
  const writer = new Writer(copyOf(bytes.subarray(0, end)));
  const { header } = original.elf;
  writer.u64(EHDR64.e_phoff, header.phoff);
  writer.u16(EHDR64.e_phnum, header.phnum);
  writer.u64(EHDR64.e_shoff, shoff);
  writer.u16(EHDR64.e_shnum, shnumOf(sectionCount(original.elf)));
  // One more program header may have been written behind the old ones: there was nothing there.
  const behind = header.phoff + header.phnum * 56;
  writer.copy(behind, original.elf.bytes.subarray(behind, behind + 56));
  writer.copy(original.entryOffset, bytes.subarray(hook, hook + ENTRY_BYTES));
  return { bytes: writer.bytes, selfRelocating: true };
}

/** File offset of the saved bytes of the entry, or undefined where there is no program of ours. */
function findParameters({ bytes, segments }: ElfFile): number | undefined {
  const last = segments.at(-1);
  if (last === undefined || last.offset + PARAMS.size > bytes.length) return undefined;
  const ours = PARAMS_MAGIC.every((byte, at) => bytes[last.offset + at] === byte);
  return ours ? last.offset + PARAMS.entry_bytes : undefined;
}
