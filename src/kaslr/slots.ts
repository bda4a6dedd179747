/**
 * Which virtual slides a kernel image may take.
 *
 * The rule is the one of find_random_virt_addr() in arch/x86/boot/compressed/kaslr.c: from its link address, the image moves up in steps of
 * CONFIG_PHYSICAL_ALIGN as long as its end stays within KERNEL_IMAGE_SIZE of __START_KERNEL_map. The kernel counts the
 * size of the decompressor's buffer if that is larger than the image; kslide counts only the image, to _end. An image that ends above
 * the limit does not boot, because modules live there (measured on 6.1 and 6.12, with more above than an unused end of .brk).
 * kernel/image-limit.ts reads the limit from the kernel: 1 GiB, or 512 MiB without CONFIG_RANDOMIZE_BASE.
 */
import { KERNEL_IMAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { hex, KernelImageError } from '../base/errors.ts';

export interface Slots {
  /** Slides are 0, align, … (count − 1) × align. */
  readonly align: number;
  readonly count: number;
}

export interface SlotRange {
  /** _end's physical link address. */
  readonly imageEnd: PhysAddr;
  /** Where the image, slide included, must end: this kernel's KERNEL_IMAGE_SIZE (kernel/image-limit.ts). */
  readonly limit: number;
  /** CONFIG_PHYSICAL_ALIGN, as in the setup header's kernel_alignment. Undefined: PMD_SIZE, its smallest value. */
  readonly align?: number | undefined;
}

/** Throws KernelImageError for an alignment that no kernel has, and for an image that ends above the limit. */
export function slotsOf({ imageEnd, limit, align = PMD_SIZE }: SlotRange): Slots {
  if (align < PMD_SIZE || align > KERNEL_IMAGE_SIZE || !Number.isInteger(Math.log2(align))) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'kernel_alignment',
      found: align,
      expected: 'a power of two from 2 MiB to 1 GiB',
    });
  }
  if (imageEnd > limit) {
    throw new KernelImageError({
      code: 'bad-value',
      what: "end of the kernel's image",
      found: imageEnd,
      expected: `at most ${hex(limit)}: the kernel's page tables map no more (KERNEL_IMAGE_SIZE)`,
    });
  }
  return { align, count: 1 + Math.floor((limit - imageEnd) / align) };
}

export function largestSlide(slots: Slots): Slide {
  return (slots.count - 1) * slots.align;
}

/** Bits of entropy if all slots are equally likely. */
export function entropyBits(slots: Slots): number {
  return Math.log2(slots.count);
}
