/**
 * The compact table (docs/formats.md), decoded as the program in the guest reads it, and held to "The one way to write it". Written after the
 * specification: the encoder in relocs/compact.ts has no part in it.
 */
import { KERNEL_IMAGE_SIZE, physToTableEntry } from '../addresses.ts';
import type { FileOffset, PhysAddr } from '../addresses.ts';
import { viewOf } from '../bytes.ts';
import { hex } from '../errors.ts';
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
const SITES_AT_MOST = 2 ** 24;

/** A list in the making: sites, and where in the table each of them comes from. */
class Found {
  sites = new Uint32Array(4096);
  offsets = new Uint32Array(4096);
  length = 0;

  push(site: PhysAddr, offset: number): void {
    if (this.length === this.sites.length) {
      const [sites, offsets] = [new Uint32Array(this.length * 2), new Uint32Array(this.length * 2)];
      sites.set(this.sites);
      offsets.set(this.offsets);
      this.sites = sites;
      this.offsets = offsets;
    }
    this.sites[this.length] = site;
    this.offsets[this.length++] = offset;
  }
}

/** An item of the 64-bit list: `first` is the index of its first site, `units` the length of a run. */
interface Item {
  readonly offset: number;
  readonly first: number;
  readonly units: number | undefined;
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
    const found = new Found();
    for (let cursor = 0; ;) {
      const offset = this.#at;
      const first = this.#u8(title);
      let site = cursor + first;
      if (first === ADDRESS_OF_SITE) {
        site = this.#u32(title);
        if (site === 0) return found;
        if (site - cursor < TWO_BYTE_GAPS)
          this.#refuse(`address in the ${title} list`, offset + 1, site, `${hex(cursor + TWO_BYTE_GAPS)} or more`);
      } else if (first > ADDRESS_OF_SITE) {
        site = cursor + ONE_BYTE_GAPS + (first - ADDRESS_OF_SITE - 1) * 256 + this.#u8(title);
      }
      this.#push(found, site, offset, { name, title, width: 4 });
      cursor = site + 4;
    }
  }

  /** The 64-bit list, ascending over all. */
  items(): { readonly sites: Uint32Array; readonly offsets: Uint32Array } {
    const list = { name: 'abs64', title: '64-bit', width: 8 } as const;
    const { title } = list;
    const found = new Found();
    const items: Item[] = [];
    /** Where sites of each remainder begin in `found`; those that are multiples of 8 first. */
    const starts = [0];
    let cursor = 0;
    let address: { readonly offset: number; readonly value: PhysAddr } | undefined;
    for (;;) {
      const offset = this.#at;
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
      const before = found.sites[found.length - 1];
      if (before !== undefined && (site % 8 < before % 8 || (site % 8 === before % 8 && site <= before)))
        this.#refuse('item of the 64-bit list', offset, site, `a site behind ${hex(before)}`);
      while (starts.length <= site % 8) starts.push(found.length);
      const item = { offset, first: found.length };
      if (isRun) {
        const units = this.#u32(title);
        items.push({ ...item, units });
        for (let index = 0; index < units * RUN_STEP; index++) this.#push(found, site + index * 8, offset, list);
        cursor = site + units * RUN_STEP * 8;
      } else {
        items.push({ ...item, units: undefined });
        for (let half = 0; half < 2; half++) {
          const bits = this.#u32(title);
          for (let bit = 0; bit < 32; bit++)
            if (((bits >>> bit) & 1) === 1) this.#push(found, site + half * 256 + bit * 8, offset, list);
        }
        cursor = site + 512;
        if (found.sites[item.first] !== site || found.length === item.first)
          this.#refuse('bitmap of the 64-bit list', offset + 1, 'no site in its first bit', 'one');
      }
      address = undefined;
    }
    this.#expectItems(found, items);
    return merge(found, starts);
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

  /** Runs where there are runs, as long as they can be; bitmaps elsewhere, which leave out nothing that they could hold. */
  #expectItems({ sites, length }: Found, items: readonly Item[]): void {
    /** For each site, how many follow each other from it on. */
    const rows = new Uint32Array(length);
    for (let index = length - 1; index >= 0; index--)
      rows[index] = sites[index + 1] === sites[index]! + 8 && index + 1 < length ? rows[index + 1]! + 1 : 1;
    for (const [place, { offset, first, units }] of items.entries()) {
      const row = rows[first] ?? 0;
      const right = row >= RUN_LEAST ? Math.floor(row / RUN_STEP) : undefined;
      if (units !== right) {
        const shown = (size: number | undefined): string => (size === undefined ? 'a bitmap' : `a run of ${size} × 16`);
        this.#refuse('item of the 64-bit list', offset, shown(units), `${shown(right)}, for ${row} sites in a row`);
      }
      const next = items[place + 1];
      const [site, follower] = [sites[first]!, next && sites[next.first]!];
      if (units === undefined && follower !== undefined && (follower - site) % 8 === 0 && follower < site + 512)
        this.#refuse('item of the 64-bit list', next!.offset, follower, `a bit of the bitmap at ${hex(site)}`);
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

/** Lists one behind the other, each ascending from its start, to one that ascends. All but the first are short. */
function merge(
  { sites, offsets, length }: Found,
  starts: readonly number[],
): { readonly sites: Uint32Array; readonly offsets: Uint32Array } {
  if (starts.length === 1) return { sites: sites.slice(0, length), offsets: offsets.slice(0, length) };
  const heads = [...starts];
  const ends = [...starts.slice(1), length];
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
