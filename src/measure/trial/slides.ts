/**
 * At which slides a kernel is tried.
 *
 * A slide is a multiple of 2 MiB or more below 1 GiB: its bits are 21 to 29. Added to an address it changes bytes 2 and 3 of the field, and the only carry from one byte
 * to the next is that from byte 2 to byte 3. So whatever is wrong with a field shows at one of these:
 *
 * - the smallest: bits of byte 2 alone. A number that was taken for an address is off by little, and a missing site leads to nearby code;
 * - the largest: what lies at the end of the range, and what runs into its limit;
 * - byte 2 with all its bits: every address but those with zeros there carries into byte 3, and inverse fields borrow from it;
 * - byte 2 with none: nothing carries, and byte 3 alone changes. Code that has taken a part of an address for a number (a shift by 24, a mask) sees another;
 * - two that have every other bit, of which each bit is in one: a mask that hides a bit of one slide shows at the other.
 */
import { hex } from '../../base/errors.ts';
import type { Slide } from '../../base/addresses.ts';
import { largestSlide } from '../../kaslr/slots.ts';
import type { Slots } from '../../kaslr/slots.ts';

export interface TrialSlide {
  readonly slide: Slide;
  readonly why: string;
}

const BYTE_2 = 0xff_0000;
const EVERY_OTHER = 0x2aa0_0000;
const THE_OTHERS = 0x1540_0000;

/** Different ones, none of them 0; fewer where a kernel has few slots. */
export function chooseSlides(slots: Slots): TrialSlide[] {
  const { align } = slots;
  const largest = largestSlide(slots);
  const bits = BYTE_2 & -align;
  // With byte 2 as asked for, the largest that there is.
  const withByte2 = (wanted: number): Slide => {
    const top = largest - (largest % (BYTE_2 + 0x1_0000)) + wanted;
    return top <= largest ? top : top - (BYTE_2 + 0x1_0000);
  };
  const asked: TrialSlide[] = [
    { slide: align, why: 'the smallest' },
    { slide: largest, why: 'the largest' },
    { slide: withByte2(bits), why: 'carries out of byte 2' },
    { slide: withByte2(0), why: 'no carries' },
    ...[EVERY_OTHER, THE_OTHERS].map((pattern) => ({ slide: pattern & -align, why: `bits ${hex(pattern & -align)}` })),
  ];
  const slides = new Map<Slide, TrialSlide>();
  for (const choice of asked)
    if (choice.slide > 0 && choice.slide <= largest && !slides.has(choice.slide)) slides.set(choice.slide, choice);
  return [...slides.values()];
}
