/**
 * How a stock decompressor treats the file that it unpacks: parse_elf() and handle_relocations() in arch/x86/boot/compressed/misc.c,
 * after choose_random_location() in kaslr.c. None of kslide's code runs there, so the file must suit the decompressor.
 *
 *     output                                                      output + output_len
 *     | ELF header |  file bytes of the segments  | headers | 0 ... 0 0 0 |
 *     | text, data, ... _end |   | added segment, scratch |
 *       to p_paddr - LOAD_PHYSICAL_ADDR, one after the other, memmove()
 *
 * This puts four requirements on the file:
 *
 * - p_align of each PT_LOAD is a multiple of 2 MiB. Otherwise the decompressor says "Alignment of LOAD segment isn't multiple of 2MB" and stops;
 * - segments are moved in the order of their headers, inside one buffer: the place where one goes must not still hold bytes of a later one;
 * - afterwards relocations are read from the end of the buffer, so no segment may be moved there. An empty table is three zero words;
 * - memory is chosen and mapped for max(output_len, _end - _text); the second value is a constant in the decompressor's code. The added segment lies
 *   above _end, so output_len must reach the segment's end. Zeros after the file do that. Compressed they cost nothing, and they lengthen the empty
 *   table.
 */
import { PMD_SIZE } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { alignUp } from '../base/bytes.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { readElf } from '../elf/read.ts';
import type { Segment } from '../elf/read.ts';
import { hex, KernelImageError } from '../base/errors.ts';

/** Bytes: the zero words that end three lists. Decompressors up to 6.14 read three lists, newer ones two. */
export const EMPTY_TABLE = 12;

/** The unpacked size of a kernel with an empty table: the larger of its file and its memory, and then the table, which no segment may reach. */
export function unpackedSize(vmlinux: Uint8Array, loadAddress: PhysAddr): number {
  const memory = memoryOf(loadsOf(vmlinux), loadAddress);
  return alignUp(Math.max(vmlinux.length, memory), 4) + EMPTY_TABLE;
}

/**
 * Throws KernelImageError if a decompressor would not unpack this file correctly. `loadAddress`: LOAD_PHYSICAL_ADDR, the setup header's
 * pref_address. `tableSize`: the bytes at the end that the decompressor reads as its table, after it has moved the segments.
 */
export function checkUnpacking(unpacked: Uint8Array, loadAddress: PhysAddr, tableSize: number): void {
  const table = { start: unpacked.length - tableSize, end: unpacked.length };
  const loads = loadsOf(unpacked);
  const memory = memoryOf(loads, loadAddress);
  if (memory > unpacked.length)
    refuse('unpacked size', unpacked.length, `at least ${hex(memory)}, up to the image's end`);
  for (const [place, { index, align, paddr, filesz, offset }] of loads.entries()) {
    const what = `program header ${index}`;
    if (align % PMD_SIZE !== 0)
      refuse(`${what}: p_align`, align, `a multiple of ${hex(PMD_SIZE)}, as the decompressor requires`);
    const start = paddr - loadAddress;
    if (start < 0) refuse(`${what}: p_paddr`, paddr, `${hex(loadAddress)} (pref_address) or above`);
    const hits = (from: number, to: number): boolean => filesz > 0 && start < to && start + filesz > from;
    // A segment that is already at its place is not moved.
    if (start === offset) continue;
    const later = loads.slice(place + 1).find((next) => hits(next.offset, next.offset + next.filesz));
    if (later !== undefined) refuse(`${what}: p_paddr`, paddr, `memory free of program header ${later.index}'s bytes`);
    if (hits(table.start, table.end)) refuse(`${what}: p_paddr`, paddr, 'memory free of the relocation table');
  }
}

function memoryOf(loads: readonly Segment[], loadAddress: PhysAddr): number {
  return Math.max(...loads.map(({ paddr, memsz }) => paddr + memsz - loadAddress));
}

function loadsOf(vmlinux: Uint8Array): Segment[] {
  return readElf(vmlinux).segments.filter(({ type }) => type === PT_LOAD);
}

function refuse(what: string, found: number, expected: string): never {
  throw new KernelImageError({ code: 'would-not-boot', what, found, expected });
}
