/** What the readers of the compact table's lists share: bytes that are read checked, and sites with where they come from. */
import { KERNEL_IMAGE_SIZE, physToTableEntry } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { viewOf } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import type { ListName } from '../relocs/tables/kernel-table.ts';
import { badTable } from './table-reader.ts';
import type { EntryWatch } from './table-reader.ts';

const SITES_AT_MOST = 2 ** 24;

/** What is said of a list. */
export interface ListForm {
  readonly name: ListName;
  readonly title: string;
  readonly width: 4 | 8;
}

/** A list in the making: sites, and where in the table each of them comes from. */
export class Found {
  sites: Uint32Array;
  offsets: Uint32Array;
  length = 0;

  constructor(room = 4096) {
    this.sites = new Uint32Array(room);
    this.offsets = new Uint32Array(room);
  }

  put(index: number, site: PhysAddr, offset: number): void {
    if (index >= this.sites.length) {
      const room = Math.max(index + 1, this.sites.length * 2);
      const [sites, offsets] = [new Uint32Array(room), new Uint32Array(room)];
      sites.set(this.sites);
      offsets.set(this.offsets);
      this.sites = sites;
      this.offsets = offsets;
    }
    this.sites[index] = site;
    this.offsets[index] = offset;
    if (index >= this.length) this.length = index + 1;
  }

  /** Those of another list from `first` to `end`; where there is room. */
  append({ sites, offsets }: Found, first: number, end: number): void {
    this.sites.set(sites.subarray(first, end), this.length);
    this.offsets.set(offsets.subarray(first, end), this.length);
    this.length += end - first;
  }
}

/** A part of what was read, from the index `first` on to `end`: chains of `length` sites, ascending by their first ones. */
export interface Group {
  readonly first: number;
  end: number;
  readonly length: number;
}

/** One list that ascends of groups that do; `lengths` gets the length of each chain, at the index of its first site. */
export function merge(read: Found, groups: readonly Group[], lengths?: Uint8Array): Found {
  const merged = new Found(read.length);
  const heads = groups.map(({ first }) => first);
  while (merged.length < read.length) {
    let least = -1;
    for (let group = 0; group < groups.length; group++) {
      if (heads[group] === groups[group]!.end) continue;
      if (least < 0 || read.sites[heads[group]!]! < read.sites[heads[least]!]!) least = group;
    }
    const { length } = groups[least]!;
    if (lengths !== undefined) lengths[merged.length] = length;
    for (let left = length; left > 0; left--) {
      const index = heads[least]!++;
      merged.put(merged.length, read.sites[index]!, read.offsets[index]!);
    }
  }
  return merged;
}

/** Through the bytes of a table, forwards. Offsets count from its start. */
export class Walk {
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

  /** A site that was read, and from where. */
  put(read: Found, index: number, site: PhysAddr, offset: number, { name, title, width }: ListForm): void {
    if (site + width > KERNEL_IMAGE_SIZE || index >= SITES_AT_MOST) {
      const expected = `at most ${SITES_AT_MOST} sites, below ${hex(KERNEL_IMAGE_SIZE)}`;
      this.refuse(`site of the ${title} list`, offset, site, expected);
    }
    this.#watch?.(name, physToTableEntry(site), this.#origin + offset);
    read.put(index, site, offset);
  }

  get at(): number {
    return this.#at;
  }

  u8(title: string): number {
    this.#need(1, title);
    return this.#bytes[this.#at++]!;
  }

  u16(title: string): number {
    this.#need(2, title);
    this.#at += 2;
    return this.#view.getUint16(this.#at - 2, true);
  }

  u32(title: string): number {
    this.#need(4, title);
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4, true);
  }

  expectEnd(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) this.refuse('end', this.#at, `${hex(left)} bytes that the program never reads`, 'none');
  }

  #need(length: number, title: string): void {
    if (this.#at + length <= this.#bytes.length) return;
    this.refuse(`${title} list`, this.#at, 'the end of the table', `${hex(length)} bytes, and the list's end`);
  }

  refuse(what: string, offset: number, found: number | string, expected: string): never {
    throw badTable(what, this.#origin + offset, { found, expected });
  }
}
