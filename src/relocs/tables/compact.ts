/**
 * The compact table, kslide's own format (TABLE_FORMAT.compact): about one sixth the size of the kernel's. docs/formats.md is its specification.
 *
 * The three lists follow each other: 32-bit, inverse 32-bit, 64-bit. 32-bit sites are scattered over code; they are written as chains (compact-chains.ts).
 * 64-bit sites are in dense tables of pointers; they are written as items, that is, bitmaps and runs (compact-items.ts). The sites are not written in
 * ascending order, but in one that is fast to apply.
 *
 * Each table has exactly one encoding, so two tables are equal if their bytes are. The reader here checks every read while it decodes, then encodes the
 * result and compares: it refuses any bytes that the writer would not have written. `inspect` uses it, and so may callers of the library. There are two
 * other readers: the one in the guest (src/stub), and that of `verify`, which was written from the specification and shares nothing with this one.
 *
 * What else was tried: docs/performance.md.
 */
import { physToTableEntry, tableEntryToPhys } from '../../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import { Reader, Writer } from '../../base/bytes.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import type { Sites } from './apply.ts';
import { CHAIN, CHAIN_BYTES_A_SITE, CHAIN_LENGTHS, writeChains } from './compact-chains.ts';
import { ITEM, ITEM_BYTES_A_SITE, PIECES, WORD, writeItems } from './compact-items.ts';
import { LISTS } from './kernel-table.ts';

/** Bytes of the three end marks: the size of an empty table. */
const ENDS = 1 + 1 + 5;
/** The most sites in a list, by the format. Kernels have some 150,000. */
const SITES_AT_MOST = 2 ** 24;

/**
 * The most sites that a list is read to have if the caller does not say how many the kernel has room for. Five bytes of a table can claim 2^36, and each site takes
 * memory: so 2^18, and 16 for each byte. Tables of real kernels have 1.5 for each byte.
 */
const sitesWithout = (bytes: Uint8Array): number => 2 ** 18 + 16 * bytes.length;

/**
 * Encodes a table. Its lists must ascend, their sites must not overlap and must be inside the kernel's map, as `checkSites` ensures; otherwise this throws
 * RangeError. Throws KernelImageError, `too-large`, for a list with more sites than the format allows.
 */
export function encodeCompactTable({ abs32, inverse32, abs64 }: Sites): Uint8Array {
  for (const { length } of [abs32, inverse32, abs64]) if (length > SITES_AT_MOST) refuseSize(length);
  const chained = (abs32.length + inverse32.length) * CHAIN_BYTES_A_SITE;
  const out = new Writer(new Uint8Array(chained + abs64.length * ITEM_BYTES_A_SITE + ENDS));
  let at = writeChains(out, 0, abs32, CHAIN_LENGTHS.abs32);
  at = writeChains(out, at, inverse32, CHAIN_LENGTHS.inverse32);
  at = writeItems(out, at, abs64);
  return out.bytes.slice(0, at);
}

/**
 * Reads a whole table. `origin` is where it starts in its file, for errors. Throws KernelImageError for any bytes that `encodeCompactTable` does not
 * write.
 *
 * A few bytes can claim any number of sites. `sitesAtMost` bounds each list, and so memory and time: callers that have the kernel give the number that its bytes
 * have room for.
 */
export function readCompactTable(bytes: Uint8Array, origin: FileOffset = 0, sitesAtMost = sitesWithout(bytes)): Sites {
  const decoder = new Decoder(bytes, origin, Math.min(sitesAtMost, SITES_AT_MOST));
  const abs32 = decoder.chains('32-bit').toSorted();
  const inverse32 = decoder.chains('inverse 32-bit').toSorted();
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

function refuseSize(found: number, most = SITES_AT_MOST): never {
  const what = 'relocation table: list';
  throw new KernelImageError({ code: 'too-large', what, found, expected: `at most ${hex(most)} sites` });
}

function refuseDisorder(list: Uint32Array, width: number, title: string, origin: FileOffset): void {
  for (let index = 1; index < list.length; index++) {
    if (list[index]! >= list[index - 1]! + width) continue;
    throw new KernelImageError({
      code: 'bad-value',
      what: `relocation table: entry ${index} of the ${title} list, of the table`,
      offset: origin,
      found: list[index],
      expected: `at least 0x${(list[index - 1]! + width).toString(16)}, after the entry before it`,
    });
  }
}

/** Decodes lists. That their encoding is the one that the writer makes is checked afterwards. */
class Decoder {
  readonly #reader: Reader;
  readonly #origin: FileOffset;
  #at = 0;
  /** The table entries that have been decoded in this list. */
  #found = new Uint32Array(1024);
  #count = 0;
  readonly #most: number;

  constructor(bytes: Uint8Array, origin: FileOffset, most: number) {
    this.#reader = new Reader(bytes, origin);
    this.#origin = origin;
    this.#most = most;
  }

  /** The sites of a 32-bit list, in the order in which they are written. */
  chains(title: string): Uint32Array {
    const what = `relocation table: ${title} list`;
    for (;;) {
      const count = this.#reader.u8(this.#at++, what);
      if (count === 0) return this.#take();
      const length = this.#reader.u8(this.#at++, what);
      let cursor = this.#u16(what) * (CHAIN.step + 1);
      for (let chain = 0; chain < count; chain++) {
        cursor += this.#u16(what);
        this.#add(cursor, what);
      }
      for (let row = 1; row < length; row++)
        for (let chain = 0; chain < count; chain++) {
          const before = tableEntryToPhys(this.#found[this.#count - count]!)!;
          this.#add(before + this.#reader.u8(this.#at++, what), what);
        }
    }
  }

  /** The sites of the 64-bit list, in the order in which they are written. */
  items(): Uint32Array {
    const what = 'relocation table: 64-bit list';
    const cursors = Array.from({ length: PIECES }, () => 0);
    for (let piece = 0; ;) {
      const first = this.#reader.u8(this.#at++, what);
      let cursor = cursors[piece]!;
      if (first === ITEM.address) {
        cursor = this.#u32(what);
        if (cursor === 0) return this.#take();
        cursors[piece] = cursor;
        continue;
      }
      if (first === ITEM.run) {
        const sites = this.#u32(what) * ITEM.runUnit;
        if (this.#count + sites > this.#most) refuseSize(this.#count + sites, this.#most);
        for (let left = sites; left > 0; left--, cursor += WORD) this.#add(cursor, what);
      } else {
        cursor += first * WORD;
        for (let half = 0; half < 2; half++) {
          const bits = this.#u32(what);
          for (let bit = 0; bit < 32; bit++) if ((bits >>> bit) & 1) this.#add(cursor + (half * 32 + bit) * WORD, what);
        }
        cursor += ITEM.span;
      }
      cursors[piece] = cursor;
      piece = (piece + 1) % PIECES;
    }
  }

  #u16(what: string): number {
    this.#at += 2;
    return this.#reader.u16(this.#at - 2, what);
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
    if (this.#count === this.#most) refuseSize(this.#count + 1, this.#most);
    if (this.#count === this.#found.length) {
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
