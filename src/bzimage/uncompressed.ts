/**
 * A bzImage without a decompressor: setup code and header as they were, then the mover (mover.ts) and the ELF file itself.
 *
 *     boot sector, setup code | mover | zeros | ELF file: header ... first segment ... | padding, CRC-32
 *                             ^ pm            ^ pm + payload_offset  ^ at a multiple of kernel_alignment from pm
 *
 * It has no EFI stub, so the PE header and the EFI handover bits are removed. Boot loaders that use the 32-bit or the 64-bit boot
 * protocol can load it. UEFI firmware by itself cannot.
 */
import { alignUp, copyOf, Reader, Writer } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { PAGE_SIZE } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import type { ElfFile, Segment } from '../elf/read.ts';
import { buildCrc32 } from './crc32.ts';
import { SETUP, XLF_EFI_HANDOVER } from './header.ts';
import type { SetupHeader } from './header.ts';
import { buildMover, leadOf, MOST_MOVES, MOVER } from '../stub/mover.ts';
import type { Move } from '../stub/mover.ts';
import { isPe } from './pe.ts';

const PARAGRAPH = 16;
const CRC_SIZE = 4;
/** End of the part of the boot sector that a PE header may use: the sentinel before the setup header. */
const SENTINEL = 0x1ef;
/** The largest CONFIG_PHYSICAL_ALIGN that arch/x86/Kconfig allows. It limits the zeros that are needed before the first segment. */
const MOST_ALIGN = 0x100_0000;
/** struct kernel_info: header u32, size u32, size_total u32. */
const KERNEL_INFO = { size_total: 8, least: 12, most: 0x1000 } as const;

/** The ELF file, and where its segments go; kernel/vmlinux.ts reads it. `loads`: by ascending p_paddr. */
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

/** `image`: the bzImage that setup code and header are taken from. */
export function buildUncompressed(image: Uint8Array, header: SetupHeader, kernel: PayloadKernel): Uncompressed {
  // Layout.
  const info = kernelInfo(image, header);
  const infoAt = MOVER.size;
  const firstOffset = kernel.loads[0]!.offset;
  const align = checkAlignment(header);
  const payloadAt = alignUp(infoAt + info.length + firstOffset, align) - firstOffset;
  const first = payloadAt + firstOffset;
  const moves = planMoves(kernel);
  const elf = kernel.elf.bytes;
  const length = alignUp(payloadAt + elf.length + CRC_SIZE, PARAGRAPH);
  const initSize = alignUp(
    Math.max(length, first + alignUp(leadOf(moves), align) + kernel.imageEnd - kernel.imageStart),
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
  file.copy(pm, buildMover({ first, link, entry, align, moves }));
  file.copy(pm + infoAt, info);
  file.copy(pm + payloadAt, elf);
  const { bytes } = file;
  file.u32(bytes.length - CRC_SIZE, buildCrc32(bytes.subarray(0, -CRC_SIZE)));
  return { bytes, initSize };
}

function checkAlignment({ kernelAlignment }: SetupHeader): number {
  if (kernelAlignment <= MOST_ALIGN) return kernelAlignment;
  const { name, offset } = SETUP.kernel_alignment;
  const expected = `at most ${hex(MOST_ALIGN)}, for an image without a decompressor`;
  throw new KernelImageError({ code: 'too-large', what: name, offset, found: kernelAlignment, expected });
}

/** Where each segment lies in the file and in memory, relative to the first one. */
function planMoves({ loads, imageStart }: PayloadKernel): Move[] {
  const moves = loads.map(({ offset, paddr, filesz, memsz }) => {
    return { file: offset - loads[0]!.offset, memory: paddr - imageStart, filesz, memsz };
  });
  const ascending = moves.every(({ file }, index) => {
    const before = moves[index - 1];
    return before === undefined || file >= before.file + before.filesz;
  });
  if (ascending && moves.length <= MOST_MOVES) return moves;
  throw new KernelImageError({
    code: 'unsupported',
    what: 'program headers',
    found: ascending ? `${moves.length} PT_LOAD segments` : 'segments in another order in the file than in memory',
    expected: `at most ${MOST_MOVES}, in one order`,
  });
}

/** struct kernel_info with its variable-length data. The header points to it since protocol 2.15. Empty if there is none. */
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
