/**
 * The distances between sites. They decide how small a form of the table can be: bitmaps need sites that are aligned and close together, byte-sized
 * distances need sites that are at most 255 bytes apart.
 */
import type { Sites } from '../relocs/tables/apply.ts';

export interface Placement {
  /** `aligned`: at multiples of 8. `adjacent`: begins where the site before ends. */
  readonly abs64: { readonly sites: number; readonly aligned: number; readonly adjacent: number };
  readonly abs32: Gaps;
  readonly inverse32: Gaps;
}

export interface Gaps {
  readonly sites: number;
  /** At multiples of 4. */
  readonly aligned: number;
  /** At most 0xff bytes, or at most 0xffff bytes, from the start of the site before. */
  readonly byteGaps: number;
  readonly wordGaps: number;
}

export function describePlacement({ abs64, inverse32, abs32 }: Sites): Placement {
  let [aligned, adjacent] = [0, 0];
  let free = -1; // end of the site before
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
