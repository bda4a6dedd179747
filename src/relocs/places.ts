/**
 * Where in a kernel's image its relocation sites lie: in which sections, on how many pages and cache lines, and how they are spread.
 *
 * Relocating a kernel writes to memory that nothing has touched yet, so pages and cache lines say more of what it costs than the number
 * of sites does. Counted at link addresses: an image that is loaded elsewhere is moved by whole pages.
 *
 * Tables come here after `checkSites`: every site lies in the image.
 */
import { physToTableEntry, START_KERNEL_MAP, tableEntryToPhys, virtToPhys, PAGE_SIZE } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { SHF_ALLOC } from '../elf/constants.ts';
import { sectionName } from '../elf/read.ts';
import type { Segment } from '../elf/read.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import type { Sites } from './tables/apply.ts';
import { LISTS } from './tables/kernel-table.ts';
import type { ListName } from './tables/kernel-table.ts';

/** A section in memory. */
export interface Place {
  readonly name: string;
  readonly start: PhysAddr;
  /** One past its last byte. */
  readonly end: PhysAddr;
}

/** The sections that are loaded, by rising address; none for a file without section headers. */
export function loadedSections({ elf, loads }: Vmlinux): Place[] {
  const places: Place[] = [];
  const low = loads.filter(({ vaddr }) => vaddr < START_KERNEL_MAP).toSorted((a, b) => Number(a.vaddr - b.vaddr));
  const loaded = elf.sections
    .filter(({ flags, size }) => (flags & SHF_ALLOC) !== 0n && size > 0)
    .toSorted((a, b) => Number(a.addr - b.addr));
  let load = 0;
  for (const section of loaded) {
    while (load < low.length && section.addr >= endOf(low[load]!)) load++;
    const start = virtToPhys(section.addr) ?? physIn(low[load], section.addr);
    if (start !== undefined) places.push({ name: sectionName(elf, section), start, end: start + section.size });
  }
  return places.toSorted((a, b) => a.start - b.start);
}

const endOf = ({ vaddr, memsz }: Segment): bigint => vaddr + BigInt(memsz);

/** Per-cpu data of kernels before 6.15 is linked at 0; the segment that loads it says where it is. */
function physIn(load: Segment | undefined, address: bigint): PhysAddr | undefined {
  if (load === undefined || address < load.vaddr || address >= endOf(load)) return undefined;
  return load.paddr + Number(address - load.vaddr);
}

/** Sites of all lists as one. */
export interface MergedSites {
  /** Table entries, ascending. */
  readonly entries: Uint32Array;
  /** Of each, the index of its list in LISTS. */
  readonly lists: Uint8Array;
}

export function mergeSites(sites: Sites): MergedSites {
  const { abs64, inverse32, abs32 } = sites;
  const count = abs64.length + inverse32.length + abs32.length;
  const entries = new Uint32Array(count);
  const lists = new Uint8Array(count);
  const ended = 2 ** 32;
  let [i, j, k] = [0, 0, 0];
  for (let at = 0; at < count; at++) {
    const a = i < abs64.length ? abs64[i]! : ended;
    const b = j < inverse32.length ? inverse32[j]! : ended;
    const c = k < abs32.length ? abs32[k]! : ended;
    const entry = Math.min(a, b, c);
    entries[at] = entry;
    if (entry === a) {
      i++; // list 0, as it stands there
    } else if (entry === b) {
      j++;
      lists[at] = 1;
    } else {
      k++;
      lists[at] = 2;
    }
  }
  return { entries, lists };
}

export const LINE = 64;

/** What is written to when these sites are relocated. */
export interface Touched {
  /** Sites by list. */
  readonly sites: Readonly<Record<ListName, number>>;
  /** Cache lines of LINE bytes and pages of PAGE_SIZE bytes that hold any part of a site. */
  readonly lines: number;
  readonly pages: number;
}

export interface TouchedSection extends Touched {
  /** Null for sites that lie in no section. */
  readonly name: string | null;
  /** The section's address, or that of the first site. */
  readonly start: PhysAddr;
}

/** Everything together. */
export function touchedByAll(merged: MergedSites): Touched {
  return touched(merged, 0, merged.entries.length);
}

/** The same for each section that has sites, by rising address. Where two sections share a line or page, both have it. */
export function touchedBySection(merged: MergedSites, sections: readonly Place[]): TouchedSection[] {
  const { entries } = merged;
  const result: TouchedSection[] = [];
  let section = 0;
  for (let from = 0; from < entries.length;) {
    const address = tableEntryToPhys(entries[from]!) ?? 0;
    while (section < sections.length && sections[section]!.end <= address) section++;
    const next = sections[section];
    const place = next !== undefined && next.start <= address ? next : undefined;
    const limit = place?.end ?? next?.start ?? Number.MAX_SAFE_INTEGER;
    let to = from + 1;
    while (to < entries.length && entries[to]! < physToTableEntry(limit)) to++;
    result.push({ name: place?.name ?? null, start: place?.start ?? address, ...touched(merged, from, to) });
    from = to;
  }
  return result;
}

function touched({ entries, lists }: MergedSites, from: number, to: number): Touched {
  const counts = LISTS.map(() => 0);
  let [lines, pages, lastLine, lastPage] = [0, 0, -1, -1];
  for (let index = from; index < to; index++) {
    const list = lists[index]!;
    counts[list]!++;
    const first = entries[index]!;
    const last = first + LISTS[list]!.width - 1;
    const firstLine = Math.max(Math.floor(first / LINE), lastLine + 1);
    const firstPage = Math.max(Math.floor(first / PAGE_SIZE), lastPage + 1);
    lastLine = Math.max(lastLine, Math.floor(last / LINE));
    lastPage = Math.max(lastPage, Math.floor(last / PAGE_SIZE));
    lines += lastLine - firstLine + 1;
    pages += lastPage - firstPage + 1;
  }
  const [abs64 = 0, inverse32 = 0, abs32 = 0] = counts;
  return { sites: { abs64, inverse32, abs32 }, lines, pages };
}

/** How many sites begin in each `cell` bytes, from the cell of the image's first byte to that of its last. */
export function countByCell(
  { entries }: Pick<MergedSites, 'entries'>,
  { imageStart, imageEnd }: Pick<Vmlinux, 'imageStart' | 'imageEnd'>,
  cell: number,
): number[] {
  const first = Math.floor(imageStart / cell);
  const counts = Array.from({ length: Math.ceil(imageEnd / cell) - first }, () => 0);
  for (const entry of entries) counts[Math.floor(tableEntryToPhys(entry)! / cell) - first]!++;
  return counts;
}
