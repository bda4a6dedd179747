/**
 * A bzImage without a decompressor: setup code and header as they were, then the segment loader (stub/segment-loader.ts) and the ELF file itself.
 *
 *     boot sector, setup code | segment loader | zeros | ELF file: header ... first segment ... | padding, CRC-32
 *                             ^ pm                     ^ pm + payload_offset  ^ at a multiple of 2 MiB from pm
 *
 * There is no EFI stub in it: the PE header goes, and with it the EFI handover bits. What loads a kernel by the 32-bit or the 64-bit boot
 * protocol takes it; UEFI firmware by itself does not.
 */
import { PAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import { alignUp, copyOf, Reader, Writer } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import type { PhysAddr } from '../base/addresses.ts';
import type { ElfFile, Segment } from '../elf/read.ts';
import { buildCrc32 } from './crc32.ts';
import { SETUP, XLF_EFI_HANDOVER } from './header.ts';
import type { SetupHeader } from './header.ts';
import { buildSegmentLoader, leadOf, MAX_SEGMENT_COPIES, SEGMENT_LOADER } from '../stub/segment-loader.ts';
import type { SegmentCopy } from '../stub/segment-loader.ts';
import { isPe } from './pe.ts';

const PARAGRAPH = 16;
const CRC_SIZE = 4;
/** Of the boot sector, what a PE header may take: up to the sentinel before the setup header. */
const SENTINEL = 0x1ef;
/** struct kernel_info: header u32, size u32, size_total u32. */
const KERNEL_INFO = { size_total: 8, least: 12, most: 0x1000 } as const;

/** The ELF file, and where its segments go; kernel/vmlinux.ts reads it. `loads`: by rising p_paddr. */
export interface PayloadKernel {
  readonly elf: ElfFile;
  readonly loads: readonly Segment[];
  readonly imageStart: PhysAddr;
  readonly imageEnd: PhysAddr;
  readonly entry: PhysAddr;
}

export interface Uncompressed {
  readonly bytes: Uint8Array;
  readonly initSize: number;
}

/** `image` gives setup code and header. */
export function buildUncompressed(image: Uint8Array, header: SetupHeader, kernel: PayloadKernel): Uncompressed {
  // Layout.
  const info = kernelInfo(image, header);
  const infoAt = SEGMENT_LOADER.size;
  const firstOffset = kernel.loads[0]!.offset;
  const payloadAt = alignUp(infoAt + info.length + firstOffset, PMD_SIZE) - firstOffset;
  const first = payloadAt + firstOffset;
  const copies = planCopies(kernel);
  const elf = kernel.elf.bytes;
  const length = alignUp(payloadAt + elf.length + CRC_SIZE, PARAGRAPH);
  const initSize = alignUp(
    Math.max(length, first + alignUp(leadOf(copies), PMD_SIZE) + kernel.imageEnd - kernel.imageStart),
    PAGE_SIZE,
  );

  // Emit.
  const setup = new Writer(copyOf(image.subarray(0, header.protectedModeStart)));
  if (isPe(image)) setup.bytes.fill(0, 0, SENTINEL);
  setup.u32(SETUP.syssize.offset, length / PARAGRAPH);
  setup.u32(SETUP.payload_offset.offset, payloadAt);
  setup.u32(SETUP.payload_length.offset, elf.length);
  setup.u32(SETUP.init_size.offset, initSize);
  if (header.xloadflags !== undefined) setup.u16(SETUP.xloadflags.offset, header.xloadflags & ~XLF_EFI_HANDOVER);
  if (header.handoverOffset !== undefined) setup.u32(SETUP.handover_offset.offset, 0);
  if (header.kernelInfoOffset !== undefined) setup.u32(SETUP.kernel_info_offset.offset, info.length === 0 ? 0 : infoAt);
  const { imageStart: link, entry } = kernel;
  const pm = header.protectedModeStart;
  const file = new Writer(new Uint8Array(pm + length));
  file.copy(0, setup.bytes);
  file.copy(pm, buildSegmentLoader({ first, link, entry, align: PMD_SIZE, copies }));
  file.copy(pm + infoAt, info);
  file.copy(pm + payloadAt, elf);
  const { bytes } = file;
  file.u32(bytes.length - CRC_SIZE, buildCrc32(bytes.subarray(0, -CRC_SIZE)));
  return { bytes, initSize };
}

/** Where each segment lies in the file and in memory, counted from the first one. */
function planCopies({ loads, imageStart }: PayloadKernel): SegmentCopy[] {
  const copies = loads.map(({ offset, paddr, filesz, memsz }) => {
    return { file: offset - loads[0]!.offset, memory: paddr - imageStart, filesz, memsz };
  });
  const ascending = copies.every(({ file }, index) => {
    const before = copies[index - 1];
    return before === undefined || file >= before.file + before.filesz;
  });
  if (ascending && copies.length <= MAX_SEGMENT_COPIES) return copies;
  throw new KernelImageError({
    code: 'unsupported',
    what: 'program headers',
    found: ascending ? `${copies.length} PT_LOAD segments` : 'segments in another order in the file than in memory',
    expected: `at most ${MAX_SEGMENT_COPIES}, in one order`,
  });
}

/** struct kernel_info, which the header points to since protocol 2.15, with what belongs to it; empty where there is none. */
function kernelInfo(image: Uint8Array, { kernelInfoOffset, protectedModeStart }: SetupHeader): Uint8Array {
  if (kernelInfoOffset === undefined || kernelInfoOffset === 0) return new Uint8Array();
  const reader = new Reader(image);
  const at = protectedModeStart + kernelInfoOffset;
  const size = reader.u32(at + KERNEL_INFO.size_total, 'kernel_info: size_total');
  if (size < KERNEL_INFO.least || size > KERNEL_INFO.most) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'kernel_info: size_total',
      offset: at + KERNEL_INFO.size_total,
      found: size,
      expected: `${KERNEL_INFO.least} to ${KERNEL_INFO.most}`,
    });
  }
  return reader.slice(at, size, 'kernel_info');
}
