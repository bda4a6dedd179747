/**
 * The compact table (docs/formats.md), decoded as the program in the guest reads it, and held to "The one way to write it". Written after the
 * specification: the encoder in relocs/compact.ts has no part in it.
 */
import { KERNEL_IMAGE_SIZE, physToTableEntry } from '../addresses.ts';
import type { FileOffset, PhysAddr } from '../addresses.ts';
import { viewOf } from '../bytes.ts';
import { hex } from '../errors.ts';
import type { Sites } from '../relocs/apply.ts';
import type { ListName } from '../relocs/table.ts';
import { badTable } from './bad-table.ts';
import type { DecodedTable, EntryWatch } from './table.ts';

const ADDRESS_OF_SITE = 236;
const ONE_BYTE_GAPS = 236;
const TWO_BYTE_GAPS = ONE_BYTE_GAPS + 19 * 256;
const RUN = 254;
const ADDRESS_OF_ITEM = 255;
const RUN_LEAST = 128;
const RUN_STEP = 16;
const SPAN = 512;
const WALKS = 4;
const SITES_AT_MOST = 2 ** 24;

/** A list in the making: sites, and where in the table each of them comes from. */
class Found {
  sites: Uint32Array;
  offsets: Uint32Array;
  length = 0;

  constructor(room = 4096) {
    this.sites = new Uint32Array(room);
    this.offsets = new Uint32Array(room);
  }

  push(site: PhysAddr, offset: number): void {
    if (this.length === this.sites.length) {
      const [sites, offsets] = [new Uint32Array(this.length * 2), new Uint32Array(this.length * 2)];
      sites.set(this.sites);
      offsets.set(this.offsets);
      this.sites = sites;
      this.offsets = offsets;
    }
    this.put(this.length, site, offset);
  }

  /** Those of another list from `first` to `end`; where there is room. */
  append({ sites, offsets }: Found, first: number, end: number): void {
    this.sites.set(sites.subarray(first, end), this.length);
    this.offsets.set(offsets.subarray(first, end), this.length);
    this.length += end - first;
  }

  /** Where there is room. */
  put(index: number, site: PhysAddr, offset: number): void {
    this.sites[index] = site;
    this.offsets[index] = offset;
    this.length++;
  }
}

/** An item of the 64-bit list: `first` is the index of its first site, `end` that of the one behind its last, `units` the length of a run. */
interface Item {
  readonly offset: number;
  readonly first: number;
  readonly end: number;
  readonly units: number | undefined;
}

/**
 * For each list of a table, the order in which its entries are written: their indices. A list is cut into four pieces, the first ones longer by one
 * where they cannot be equal, and what is written is the first of each, the second of each, and so on: 32-bit entries, or items of the 64-bit list.
 */
export function writtenOrder({ abs32, inverse32, abs64 }: Sites): Readonly<Record<ListName, Uint32Array>> {
  const byRemainder = Uint32Array.from(abs64.keys()).toSorted((a, b) => (abs64[a]! % 8) - (abs64[b]! % 8) || a - b);
  const sites = byRemainder.map((index) => abs64[index]!);
  const firsts: number[] = [];
  for (const { first } of rightItems(sites)) firsts.push(first);
  const order = new Uint32Array(abs64.length);
  let place = 0;
  for (const item of turns(firsts.length)) {
    const items = byRemainder.subarray(firsts[item]!, firsts[item + 1]);
    order.set(items, place);
    place += items.length;
  }
  return { abs32: turns(abs32.length), inverse32: turns(inverse32.length), abs64: order };
}

/** 0 to `count` − 1 by turns. */
function turns(count: number): Uint32Array {
  const order = new Uint32Array(count);
  const [whole, longer] = [Math.floor(count / WALKS), count % WALKS];
  let place = 0;
  for (let turn = 0; turn <= whole; turn++)
    for (let walk = 0; walk < WALKS && place < count; walk++)
      order[place++] = walk * whole + Math.min(walk, longer) + turn;
  return order;
}

/** The items that sites in the order of the 64-bit list have to be written in; `units` of those that are runs. */
function* rightItems(sites: Uint32Array): Generator<{
  readonly first: number;
  readonly end: number;
  readonly units: number | undefined;
  readonly row: number;
}> {
  for (let first = 0, end; first < sites.length; first = end) {
    const site = sites[first]!;
    let row = 1;
    while (sites[first + row] === site + row * 8) row++;
    const units = row >= RUN_LEAST ? Math.floor(row / RUN_STEP) : undefined;
    end = first + (units === undefined ? bitmapLength(sites, first) : units * RUN_STEP);
    yield { first, end, units, row };
  }
}

