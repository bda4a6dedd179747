/**
 * A model of how a stock decompressor puts the file that it unpacked in place: parse_elf() in arch/x86/boot/compressed/misc.c. It knows nothing of
 * `convert`, and of no other way to load a kernel.
 *
 * The file lies at the start of the output buffer, which becomes the image. For each PT_LOAD, in the order of the headers, p_filesz bytes are moved from
 * p_offset to p_paddr - LOAD_PHYSICAL_ADDR in that buffer. Relocations are read from the buffer's end after that. So a move may destroy what
 * another one has to move later, or the table; a boot loader that reads from a file has no such limit.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { PMD_SIZE } from '../base/addresses.ts';
import { copyOf, firstDifference } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { PHDR, PHDR_SIZE } from '../elf/fields.ts';
import { readElf } from '../elf/read.ts';
import { refute } from './evidence.ts';

/** `tableSize`: the bytes at the end that the decompressor reads as its table. Refutes a file that does not come out as a boot loader would load it. */
export function checkUnpacking(unpacked: Uint8Array, loadAddress: PhysAddr, tableSize: number): void {
  const { header, segments } = readElf(unpacked);
  const loads = segments.filter(({ type }) => type === PT_LOAD);
  const buffer = copyOf(unpacked); // A Node decoder returns a Buffer, whose slice() is no copy.
  const fieldAt = (index: number, name: 'p_align' | 'p_paddr' | 'p_memsz'): number =>
    header.phoff + index * PHDR_SIZE[64] + PHDR[64][name][0];
  for (const { index, offset, paddr, filesz, memsz, align } of loads) {
    const what = `program header ${index}`;
    const to = paddr - loadAddress;
    if (align % PMD_SIZE !== 0)
      refute(`${what}: p_align`, fieldAt(index, 'p_align'), {
        found: align,
        expected: `a multiple of ${hex(PMD_SIZE)}: the decompressor stops at any other`,
      });
    if (to < 0) {
      const expected = `${hex(loadAddress)} (pref_address) or above`;
      refute(`${what}: p_paddr`, fieldAt(index, 'p_paddr'), { found: paddr, expected });
    }
    if (to + Math.max(filesz, memsz) > buffer.length) {
      const expected = `an end at ${hex(loadAddress + buffer.length)} or before: the decompressor finds memory for what it unpacks`;
      refute(`${what}: p_memsz`, fieldAt(index, 'p_memsz'), { found: memsz, expected });
    }
    buffer.copyWithin(to, offset, offset + filesz);
  }
  const parts = loads.map(({ index, offset, paddr, filesz }) => ({
    what: `program header ${index}`,
    from: offset,
    to: paddr - loadAddress,
    size: filesz,
  }));
  const table = unpacked.length - tableSize;
  for (const { what, from, to, size } of [...parts, { what: 'table', from: table, to: table, size: tableSize }]) {
    const difference = firstDifference(buffer.subarray(to, to + size), unpacked.subarray(from, from + size));
    if (difference < 0) continue;
    refute(`${what}, as the decompressor puts it in place: byte ${hex(difference)}`, from + difference, {
      found: buffer[to + difference]!,
      expected: unpacked[from + difference]!,
    });
  }
}
