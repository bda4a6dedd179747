/**
 * A boot loader for the 64-bit Linux boot protocol (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"), for QEMU.
 *
 * Firecracker, crosvm and others start an ELF kernel at e_entry in long mode; QEMU does so only by PVH, in 32-bit protected mode. So the
 * kernel's segments go into a new ELF file, together with a small program that QEMU enters by PVH and that goes on to e_entry
 * (linux64-program.ts). The new file may place the kernel at a physical slide.
 *
 * The loader gives what the protocol promises and nothing else: all registers but RSI hold addresses that fault, there is no stack, and
 * the identity map ends where it was asked to end. A kernel that relies on more does not boot here, rather than somewhere else.
 *
 * It lies in the lowest free memory from 1 MiB: below is what firmware and QEMU's option ROM use (the ROM leaves hvm_start_info there),
 * the initial RAM disk is at the end of low memory, and the kernel is done with the loader once it has copied boot_params.
 */
import { PAGE_SIZE, MIB } from '../../base/addresses.ts';
import type { PhysAddr, Slide } from '../../base/addresses.ts';
import { alignUp } from '../../base/bytes.ts';
import { PT_LOAD } from '../../elf/constants.ts';
import { readElf, segmentBytes } from '../../elf/read.ts';
import type { ElfFile, Segment } from '../../elf/read.ts';
import { buildElf, pvhNote } from './elf-image.ts';
import { buildProgram, loaderSize } from './linux64-program.ts';
import type { Linux64Options } from './linux64-program.ts';

export type { Linux64Options } from './linux64-program.ts';

/**
 * Wraps an ELF kernel into an ELF file that QEMU boots by PVH and that enters the kernel by the 64-bit boot protocol.
 *
 * Throws KernelImageError if `kernel` is not readable as ELF, and RangeError for options that contradict each other.
 */
export function buildLinux64Loader(kernel: Uint8Array, options: Linux64Options = {}): Uint8Array {
  const elf = readElf(kernel);
  const slide = options.physicalSlide ?? 0;
  const address = findRoom(elf, slide, loaderSize(options));
  const program = buildProgram(address, Number(elf.header.entry) + slide, options);
  return buildElf({
    entry: address,
    note: pvhNote(address),
    segments: [
      { address, bytes: program, memsz: program.length },
      ...loadable(elf).map((segment) => ({
        address: segment.paddr + slide,
        bytes: segmentBytes(elf, segment),
        memsz: segment.memsz,
      })),
    ],
  });
}

/** The lowest page from 1 MiB with `size` bytes that no segment of the kernel takes. */
function findRoom(elf: ElfFile, slide: Slide, size: number): PhysAddr {
  let address = MIB;
  for (const { paddr, memsz } of loadable(elf).toSorted((a, b) => a.paddr - b.paddr)) {
    if (address + size <= paddr + slide) break;
    address = Math.max(address, alignUp(paddr + slide + memsz, PAGE_SIZE));
  }
  return address;
}

function loadable(elf: ElfFile): Segment[] {
  return elf.segments.filter(({ type, memsz }) => type === PT_LOAD && memsz > 0);
}
