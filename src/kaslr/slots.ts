/**
 * Which virtual slides a kernel image may take.
 *
 * The rule is the one of find_random_virt_addr() in arch/x86/boot/compressed/kaslr.c: from its link address, the image moves up in steps of
 * CONFIG_PHYSICAL_ALIGN as long as its end stays within KERNEL_IMAGE_SIZE of __START_KERNEL_map. The kernel counts the
 * size of the decompressor's buffer if that is larger than the image; kslide counts only the image, to _end. An image that ends above
 * 0xffffffffc0000000 does not boot, because modules live there (measured on 6.1 and 6.12, with more above than an unused end of .brk).
 */
import { KERNEL_IMAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { KernelImageError } from '../base/errors.ts';

export interface Slots {
  /** Slides are 0, align, … (count − 1) × align. */
  readonly align: number;
  readonly count: number;
}

/** `imageEnd`: _end's physical link address. `align`: CONFIG_PHYSICAL_ALIGN, as in the setup header's kernel_alignment; PMD_SIZE if unknown. */
export function slotsOf(imageEnd: PhysAddr, align = PMD_SIZE): Slots {
  if (align < PMD_SIZE || align > KERNEL_IMAGE_SIZE || !Number.isInteger(Math.log2(align))) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'kernel_alignment',
      found: align,
      expected: 'a power of two from 2 MiB to 1 GiB',
    });
  }
  if (imageEnd > KERNEL_IMAGE_SIZE) throw new RangeError('an image outside KERNEL_IMAGE_SIZE');
  return { align, count: 1 + Math.floor((KERNEL_IMAGE_SIZE - imageEnd) / align) };
}

export function largestSlide(slots: Slots): Slide {
  return (slots.count - 1) * slots.align;
}

/** Bits of entropy if all slots are equally likely. */
export function entropyBits(slots: Slots): number {
  return Math.log2(slots.count);
}
