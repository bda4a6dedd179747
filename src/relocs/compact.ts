/**
 * The relocation table in about a sixth of the bytes: kslide's own format, TABLE_FORMAT.compact. docs/formats.md is its specification.
 *
 * Three lists, one behind the other: 32-bit, inverse 32-bit, 64-bit. 32-bit sites lie scattered in code, seldom more than 5,099 bytes
 * apart: each is the gap to the one before it, in one byte, or two, with an escape to an address. 64-bit sites lie in dense
 * tables of pointers: each item is a bitmap of 64 words of 8 bytes, or the length of a long run.
 *
 * Each list is four walks that take turns, each through a quarter of it: the reader is in four places of the image at a time, and waits less for memory.
 *
 * There is one way to write a table, so that two tables are equal if their bytes are. The reader decodes with every read checked, then encodes
 * what it got and compares: whatever is not exactly what the writer writes is refused.
 *
 * What else was tried, and why this: docs/performance.md.
 */
import {
  INT32_ENTRY_TO_PHYS,
  int32Entries,
  KERNEL_IMAGE_SIZE,
  physToTableEntry,
  tableEntryToPhys,
} from '../addresses.ts';
import type { FileOffset, PhysAddr } from '../addresses.ts';
import { Reader, Writer } from '../bytes.ts';
import { hex, KernelImageError } from '../errors.ts';
import type { Sites } from './apply.ts';
import { LISTS } from './table.ts';

/** The first byte of a gap. Below `address`: the gap itself. Above: the high part of a gap of two bytes. */
export const GAP = {
  /** A u32 follows: the address of the site; 0 ends the list. */
  address: 236,
  /** Gaps of two bytes are one of these and the byte behind it, ascending from `address` on. */
  firstOfTwo: 237,
  /** The first gap that two bytes do not hold. */
  limit: 236 + (256 - 237) * 256,
} as const;

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
} as const;

const WORD = 8;
/** Into so many pieces, as equal as can be, each list is cut. */
export const WALKS = 4;
/** Sites in a list. Kernels have some 150,000; five bytes can claim 2^36, and memory is spent on each. */
const SITES_AT_MOST = 2 ** 24;

/**
 * The table in the compact format. Lists must be as `checkSites` wants them: ascending, apart, inside the kernel's map; throws RangeError when
 * they are not, and KernelImageError, `too-large`, for one that no kernel has.
 */
export function encodeCompactTable({ abs32, inverse32, abs64 }: Sites): Uint8Array {
  for (const { length } of [abs32, inverse32, abs64]) if (length > SITES_AT_MOST) refuseSize(length);
  // At most an address a gap, an address and a bitmap an item, and three ends.
  const out = new Writer(new Uint8Array((abs32.length + inverse32.length) * 5 + abs64.length * 14 + 15));
  let at = writeGaps(out, 0, abs32);
  at = writeGaps(out, at, inverse32);
  at = writeItems(out, at, abs64);
  return out.bytes.slice(0, at);
}

/** Where each walk through a list of `length` begins; and the list's end. */
function startsOf(length: number): Uint32Array {
  const starts = new Uint32Array(WALKS + 1);
  for (let walk = 0; walk < WALKS; walk++)
    starts[walk + 1] = starts[walk]! + Math.floor(length / WALKS) + (walk < length % WALKS ? 1 : 0);
  return starts;
}

function writeGaps(out: Writer, start: number, list: Uint32Array): number {
  let at = start;
  const starts = startsOf(list.length);
  const places = starts.slice();
  const free = new Int32Array(WALKS); // behind the site before
  const entries = int32Entries(list);
  for (let written = 0; written < entries.length; written++) {
    const walk = written % WALKS;
    const index = places[walk]!++;
    const site = entries[index]! ^ INT32_ENTRY_TO_PHYS;
    const gap = site - free[walk]!;
    if (gap < 0 || site >= KERNEL_IMAGE_SIZE) refuseEntry(list[index]!);
    if (gap < GAP.address) {
      out.u8(at++, gap);
    } else if (gap < GAP.limit) {
      out.u8(at++, GAP.firstOfTwo + ((gap - GAP.address) >> 8));
      out.u8(at++, (gap - GAP.address) & 0xff);
    } else {
      at = writeTagged(out, at, GAP.address, site);
    }
    free[walk] = site + 4;
  }
  for (let walk = 1; walk < WALKS; walk++) {
    const first = starts[walk]!;
    if (first < list.length && (entries[first]! ^ INT32_ENTRY_TO_PHYS) < free[walk - 1]!) refuseEntry(list[first]!);
  }
  return writeTagged(out, at, GAP.address, 0);
}