/** How many sites from `first` on one bitmap holds. */
function bitmapLength(sites: Uint32Array, first: number): number {
  const site = sites[first]!;
  let end = first + 1;
  for (; end < sites.length; end++) {
    const distance = sites[end]! - site;
    // Those of the next remainder are never in it, wherever they lie.
    if (distance < 0 || distance >= SPAN || distance % 8 !== 0) break;
  }
  return end - first;
}

export function walkCompactTable(bytes: Uint8Array, origin: FileOffset, watch?: EntryWatch): DecodedTable {
  const walk = new Walk(bytes, origin, watch);
  const abs32 = walk.gaps('abs32', '32-bit');
  const inverse32 = walk.gaps('inverse32', 'inverse 32-bit');
  const abs64 = walk.items();
  walk.expectEnd();
  const offsets: Record<ListName, Uint32Array> = {
    abs32: abs32.offsets.subarray(0, abs32.length),
    inverse32: inverse32.offsets.subarray(0, inverse32.length),
    abs64: abs64.offsets,
  };
  const entries = ({ sites, length }: Found): Uint32Array => sites.slice(0, length).map(physToTableEntry);
  return {
    abs32: entries(abs32),
    inverse32: entries(inverse32),
    abs64: abs64.sites.map(physToTableEntry),
    offsetOf: (list, index) => origin + (offsets[list][index] ?? bytes.length - 1),
  };
}

class Walk {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #origin: FileOffset;
  readonly #watch: EntryWatch | undefined;
  #at = 0;

