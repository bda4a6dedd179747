/**
 * Where a kernel runs by the word of its file alone, for kernels that do not say it themselves.
 *
 * A panic that says "Kernel Offset: disabled" says that the kernel's own KASLR is off (arch/x86/kernel/setup.c, dump_kernel_offset). A kernel that the host
 * has moved (`kslide randomize`) says the same, with `nokaslr` or without the flag, and so does every kernel without CONFIG_RANDOMIZE_BASE.
 */
import { KERNEL_IMAGE_SIZE, START_KERNEL_MAP } from '../base/addresses.ts';
import type { Slide, VirtAddr } from '../base/addresses.ts';
import { PT_LOAD } from '../elf/constants.ts';
import type { ElfFile } from '../elf/read.ts';
import { findSegment, kindOfKernel, readSlides } from '../segment/read.ts';
import { readAppliedSlide, readImageLimit } from './image-limit.ts';
import { readVmlinuxFrom } from './vmlinux.ts';

/**
 * The virtual slide of the kernel in this file when it runs with its KASLR off. Undefined if the file does not tell: a self-relocating kernel without
 * CONFIG_RANDOMIZE_BASE moves, but never says so.
 */
export function slideWithKaslrOff(elf: ElfFile): Slide | undefined {
  const kind = kindOfKernel(elf);
  if (kind === 'moved') return readSlides(elf, findSegment(elf)!).virt;
  if (kind === 'plain') return readAppliedSlide(elf);
  // The stub sets the flag when it moves the kernel, and a kernel with CONFIG_RANDOMIZE_BASE then prints its offset.
  const { bytes, source } = readImageLimit(readVmlinuxFrom(elf));
  return source === 'page-tables' && bytes === KERNEL_IMAGE_SIZE ? 0 : undefined;
}

/** Where the image's text is linked: its lowest address in the kernel map. Per-cpu data may be linked at 0. Undefined if nothing is linked there. */
export function linkedText(elf: ElfFile): VirtAddr | undefined {
  let lowest: VirtAddr | undefined;
  for (const { type, vaddr } of elf.segments)
    if (type === PT_LOAD && vaddr >= START_KERNEL_MAP && (lowest === undefined || vaddr < lowest)) lowest = vaddr;
  return lowest;
}