function writeItems(out: Writer, start: number, list: Uint32Array): number {
  let at = start;
  const { count, sites, units, low, high } = cutItems(byRemainder(list));
  const places = startsOf(count);
  const cursors = new Int32Array(WALKS);
  for (let written = 0; written < count; written++) {
    const walk = written % WALKS;
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
      at += 9;
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

/** Addresses of the sites: those of each remainder modulo 8 by themselves, ascending, first those that are aligned (all but some thirty of 146,000). */
function byRemainder(list: Uint32Array): Int32Array {
  const sites = new Int32Array(list.length);
  const others: PhysAddr[][] = Array.from({ length: WORD - 1 }, () => []);
  let count = 0;
  let free = 0;
  const entries = int32Entries(list);
  for (let index = 0; index < entries.length; index++) {
    const site = entries[index]! ^ INT32_ENTRY_TO_PHYS;
    if (site < free || site >= KERNEL_IMAGE_SIZE) refuseEntry(list[index]!);
    free = site + WORD;
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

function refuseEntry(entry: number): never {
  if (tableEntryToPhys(entry) === undefined) throw new RangeError(`${hex(entry)} is no link address`);
  throw new RangeError(`sites that overlap or descend at ${hex(entry)}`);
}

/**
 * Reads a whole table. `origin` is where it starts in its file, for errors. Throws KernelImageError for anything that is not, byte for byte, what
 * `encodeCompactTable` writes, and spends memory on no more sites than a table may have.
 */
export function readCompactTable(bytes: Uint8Array, origin: FileOffset = 0): Sites {
  const decoder = new Decoder(bytes, origin);
  const abs32 = decoder.gaps('32-bit');
  const inverse32 = decoder.gaps('inverse 32-bit');
  const abs64 = decoder.items().toSorted();
  const sites = { abs32, inverse32, abs64 };
  for (const { name, title, width } of LISTS) refuseDisorder(sites[name], width, title, origin);
  const canonical = encodeCompactTable(sites);
  const length = Math.min(canonical.length, bytes.length);
  let same = 0;
  while (same < length && canonical[same] === bytes[same]) same++;
  if (same === bytes.length) return sites;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'relocation table: byte of the compact format',
    offset: origin + same,
    found: bytes[same],
    expected: same < canonical.length ? canonical[same] : 'the end of the table',
  });
}

/** In the order of the list, what was read by turns. */
function unweave(read: Uint32Array): Uint32Array {
  const places = startsOf(read.length);
  const list = new Uint32Array(read.length);
  for (let index = 0; index < read.length; index++) list[places[index % WALKS]!++] = read[index]!;
  return list;
}

function refuseSize(found: number): never {
  const what = 'relocation table: list';
  throw new KernelImageError({ code: 'too-large', what, found, expected: `at most ${hex(SITES_AT_MOST)} sites` });
}

function refuseDisorder(list: Uint32Array, width: number, title: string, origin: FileOffset): void {
  for (let index = 1; index < list.length; index++) {
    if (list[index]! >= list[index - 1]! + width) continue;
    throw new KernelImageError({
      code: 'bad-value',
      what: `relocation table: entry ${index} of the ${title} list, of the table`,
      offset: origin,
      found: list[index],
      expected: `at least 0x${(list[index - 1]! + width).toString(16)}, behind the entry before it`,
    });
  }
}

/** Decodes what the format allows; whether it is the one way to write it is seen afterwards. */
class Decoder {
  readonly #reader: Reader;
  readonly #origin: FileOffset;
  #at = 0;
  /** Table entries found so far in this list. */
  #found = new Uint32Array(1024);
  #count = 0;

  constructor(bytes: Uint8Array, origin: FileOffset) {
    this.#reader = new Reader(bytes, origin);
    this.#origin = origin;
  }

  gaps(title: string): Uint32Array {
    const what = `relocation table: ${title} list`;
    const free = Array.from({ length: WALKS }, () => 0);
    for (let walk = 0; ; walk = (walk + 1) % WALKS) {
      const first = this.#reader.u8(this.#at++, what);
      let site = free[walk]! + first;
      if (first === GAP.address) {
        site = this.#u32(what);
        if (site === 0) return unweave(this.#take());
      } else if (first >= GAP.firstOfTwo) {
        const second = this.#reader.u8(this.#at++, what);
        site = free[walk]! + GAP.address + (first - GAP.firstOfTwo) * 256 + second;
      }
      this.#add(site, what);
      free[walk] = site + 4;
    }
  }

  /** As they are written. */
  items(): Uint32Array {
    const what = 'relocation table: 64-bit list';
    const cursors = Array.from({ length: WALKS }, () => 0);
    for (let walk = 0; ;) {
      const first = this.#reader.u8(this.#at++, what);
      let cursor = cursors[walk]!;
      if (first === ITEM.address) {
        cursor = this.#u32(what);
        if (cursor === 0) return this.#take();
        cursors[walk] = cursor;
        continue;
      }
      if (first === ITEM.run) {
        for (let left = this.#u32(what) * ITEM.runUnit; left > 0; left--, cursor += WORD) this.#add(cursor, what);
      } else {
        cursor += first * WORD;
        for (let half = 0; half < 2; half++) {
          const bits = this.#u32(what);
          for (let bit = 0; bit < 32; bit++) if ((bits >>> bit) & 1) this.#add(cursor + (half * 32 + bit) * WORD, what);
        }
        cursor += ITEM.span;
      }
      cursors[walk] = cursor;
      walk = (walk + 1) % WALKS;
    }
  }

  #u32(what: string): number {
    this.#at += 4;
    return this.#reader.u32(this.#at - 4, what);
  }

  #add(site: PhysAddr, what: string): void {
    const entry = physToTableEntry(site);
    if (tableEntryToPhys(entry) === undefined) {
      throw new KernelImageError({
        code: 'bad-value',
        what,
        offset: this.#origin + this.#at,
        found: entry,
        expected: 'a link address inside the kernel image',
      });
    }
    if (this.#count === this.#found.length) {
      if (this.#count === SITES_AT_MOST) refuseSize(this.#count + 1);
      const wider = new Uint32Array(this.#count * 2);
      wider.set(this.#found);
      this.#found = wider;
    }
    this.#found[this.#count++] = entry;
  }

  #take(): Uint32Array {
    const list = this.#found.slice(0, this.#count);
    this.#count = 0;
    return list;
  }
}
