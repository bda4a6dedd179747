/**
 * The line with which a panic says where its kernel ran, and what can be wrong with the number in it.
 *
 *     Kernel Offset: 0x1c000000 from 0xffffffff81000000 (relocation range: …)      x86 (arch/x86/kernel/setup.c, dump_kernel_offset)
 *     Kernel Offset: disabled
 *
 * Other architectures print the same words. The address after `from`, where the kernel is linked, tells them apart.
 */
import { isPossibleSlide, KERNEL_IMAGE_SIZE, PMD_SIZE, START_KERNEL_MAP } from '../../base/addresses.ts';
import type { Slide, VirtAddr } from '../../base/addresses.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import { short } from '../../base/text.ts';

/** A line that another one interrupts, or that was cut off, lacks ` from ` or some of the 16 digits after it: it does not match. */
export const KERNEL_OFFSET = /Kernel Offset: (?:(disabled)|(\S+) from 0x([0-9a-f]{16,}))/;

/** Where other architectures link their kernels. arm64 has several addresses, by the size of its address space. */
const ARCHITECTURES: readonly (readonly [name: string, from: bigint, to: bigint])[] = [
  ['riscv', START_KERNEL_MAP, START_KERNEL_MAP],
  ['arm64', 0xffff_0000_0000_0000n, 0xffff_ffff_7fff_ffffn],
  ['powerpc', 0xc000_0000_0000_0000n, 0xcfff_ffff_ffff_ffffn],
  ['loongarch', 0x9000_0000_0000_0000n, 0x9fff_ffff_ffff_ffffn],
];

/** The architecture whose kernels are linked there, if it is known and not x86-64. */
export function foreignArchitecture(text: VirtAddr): string | undefined {
  return ARCHITECTURES.find(([, from, to]) => text >= from && text <= to)?.[0];
}

/**
 * The slide in a match of KERNEL_OFFSET that does not say `disabled`. `at`: the match's place in the log. Throws KernelImageError for the slide of
 * another architecture's kernel, and for one that no x86-64 kernel can have.
 */
export function readKernelOffset(value: string, base: string, at: number): Slide {
  if (base.length > 16) throw impossible('link address of Kernel Offset', `0x${base}`, 'one of 64 bits', at);
  const text = BigInt(`0x${base}`);
  const foreign = foreignArchitecture(text);
  if (foreign !== undefined) {
    throw new KernelImageError({
      code: 'wrong-architecture',
      what: 'Kernel Offset in the log',
      offset: at,
      found: `${foreign}'s: from ${hex(text)}`,
      expected: `x86-64's, from an address above ${hex(START_KERNEL_MAP)}`,
    });
  }
  return readSlide(value, { what: 'Kernel Offset in the log', at, text, prefix: true });
}

export interface SlideText {
  readonly what: string;
  /** Where it is in the log. */
  readonly at: number;
  /** Where the kernel is linked. */
  readonly text: VirtAddr;
  /** Where its image, slide included, must end. Undefined: 1 GiB. */
  readonly limit?: number | undefined;
  /** Whether `0x` must come before the digits; otherwise it may. */
  readonly prefix?: boolean | undefined;
}

/** Throws KernelImageError unless it is the hex of a slide that the kernel can have. */
export function readSlide(
  value: string,
  { what, at, text, limit = KERNEL_IMAGE_SIZE, prefix = false }: SlideText,
): Slide {
  const room = limit - Number(text - START_KERNEL_MAP);
  const expected = `the hex of a multiple of ${hex(PMD_SIZE)} below ${hex(Math.max(PMD_SIZE, room))}`;
  const digits = /^(0x)?([0-9a-f]+)$/.exec(value);
  if (digits === null || (prefix && digits[1] === undefined)) throw impossible(what, value, expected, at);
  // Twelve digits are a number exactly, and more than a slide can have.
  const number = digits[2]!.replace(/^0+(?=.)/, '');
  const slide = number.length > 12 ? Number.NaN : Number.parseInt(number, 16);
  if (!isPossibleSlide(slide) || slide >= room) throw impossible(what, value, expected, at);
  return slide;
}

/** Of a log's number, which a message repeats. */
const LONGEST = 24;

function impossible(what: string, value: string, expected: string, at: number): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what, offset: at, found: short(value, LONGEST), expected });
}
