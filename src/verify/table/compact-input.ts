/** What the readers of the compact table's lists share: checked reads from the table's bytes, and lists of sites with the places they came from. */
import { KERNEL_IMAGE_SIZE, physToTableEntry } from '../../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { hex } from '../../base/errors.ts';
import type { ListName } from '../../relocs/tables/kernel-table.ts';
import { badTable } from './reader.ts';
import type { EntryWatch, TableReaderOptions } from './reader.ts';

/** In a list, by the format. */
const SITES_AT_MOST = 2 ** 24;

/** Which of the three lists is read. `title` names it in messages; `width` is the size of its sites in bytes. */
export interface ListRules {
  readonly name: ListName;
  readonly title: string;
  readonly width: 4 | 8;
}

/** A list that grows as it is decoded: its sites, and the offset in the table of each. */
export class DecodedSites {
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

  /** Appends another list's sites from index `first` up to `end`. The caller has made the room. */
  append({ sites, offsets }: DecodedSites, first: number, end: number): void {
    this.sites.set(sites.subarray(first, end), this.length);
    this.offsets.set(offsets.subarray(first, end), this.length);
    this.length += end - first;
  }
}

/** Indices `first` up to `end` of a decoded list: chains of `length` sites each, whose first sites ascend. */
export interface ChainGroup {
  readonly first: number;
  end: number;
  readonly length: number;
}

/**
 * Merges groups into one list in which the chains' first sites ascend. `lengths`, if given, gets the length of each chain at the index of its first
 * site.
 */
export function mergeGroups(read: DecodedSites, groups: readonly ChainGroup[], lengths?: Uint8Array): DecodedSites {
  const merged = new DecodedSites(read.length);
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

/** Reads the bytes of a table forwards. Offsets count from the table's start. */
export class TableInput {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #origin: FileOffset;
  readonly #watch: EntryWatch | undefined;
  readonly #sitesAtMost: number;
  #at = 0;

  /** If nobody says how many sites there can be: 2^18, and 16 for each byte of the table. Tables of real kernels have 1.5 for each byte. */
  constructor(bytes: Uint8Array, origin: FileOffset, { watch, sitesAtMost }: TableReaderOptions = {}) {
    this.#sitesAtMost = Math.min(sitesAtMost ?? 2 ** 18 + 16 * bytes.length, SITES_AT_MOST);
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#origin = origin;
    this.#watch = watch;
  }

  /** Records a site that was decoded from `offset`. */
  put(read: DecodedSites, index: number, site: PhysAddr, offset: number, { name, title, width }: ListRules): void {
    if (site + width > KERNEL_IMAGE_SIZE || index >= this.#sitesAtMost) this.#refuseSite(site, offset, title);
    this.#watch?.(name, physToTableEntry(site), this.#origin + offset);
    read.put(index, site, offset);
  }

  /** Before `count` sites are recorded, `width` bytes apart: refuses them if there is no room for all. */
  expectRoom(
    count: number,
    { length }: DecodedSites,
    site: PhysAddr,
    offset: number,
    { title, width }: ListRules,
  ): void {
    if (site + count * width > KERNEL_IMAGE_SIZE || length + count > this.#sitesAtMost)
      this.#refuseSite(site, offset, title);
  }

  #refuseSite(site: PhysAddr, offset: number, title: string): never {
    const expected = `at most ${this.#sitesAtMost} sites, below ${hex(KERNEL_IMAGE_SIZE)}`;
    return this.refuse(`site of the ${title} list`, offset, site, expected);
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
