/**
 * How sites follow each other, which is what decides how small a form can be: bitmaps want aligned neighbours, byte-sized gaps want
 * sites that are near.
 */
import type { Sites } from '../relocs/tables/apply.ts';

export interface Placement {
  /** 64-bit sites at multiples of 8, and those that begin where the one before ends. */
  readonly abs64: { readonly sites: number; readonly aligned: number; readonly adjacent: number };
  /** 32-bit sites, inverse ones too: at multiples of 4, and from the start of the one before to their own in at most 0xff or 0xffff bytes. */
  readonly abs32: Gaps;
  readonly inverse32: Gaps;
}

export interface Gaps {
  readonly sites: number;
  readonly aligned: number;
  readonly byteGaps: number;
  readonly wordGaps: number;
}

export function describePlacement({ abs64, inverse32, abs32 }: Sites): Placement {
  let [aligned, adjacent] = [0, 0];
  let free = -1; // behind the site before
  for (const site of abs64) {
    if (site % 8 === 0) aligned++;
    if (site === free) adjacent++;
    free = site + 8;
  }
  return {
    abs64: { sites: abs64.length, aligned, adjacent },
    abs32: describeGaps(abs32),
    inverse32: describeGaps(inverse32),
  };
}

function describeGaps(list: Uint32Array): Gaps {
  let [aligned, byteGaps, wordGaps] = [0, 0, 0];
  let before = -Infinity;
  for (const site of list) {
    if (site % 4 === 0) aligned++;
    if (site - before <= 0xff) byteGaps++;
    if (site - before <= 0xffff) wordGaps++;
    before = site;
  }
  return { sites: list.length, aligned, byteGaps, wordGaps };
}
