/**
 * Zeros that become the slide, and the one constant beside them that does not.
 *
 * `_text - __START_KERNEL` is 0 as the kernel is linked. The kernel prints it twice, as KERNELOFFSET and as "Kernel Offset", and adds it to the seed of the random slides. The line "Kernel Offset" also prints
 * __START_KERNEL, which looks like the address of _text and is a number.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { ascii, indexOfBytes } from '../../base/bytes.ts';
import type { Operand, Swept } from './code.ts';
import type { Judgement } from './judgement.ts';
import type { PlaceBits } from './place-bits.ts';
import type { JudgedImage } from './sections.ts';

const PRINTED = ['KERNELOFFSET=', 'Kernel Offset: 0x'];
/** A level of printk before it. */
const LEVEL = 2;
/** Instructions between the string and the number that is printed with it. */
const BESIDE = 5;
/** kaslr_get_random_long has some 130 instructions. */
const FUNCTION = 160;
/** kernel/trace/ring_buffer.c has at most so much code. */
const RING_BUFFER = 0x2_0000;
/** Instructions from the magic number to the store. */
const STORED = 12;

/** The places by which code names the strings. */
export function findPrinted({ stretches }: JudgedImage, asked: PlaceBits): Set<PhysAddr> {
  const found = new Set<PhysAddr>();
  for (const { content, bytes, start } of stretches) {
    if (content !== 'data') continue;
    for (const text of PRINTED) {
      const needle = ascii(text);
      for (let at = indexOfBytes(bytes, needle); at >= 0; at = indexOfBytes(bytes, needle, at + 1))
        for (const place of [start + at, start + at - LEVEL]) {
          found.add(place);
          asked.add(place);
        }
    }
  }
  return found;
}

/**
 * Places of the persistent ring buffer's magic number, if a zero is stored soon after it: 6.14 stores its slide so, there and after calls of the function that does. Nothing tells such a
 * zero from another.
 */
function ringBuffersOf({ ringBuffers, zeros }: Swept): PhysAddr[] {
  return ringBuffers.flatMap(({ number, place }) =>
    zeros.some((zero) => zero.isStored && zero.number > number && zero.number <= number + STORED) ? [place] : [],
  );
}

export function judgeZeros(
  { perCpu }: JudgedImage,
  swept: Swept,
  printed: ReadonlySet<PhysAddr>,
  judgement: Judgement,
): void {
  const strings = swept.naming.flatMap(({ number, target }) => (printed.has(target) ? [number] : []));
  const isBeside = ({ number }: Operand, numbers: readonly number[], most: number): boolean =>
    numbers.some((other) => Math.abs(other - number) <= most);
  const buffers = ringBuffersOf(swept);
  for (const zero of swept.zeros) {
    const { place, isStored } = zero;
    if (buffers.some((other) => Math.abs(other - place) < RING_BUFFER)) judgement.open('ring-buffer', 'abs32', place);
    if (isStored) continue;
    if (isBeside(zero, strings, BESIDE)) judgement.site('abs32', place, 'a zero that is printed as the kernel offset');
    else if (isBeside(zero, swept.seeds, FUNCTION))
      judgement.site('abs32', place, 'a zero in the seed of random slides');
    // Per-cpu data at 0 begins with a symbol whose value such a zero is.
    else if (perCpu > 0) judgement.number('zero', 'abs32', place);
    else judgement.open('zero', 'abs32', place);
  }
  for (const start of swept.linkStarts) {
    if (isBeside(start, strings, BESIDE)) judgement.number('link-start', 'abs32', start.place);
    else judgement.site('abs32', start.place, 'an operand that is the address of _text');
  }
}
