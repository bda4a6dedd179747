/**
 * The 64-bit list of the compact table (docs/formats.md): items, each a bitmap of 64 words of 8 bytes, or the length of a long run of sites.
 *
 * The list is four walks that take turns, each through a quarter of it: the reader is in four places of the image at a time, and waits less for memory.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import type { Writer } from '../../base/bytes.ts';
import { compactSites } from './compact-sites.ts';

/** The first byte of an item in the 64-bit list. Below `run`: so many words are skipped, and a bitmap of 8 bytes follows. */
export const ITEM = {
  /** A u32 follows: how many times 16 sites follow, each in the word behind the one before it. */
  run: 254,
  /** A u32 follows: the address at which the next item begins; 0 ends the list. */
  address: 255,
  runUnit: 16,
  /** Shorter runs are written as bitmaps. */
  runSites: 128,
  /** Bytes that a bitmap covers, 8 a bit. */
  span: 512,
  /** Bytes that it takes in the table, the first one included. */
  bitmap: 1 + 8,
} as const;

export const WORD = 8;
/** Into so many pieces, as equal as can be, the list is cut. */
export const PIECES = 4;
/** At most an address and a bitmap for each site. */
export const ITEM_BYTES_A_SITE = 14;

/** Where each walk through a list of `length` begins. */
function startsOf(length: number): Uint32Array {
  return Uint32Array.from(
    { length: PIECES },
    (_, walk) => walk * Math.floor(length / PIECES) + Math.min(walk, length % PIECES),
  );
}

export function writeItems(out: Writer, start: number, list: Uint32Array): number {
  let at = start;
  const { count, sites, units, low, high } = cutItems(byRemainder(compactSites(list, WORD)));
  const places = startsOf(count);
  const cursors = new Int32Array(PIECES);
  for (let written = 0; written < count; written++) {
    const walk = written % PIECES;
    const item = places[walk]!++;
    const site = sites[item]!;
    const isRun = units[item] !== 0;
    const reach = isRun ? 1 : ITEM.run * WORD;
    let skip = site - cursors[walk]!;
    if (skip < 0 || skip % WORD !== 0 || skip >= reach) {
      at = writeTagged(out, at, ITEM.address, site);
      skip = 0;
    }
    if (isRun) {
      at = writeTagged(out, at, ITEM.run, units[item]!);
      cursors[walk] = site + units[item]! * ITEM.runUnit * WORD;
    } else {
      out.u8(at, skip / WORD);
      out.u32(at + 1, low[item]!);
      out.u32(at + 5, high[item]!);
      at += ITEM.bitmap;
      cursors[walk] = site + ITEM.span;
    }
  }
  return writeTagged(out, at, ITEM.address, 0);
}

/** Items: where each begins, and how many times 16 sites a run has; or 0, and the two halves of a bitmap. */
interface Items {
  readonly count: number;
  readonly sites: Int32Array;
  readonly units: Uint32Array;
  readonly low: Uint32Array;
  readonly high: Uint32Array;
}

/** What is left of a run behind its last sixteen begins the next item. */
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
      // Sites of the next remainder modulo 8 are never in it, wherever they lie.
      if (distance < 0 || distance >= ITEM.span || distance % WORD !== 0) break;
      bitmap[distance < ITEM.span / 2 ? 0 : 1] |= 1 << (distance / WORD);
    }
    low[count] = bitmap[0];
    high[count] = bitmap[1];
  }
  return { count, sites, units, low, high };
}

/** In place: those of each remainder modulo 8 by themselves, ascending, first those that are aligned (all but some thirty of 146,000). */
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

/** How many sites from `index` on follow each other without a gap. */
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
