/**
 * Everything that is neither code nor a field nor a table: the headers, everything else that the kernel loads, and what follows the original's file, which is
 * the claim itself, the section names and the section headers. Each byte has one right value.
 */
import { copyOf, firstDifference, Writer } from '../../base/bytes.ts';
import { SHT_PROGBITS, SHT_STRTAB } from '../../elf/constants.ts';
import { EHDR, SHDR_SIZE, writeFields } from '../../elf/fields.ts';
import { findSection } from '../../elf/read.ts';
import type { ElfFile } from '../../elf/read.ts';
import { refute } from '../../verify/evidence.ts';
import type { ImagePair } from './image-pair.ts';
import { MOVES, shnumOf, shuffledSectionCount, shuffledSectionNames, tailOf } from './plain-file.ts';

const HEADER = 64;

/** `after` is the plain file. Returns how many bytes were compared. */
export function checkRemainingBytes(images: ImagePair, before: ElfFile, after: ElfFile): number {
  const moves = findSection(after, MOVES)!; // exists: the claim was read from it
  const { namesAt, shoff, end } = tailOf(before, moves);
  const header = new Writer(copyOf(before.bytes.subarray(0, HEADER)));
  writeFields(header, 0, EHDR[64], { e_shoff: shoff, e_shnum: shnumOf(shuffledSectionCount(before)) });
  if (before.header.shnum === 0) writeFields(header, 0, EHDR[64], { e_shentsize: SHDR_SIZE[64], e_shstrndx: 1 });
  const names = shuffledSectionNames(before);
  expect(after, 'ELF header', 0, header.bytes);
  const unchanged = images.expectRestUnchanged(HEADER);
  expect(after, 'padding', before.bytes.length, new Uint8Array(moves.offset - before.bytes.length));
  expect(after, 'padding', moves.offset + moves.size, new Uint8Array(namesAt - moves.offset - moves.size));
  expect(after, 'section names', namesAt, names);
  expect(after, 'padding', namesAt + names.length, new Uint8Array(shoff - namesAt - names.length));
  expect(after, 'section headers', shoff, sectionHeaders(before, moves, { namesAt, size: names.length }));
  if (after.bytes.length !== end)
    refute('size of the file', after.bytes.length, { found: after.bytes.length, expected: end });
  return unchanged + (end - before.bytes.length);
}

function sectionHeaders(
  { bytes, header }: ElfFile,
  moves: { readonly offset: number; readonly size: number },
  names: { readonly namesAt: number; readonly size: number },
): Uint8Array {
  const size = SHDR_SIZE[64];
  const count = header.shnum === 0 ? 2 : header.shnum;
  const table = new Writer(new Uint8Array((count + 1) * size));
  if (header.shnum > 0) table.copy(0, bytes.subarray(header.shoff, header.shoff + count * size));
  else {
    table.u32(size, 1); // ".shstrtab" in a table that begins with it
    table.u32(size + 4, SHT_STRTAB);
    table.u64(size + 48, 1);
  }
  const own = (header.shnum === 0 ? 1 : header.shstrndx) * size;
  table.u64(own + 24, names.namesAt);
  table.u64(own + 32, names.size);
  if (shnumOf(count + 1) === 0) table.u64(32, count + 1);
  const last = count * size;
  table.u32(last, names.size - MOVES.length - 1);
  table.u32(last + 4, SHT_PROGBITS);
  table.u64(last + 24, moves.offset);
  table.u64(last + 32, moves.size);
  table.u64(last + 48, 8);
  return table.bytes;
}

function expect({ bytes }: ElfFile, what: string, at: number, expected: Uint8Array): void {
  const found = bytes.subarray(at, at + expected.length);
  if (found.length < expected.length)
    refute(what, at, { found: 'past the end of the file', expected: expected.length });
  const difference = firstDifference(found, expected);
  if (difference >= 0) refute(what, at + difference, { found: found[difference]!, expected: expected[difference]! });
}
