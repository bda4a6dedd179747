/**
 * Which virtual slides a kernel image may take.
 *
 * The range is that of find_random_virt_addr() in arch/x86/boot/compressed/kaslr.c: from its link address up, as long as the image ends inside
 * KERNEL_IMAGE_SIZE. The kernel counts the size of the decompressor's buffer if that is larger than the image; kslide counts only the image, to _end. An
 * image that ends above the limit does not boot, because modules live there (measured on 6.1 and 6.12, with more above than an unused end of .brk).
 * kernel/image-limit.ts reads the limit from the kernel: 1 GiB, or 512 MiB without CONFIG_RANDOMIZE_BASE.
 *
 * The step is 2 MiB in every kernel, whatever its CONFIG_PHYSICAL_ALIGN. The decompressor takes that for its step, but the kernel itself does not
 * know it: it only went into the link address (LOAD_PHYSICAL_ADDR), which the slide leaves behind. What the kernel needs is that its image keeps its
 * place in the pages of 2 MiB that map it: __startup_64() stops at a difference that is no multiple of PMD_SIZE, and at nothing else; so does the
 * decompressor (MIN_KERNEL_ALIGN); the setup header says the same in min_alignment. Kernels with 16 MiB booted at every other multiple of 2 MiB that was
 * tried, virtual and physical (docs/results/slots.json, by scripts/try-slots.ts).
 */
import { KERNEL_IMAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { hex, KernelImageError } from '../base/errors.ts';

export interface Slots {
  /** Slides are 0, align, … (count − 1) × align. */
  readonly align: number;
  readonly count: number;
}

/** Who says how far apart the slots are: `least` is what every kernel allows, `option` is the caller's. */
export type AlignSource = 'least' | 'option';

export interface SlotRange {
  /** Where the image ends before it is moved, as far as slots depend on it (kernel/image-limit.ts, `endForSlots`). */
  readonly imageEnd: PhysAddr;
  /** Where the image, slide included, must end: this kernel's KERNEL_IMAGE_SIZE (kernel/image-limit.ts). */
  readonly limit: number;
  /** For slots that are farther apart than they must be. Undefined: PMD_SIZE. */
  readonly align?: number | undefined;
}

/** Throws KernelImageError for an alignment that cannot be, and for an image that ends above the limit. */
export function slotsOf({ imageEnd, limit, align = PMD_SIZE }: SlotRange): Slots {
  if (align < PMD_SIZE || align > KERNEL_IMAGE_SIZE || !Number.isInteger(Math.log2(align))) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'alignment of slides',
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