  constructor(bytes: Uint8Array, origin: FileOffset, watch: EntryWatch | undefined) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#origin = origin;
    this.#watch = watch;
  }

  gaps(name: 'abs32' | 'inverse32', title: string): Found {
    const list = { name, title, width: 4 } as const;
    const read = new Found();
    const cursors = Array.from({ length: WALKS }, (): PhysAddr => 0);
    for (let walk = 0; ; walk = (walk + 1) % WALKS) {
      const offset = this.#at;
      const cursor = cursors[walk]!;
      const first = this.#u8(title);
      let site = cursor + first;
      if (first === ADDRESS_OF_SITE) {
        site = this.#u32(title);
        if (site === 0) break;
        if (site - cursor < TWO_BYTE_GAPS)
          this.#refuse(`address in the ${title} list`, offset + 1, site, `${hex(cursor + TWO_BYTE_GAPS)} or more`);
      } else if (first > ADDRESS_OF_SITE) {
        site = cursor + ONE_BYTE_GAPS + (first - ADDRESS_OF_SITE - 1) * 256 + this.#u8(title);
      }
      this.#push(read, site, offset, list);
      cursors[walk] = site + 4;
    }
    const found = new Found(read.length);
    const order = turns(read.length);
    for (let place = 0; place < order.length; place++)
      found.put(order[place]!, read.sites[place]!, read.offsets[place]!);
    let free = 0;
    for (let index = 0; index < found.length; index++) {
      const site = found.sites[index]!;
      if (site < free) {
        const expected = `${hex(free)} or more, behind the piece before`;
        this.#refuse(`site of the ${title} list`, found.offsets[index]!, site, expected);
      }
      free = site + 4;
    }
    return found;
  }

  /** The 64-bit list, ascending over all. */
  items(): { readonly sites: Uint32Array; readonly offsets: Uint32Array } {
    const list = { name: 'abs64', title: '64-bit', width: 8 } as const;
    const { title } = list;
    const read = new Found();
    const written: Item[] = [];
    const cursors = Array.from({ length: WALKS }, (): PhysAddr => 0);
    let address: { readonly offset: number; readonly value: PhysAddr } | undefined;
    for (let walk = 0; ;) {
      const offset = this.#at;
      const cursor = cursors[walk]!;
      const first = this.#u8(title);
      if (first === ADDRESS_OF_ITEM) {
        const value = this.#u32(title);
        if (address !== undefined)
          this.#refuse('address in the 64-bit list', offset, first, 'an item behind an address');
        if (value === 0) break;
        address = { offset, value };
        continue;
      }
      const isRun = first === RUN;
      const site = (address?.value ?? cursor) + (isRun ? 0 : first * 8);
      this.#expectReach(address, cursor, isRun ? 1 : RUN * 8);
      if (address !== undefined && !isRun && first !== 0) this.#refuse('skip behind an address', offset, first, '0');
      const before = read.length;
      let units: number | undefined;
      if (isRun) {
        units = this.#u32(title);
        if (units === 0) this.#refuse('run of the 64-bit list', offset + 1, 0, `${RUN_LEAST / RUN_STEP} or more`);
        for (let index = 0; index < units * RUN_STEP; index++) this.#push(read, site + index * 8, offset, list);
        cursors[walk] = site + units * RUN_STEP * 8;
      } else {
        for (let half = 0; half < 2; half++) {
          const bits = this.#u32(title);
          for (let bit = 0; bit < 32; bit++)
            if (((bits >>> bit) & 1) === 1) this.#push(read, site + half * 256 + bit * 8, offset, list);
        }
        cursors[walk] = site + SPAN;
        if (read.sites[before] !== site || read.length === before)
          this.#refuse('bitmap of the 64-bit list', offset + 1, 'no site in its first bit', 'one');
      }
      written.push({ offset, first: before, end: read.length, units });
      address = undefined;
      walk = (walk + 1) % WALKS;
    }
    const items: Item[] = [];
    for (const [place, index] of turns(written.length).entries()) items[index] = written[place]!;
    const found = new Found(read.length);
    for (const { first, end } of items) found.append(read, first, end);
    this.#expectItems(found, items);
    return merge(found);
  }

  expectEnd(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) this.#refuse('end', this.#at, `${hex(left)} bytes that the program never reads`, 'none');
  }

  /** An address stands where an item cannot do without. */
  #expectReach(address: { offset: number; value: PhysAddr } | undefined, cursor: PhysAddr, reach: number): void {
    if (address === undefined) return;
    const { offset, value } = address;
    const skip = value - cursor;
    if (skip >= 0 && skip < reach && skip % 8 === 0)
      this.#refuse('address in the 64-bit list', offset, value, `an item that reaches it from ${hex(cursor)}`);
  }

  /**
   * `items` in the order of the list, each of one site or more: runs where there are runs, as long as they can be; bitmaps elsewhere, which leave out
   * nothing that they could hold.
   */
  #expectItems({ sites, length }: Found, items: readonly Item[]): void {
    const ordered = sites.subarray(0, length);
    let start = 0;
    for (const { offset, first, end } of items) {
      const [before, site] = [ordered[start - 1], ordered[start]!];
      if (before !== undefined && (site % 8 < before % 8 || (site % 8 === before % 8 && site <= before)))
        this.#refuse('item of the 64-bit list', offset, site, `a site behind ${hex(before)}`);
      start += end - first;
    }
    let place = 0;
    for (const { first, end, units, row } of rightItems(ordered)) {
      const item = items[place++]!;
      const shown = (size: number | undefined): string => (size === undefined ? 'a bitmap' : `a run of ${size} × 16`);
      if (item.units !== units)
        this.#refuse(
          'item of the 64-bit list',
          item.offset,
          shown(item.units),
          `${shown(units)}, for ${row} sites in a row`,
        );
      if (item.end - item.first === end - first) continue;
      const follower = ordered[first + item.end - item.first]!;
      this.#refuse(
        'item of the 64-bit list',
        items[place]!.offset,
        follower,
        `a bit of the bitmap at ${hex(ordered[first]!)}`,
      );
    }
  }

  #push(
    found: Found,
    site: PhysAddr,
    offset: number,
    { name, title, width }: { readonly name: ListName; readonly title: string; readonly width: number },
  ): void {
    if (site + width > KERNEL_IMAGE_SIZE || found.length === SITES_AT_MOST) {
      const expected = `at most ${SITES_AT_MOST} sites, below ${hex(KERNEL_IMAGE_SIZE)}`;
      this.#refuse(`site of the ${title} list`, offset, site, expected);
    }
    this.#watch?.(name, physToTableEntry(site), this.#origin + offset);
    found.push(site, offset);
  }

  #u8(title: string): number {
    this.#need(1, title);
    return this.#bytes[this.#at++]!;
  }

  #u32(title: string): number {
    this.#need(4, title);
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4, true);
  }

  #need(length: number, title: string): void {
    if (this.#at + length <= this.#bytes.length) return;
    this.#refuse(`${title} list`, this.#at, 'the end of the table', `${hex(length)} bytes, and the list's end`);
  }

  #refuse(what: string, offset: number, found: number | string, expected: string): never {
    throw badTable(what, this.#origin + offset, { found, expected });
  }
}

/** Lists of one remainder modulo 8 one behind the other, each ascending from its start, to one that ascends. All but the first are short. */
function merge({ sites, offsets, length }: Found): { readonly sites: Uint32Array; readonly offsets: Uint32Array } {
  const heads: number[] = [];
  for (let index = 0; index < length; index++)
    if (index === 0 || sites[index]! % 8 !== sites[index - 1]! % 8) heads.push(index);
  if (heads.length <= 1) return { sites: sites.subarray(0, length), offsets: offsets.subarray(0, length) };
  const ends = [...heads.slice(1), length];
  const merged = { sites: new Uint32Array(length), offsets: new Uint32Array(length) };
  for (let index = 0; index < length; index++) {
    let least = -1;
    for (let list = 0; list < heads.length; list++) {
      if (heads[list] === ends[list]) continue;
      if (least < 0 || sites[heads[list]!]! < sites[heads[least]!]!) least = list;
    }
    merged.sites[index] = sites[heads[least]!]!;
    merged.offsets[index] = offsets[heads[least]!]!;
    heads[least]!++;
  }
  return merged;
}
