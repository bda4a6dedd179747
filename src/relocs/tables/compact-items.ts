/**
 * Writes the 64-bit list of the compact table (docs/formats.md, "Items").
 *
 * Most 64-bit sites are pointers in dense tables. An item describes many of them: a bitmap has a bit for each of 64 words of 8 bytes; a run has the length of a
 * long sequence of sites without gaps. The list of items is cut into four pieces, which are written by turns, one item of each. So the reader is in four
 * places of the image at a time, and waits for their memory at the same time. Each piece has its own cursor: the address that its last item reached.
 *
 *     the list --byRemainder--> aligned sites first --cutItems--> items --writeItems--> bytes, from the four pieces by turns
 */
import type { PhysAddr } from '../../base/addresses.ts';
import type { Writer } from '../../base/bytes.ts';
import { compactSites } from './compact-sites.ts';

/** `run` and `address` are values of the byte that an item begins with. Below `run`, that byte is a number of words to skip, and a bitmap of 8 bytes follows. */
export const ITEM = {
  /** A u32 follows: the number of sites in the run, divided by 16. Each site is 8 bytes after the one before it. */
  run: 254,
  /** Not an item: a u32 follows, to which the cursor is set. 0 ends the list. */
  address: 255,
  runUnit: 16,
  /** The least number of sites in a run; fewer are written as bitmaps. */
  runSites: 128,
  /** Bytes of the image that a bitmap covers, 8 for each bit. */
  span: 512,
  /** Bytes that it takes in the table, including the first one. */
  bitmap: 1 + 8,
} as const;

export const WORD = 8;
/** The number of pieces into which the list of items is cut, as equal as possible. */
export const PIECES = 4;
/** The most bytes that a site can take: an address and a bitmap of its own. */
export const ITEM_BYTES_A_SITE = 14;

/** The index of each piece's first item, in a list of `length` items. */
function startsOf(length: number): Uint32Array {
  return Uint32Array.from(
    { length: PIECES },
    (_, piece) => piece * Math.floor(length / PIECES) + Math.min(piece, length % PIECES),
  );
}

export function writeItems(out: Writer, start: number, list: Uint32Array): number {
  let at = start;
  const { count, sites, units, low, high } = cutItems(byRemainder(compactSites(list, WORD)));
  const next = startsOf(count);
  const cursors = new Int32Array(PIECES);
  for (let written = 0; written < count; written++) {
    const piece = written % PIECES;
    const item = next[piece]!++;
    const site = sites[item]!;
    const isRun = units[item] !== 0;
    const reach = isRun ? 1 : ITEM.run * WORD;
    let skip = site - cursors[piece]!;
    if (skip < 0 || skip % WORD !== 0 || skip >= reach) {
      at = writeTagged(out, at, ITEM.address, site);
      skip = 0;
    }
    if (isRun) {
      at = writeTagged(out, at, ITEM.run, units[item]!);
      cursors[piece] = site + units[item]! * ITEM.runUnit * WORD;
    } else {
      out.u8(at, skip / WORD);
      out.u32(at + 1, low[item]!);
      out.u32(at + 5, high[item]!);
      at += ITEM.bitmap;
      cursors[piece] = site + ITEM.span;
    }
  }
  return writeTagged(out, at, ITEM.address, 0);
}

/** Items, as arrays with an element for each. */
interface Items {
  readonly count: number;
  /** The first site. */
  readonly sites: Int32Array;
  /** For a run, its number of sites divided by 16. For a bitmap 0. */
  readonly units: Uint32Array;
  /** The two halves of a bitmap. */
  readonly low: Uint32Array;
  readonly high: Uint32Array;
}

/** A run has a multiple of 16 sites; the rest of the sequence begins the next item. */
function cutItems(list: Int32Array): Items {
  const sites = new Int32Array(list.length);
  const [units, low, high] = [new Uint32Array(list.length), new Uint32Array(list.length), new Uint32Array(list.length)];
  let count = 0;
  for (let index = 0; index < list.length; count++) {
    const site = list[index]!;
    sites[count] = site;
    const run = runLength(list, index);
    if (run >= ITEM.runSites) {
      units[count] = Math.floor(run / ITEM.runUnit);
      index += units[count]! * ITEM.runUnit;
      continue;
    }
    const bitmap: [low: number, high: number] = [0, 0];
    for (; index < list.length; index++) {
      const distance = list[index]! - site;
      // Sites of the next remainder modulo 8 are never in this bitmap, even if they are within its span.
      if (distance < 0 || distance >= ITEM.span || distance % WORD !== 0) break;
      bitmap[distance < ITEM.span / 2 ? 0 : 1] |= 1 << (distance / WORD);
    }
    low[count] = bitmap[0];
    high[count] = bitmap[1];
  }
  return { count, sites, units, low, high };
}

/** Sorts an ascending list in place, by remainder modulo 8 and then by address. So aligned sites come first; they are all but some thirty of 146,000. */
function byRemainder(sites: Int32Array): Int32Array {
  const others: PhysAddr[][] = Array.from({ length: WORD - 1 }, () => []);
  let count = 0;
  for (let index = 0; index < sites.length; index++) {
    const site = sites[index]!;
    const remainder = site % WORD;
    if (remainder === 0) sites[count++] = site;
    else others[remainder - 1]!.push(site);
  }
  for (const other of others) for (const site of other) sites[count++] = site;
  return sites;
}

/** The number of sites, from `index` on, that follow each other without a gap. */
function runLength(sites: Int32Array, index: number): number {
  let end = index + 1;
  while (end < sites.length && WORD === sites[end]! - sites[end - 1]!) end++;
  return end - index;
}

function writeTagged(out: Writer, at: number, tag: number, value: number): number {
  out.u8(at, tag);
  out.u32(at + 1, value);
  return at + 5;
}
