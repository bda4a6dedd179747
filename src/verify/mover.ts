/**
 * The check `container` of a bzImage without a decompressor; bzimage/uncompressed.ts and stub/mover.ts say what it is made of. From those, only the
 * layout and the assembled code are used here, as from the added segment's. Where everything must be is worked out here.
 */
import { PAGE_SIZE } from '../base/addresses.ts';
import { copyOf, Reader, Writer } from '../base/bytes.ts';
import { buildCrc32 } from '../bzimage/crc32.ts';
import { SETUP, XLF_EFI_HANDOVER } from '../bzimage/header.ts';
import { assembleMover, MOVER } from '../stub/mover.ts';
import { isPe } from '../bzimage/pe.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { readElf } from '../elf/read.ts';
import type { Container, Shell } from './container.ts';
import { refute } from './evidence.ts';
import type { Evidence } from './evidence.ts';
import type { Original } from './original.ts';

/** The setup header's sentinel. What is before it in the boot sector belongs to the PE header. */
const SENTINEL = 0x1ef;
const MOVE_SIZE = 32;
const GDT: readonly (readonly [at: number, descriptor: bigint])[] = [
  [0x10, 0x00af_9b00_0000_ffffn],
  [0x18, 0x00cf_9300_0000_ffffn],
];

/** Accounts for every byte of the file. The other checks examine the ELF file in it. */
export function checkMover(file: Evidence, { kernel }: Original, { image, header }: Shell, opened: Container): void {
  const pm = header.protectedModeStart;
  const align = header.kernelAlignment;
  const loads = readElf(opened.unpacked)
    .segments.filter(({ type, memsz }) => type === PT_LOAD && memsz > 0)
    .toSorted((a, b) => a.paddr - b.paddr);
  const [start] = loads;
  const last = loads.at(-1);
  if (start === undefined || last === undefined)
    return refute('program headers', opened.payload.offset, { found: 'no PT_LOAD', expected: 'those of a kernel' });
  const info = kernelInfo(image, pm, header.kernelInfoOffset);
  const infoAt = MOVER.size;

  // The first segment goes to the first multiple of the alignment that leaves room for what comes before it.
  let first = align;
  while (first - start.offset < infoAt + info.length) first += align;
  const elfAt = first - start.offset;
  const elfEnd = elfAt + opened.unpacked.length;
  const length = Math.ceil((elfEnd + 4) / 16) * 16;
  const lead = Math.max(0, ...loads.map(({ offset, paddr }) => offset - start.offset - (paddr - kernel.imageStart)));
  const memory = last.paddr + last.memsz - kernel.imageStart;
  const initSize = Math.max(length, first + Math.ceil(lead / align) * align + memory);

  if (file.bytes.length !== pm + length) {
    const offset = Math.min(file.bytes.length, pm + length);
    refute('length of the file', offset, { found: file.bytes.length, expected: pm + length });
  }
  const setup = new Writer(copyOf(image.subarray(0, pm)));
  if (isPe(image)) setup.bytes.fill(0, 0, SENTINEL);
  setup.u32(SETUP.syssize.offset, length / 16);
  setup.u32(SETUP.payload_offset.offset, elfAt);
  setup.u32(SETUP.payload_length.offset, opened.unpacked.length);
  setup.u32(SETUP.init_size.offset, Math.ceil(initSize / PAGE_SIZE) * PAGE_SIZE);
  if (header.xloadflags !== undefined) setup.u16(SETUP.xloadflags.offset, header.xloadflags & ~XLF_EFI_HANDOVER);
  if (header.handoverOffset !== undefined) setup.u32(SETUP.handover_offset.offset, 0);
  if (header.kernelInfoOffset !== undefined) setup.u32(SETUP.kernel_info_offset.offset, info.length === 0 ? 0 : infoAt);
  file.expectBytes('byte of the setup code', 0, setup.bytes);

  const mover = new Writer(new Uint8Array(MOVER.size));
  mover.copy(0, assembleMover().code);
  for (const [at, descriptor] of GDT) mover.u64(MOVER.gdt + at, descriptor);
  mover.u16(MOVER.gdt_pointer, 0x1f);
  mover.u64(MOVER.first, first);
  mover.u64(MOVER.link, kernel.imageStart);
  mover.u64(MOVER.entry, kernel.entry);
  mover.u64(MOVER.align_mask, align - 1);
  mover.u64(MOVER.lead, lead);
  mover.u32(MOVER.count, loads.length);
  const down = loads.every(({ offset, paddr }) => offset - start.offset >= paddr - kernel.imageStart);
  mover.u32(MOVER.in_place, down ? 1 : 0);
  for (const [index, { offset, paddr, filesz, memsz }] of loads.entries()) {
    const values = [offset - start.offset, paddr - kernel.imageStart, filesz, memsz];
    for (const [field, value] of values.entries()) mover.u64(MOVER.moves + index * MOVE_SIZE + field * 8, value);
  }
  file.expectBytes('byte of the mover', pm, mover.bytes);
  file.expectBytes('byte of kernel_info', pm + infoAt, info);
  file.expectZeros('padding before the ELF file', pm + infoAt + info.length, pm + elfAt);
  file.accept(pm + elfAt, pm + elfEnd);
  const crcAt = file.bytes.length - 4;
  file.expectZeros('padding before the CRC-32', pm + elfEnd, crcAt);
  file.expectFields('CRC-32', crcAt, { value: [0, 4] }, { value: buildCrc32(file.bytes.subarray(0, crcAt)) });
  file.expectAllProved();
}

/** The original's struct kernel_info; empty if there is none. */
function kernelInfo(image: Uint8Array, pm: number, offset: number | undefined): Uint8Array {
  if (offset === undefined || offset === 0) return new Uint8Array();
  const reader = new Reader(image);
  const SIZE_TOTAL = 8;
  return reader.slice(pm + offset, reader.u32(pm + offset + SIZE_TOTAL, 'kernel_info: size_total'), 'kernel_info');
}
