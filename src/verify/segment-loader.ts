/**
 * Checks a bzImage without a decompressor (bzimage/uncompressed.ts and stub/segment-loader.ts describe its parts). Only the segment loader's
 * layout and assembled code are taken from there; where everything has to be is computed again here.
 */
import { PAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import { copyOf, Reader, Writer } from '../base/bytes.ts';
import { buildCrc32 } from '../bzimage/crc32.ts';
import { SETUP, XLF_EFI_HANDOVER } from '../bzimage/header.ts';
import { SEGMENT_LOADER } from '../stub/segment-loader.ts';
import { assembleSegmentLoader } from '../stub/segment-loader-program.ts';
import { isPe } from '../bzimage/pe.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { readElf } from '../elf/read.ts';
import type { Container, Shell } from './container.ts';
import { refute } from './evidence.ts';
import type { Evidence } from './evidence.ts';
import type { Original } from './original.ts';

/** The setup header's sentinel; what is before it in the boot sector is the PE header's. */
const SENTINEL = 0x1ef;
const COPY_SIZE = 32;
const GDT: readonly (readonly [at: number, descriptor: bigint])[] = [
  [0x10, 0x00af_9b00_0000_ffffn],
  [0x18, 0x00cf_9300_0000_ffffn],
];

/** Proves every byte of the file except the ELF file in it, which the other checks prove. */
export function checkSegmentLoader(
  file: Evidence,
  { kernel }: Original,
  { image, header }: Shell,
  opened: Container,
): void {
  const pm = header.protectedModeStart;
  const align = PMD_SIZE;
  const loads = readElf(opened.unpacked)
    .segments.filter(({ type, memsz }) => type === PT_LOAD && memsz > 0)
    .toSorted((a, b) => a.paddr - b.paddr);
  const [start] = loads;
  const last = loads.at(-1);
  if (start === undefined || last === undefined)
    return refute('program headers', opened.payload.offset, { found: 'no PT_LOAD', expected: 'those of a kernel' });
  const info = kernelInfo(image, pm, header.kernelInfoOffset);
  const infoAt = SEGMENT_LOADER.size;

  // The first multiple of the alignment that leaves room for the ELF header and everything before it.
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

  const loader = new Writer(new Uint8Array(SEGMENT_LOADER.size));
  loader.copy(0, assembleSegmentLoader().code);
  for (const [at, descriptor] of GDT) loader.u64(SEGMENT_LOADER.gdt + at, descriptor);
  loader.u16(SEGMENT_LOADER.gdt_pointer, 0x1f);
  loader.u64(SEGMENT_LOADER.first, first);
  loader.u64(SEGMENT_LOADER.link, kernel.imageStart);
  loader.u64(SEGMENT_LOADER.entry, kernel.entry);
  loader.u64(SEGMENT_LOADER.align_mask, align - 1);
  loader.u64(SEGMENT_LOADER.lead, lead);
  loader.u32(SEGMENT_LOADER.count, loads.length);
  const down = loads.every(({ offset, paddr }) => offset - start.offset >= paddr - kernel.imageStart);
  loader.u32(SEGMENT_LOADER.in_place, down ? 1 : 0);
  for (const [index, { offset, paddr, filesz, memsz }] of loads.entries()) {
    const values = [offset - start.offset, paddr - kernel.imageStart, filesz, memsz];
    for (const [field, value] of values.entries())
      loader.u64(SEGMENT_LOADER.copies + index * COPY_SIZE + field * 8, value);
  }
  file.expectBytes('byte of the segment loader', pm, loader.bytes);
  file.expectBytes('byte of kernel_info', pm + infoAt, info);
  file.expectZeros('padding before the ELF file', pm + infoAt + info.length, pm + elfAt);
  file.accept(pm + elfAt, pm + elfEnd);
  const crcAt = file.bytes.length - 4;
  file.expectZeros('padding before the CRC-32', pm + elfEnd, crcAt);
  file.expectFields('CRC-32', crcAt, { value: [0, 4] }, { value: buildCrc32(file.bytes.subarray(0, crcAt)) });
  file.expectAllProved();
}

/** The original's struct kernel_info; empty where there is none. */
function kernelInfo(image: Uint8Array, pm: number, offset: number | undefined): Uint8Array {
  if (offset === undefined || offset === 0) return new Uint8Array();
  const reader = new Reader(image);
  const SIZE_TOTAL = 8;
  return reader.slice(pm + offset, reader.u32(pm + offset + SIZE_TOTAL, 'kernel_info: size_total'), 'kernel_info');
}
