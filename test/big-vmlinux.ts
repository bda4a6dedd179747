/** Kernels of more than 2 GiB, nearly all of it holes: sparse files on disk, or no file at all. */
import { closeSync, openSync, truncateSync, writeSync } from 'node:fs';
import { Writer } from '../src/base/bytes.ts';
import { EHDR, PHDR, PHDR_SIZE, SHDR, SHDR_SIZE, writeFields } from '../src/elf/fields.ts';
import { endOfElf, findSection, readElf } from '../src/elf/read.ts';
import type { ReadInto } from '../src/elf/without-debug.ts';

/** Everything between the pieces is a hole. */
export interface Sparse {
  readonly size: number;
  readonly pieces: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
}

/**
 * The same file with `hole` bytes more, a multiple of 4096: at the end of .debug_info, which grows by them; without such a section, `at` or, by default,
 * before the section names.
 */
export function grow(file: Uint8Array, hole: number, at?: number): Sparse {
  const elf = readElf(file);
  const debug = findSection(elf, '.debug_info');
  const cut = at ?? (debug === undefined ? elf.sections[elf.header.shstrndx]!.offset : debug.offset + debug.size);
  const bytes = file.slice();
  const writer = new Writer(bytes);
  const moved = (offset: number): number => (offset >= cut ? offset + hole : offset);
  const { phoff, shoff } = elf.header;
  for (const { index, offset } of elf.segments)
    writeFields(writer, phoff + index * PHDR_SIZE[64], PHDR[64], { p_offset: moved(offset) });
  for (const { index, offset, size } of elf.sections)
    writeFields(writer, shoff + index * SHDR_SIZE[64], SHDR[64], {
      sh_offset: moved(offset),
      sh_size: index === debug?.index && at === undefined ? size + hole : size,
    });
  writeFields(writer, 0, EHDR[64], { e_phoff: moved(phoff), e_shoff: moved(shoff) });
  return {
    size: bytes.length + hole,
    pieces: [
      { offset: 0, bytes: bytes.subarray(0, cut) },
      { offset: cut + hole, bytes: bytes.subarray(cut) },
    ],
  };
}

/** Takes no room on disk but for the pieces. */
export function writeSparse(path: string, { size, pieces }: Sparse): string {
  const fd = openSync(path, 'wx');
  for (const { offset, bytes } of pieces) writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
  truncateSync(path, size);
  return path;
}

/** Reads it without a file. `count.bytes` is how many bytes were read. */
export function sparseReader({ size, pieces }: Sparse): { readonly read: ReadInto; readonly count: { bytes: number } } {
  const count = { bytes: 0 };
  const read: ReadInto = (into, offset) => {
    if (offset + into.length > size) throw new RangeError(`${offset + into.length} is after the end, ${size}`);
    count.bytes += into.length;
    for (const piece of pieces) {
      const from = Math.max(offset, piece.offset);
      const end = Math.min(offset + into.length, piece.offset + piece.bytes.length);
      if (from < end) into.set(piece.bytes.subarray(from - piece.offset, end - piece.offset), from - offset);
    }
  };
  return { read, count };
}

/** What follows the ELF file. */
export function trailerOf(file: Uint8Array): Uint8Array {
  return file.subarray(endOfElf(readElf(file)));
}
