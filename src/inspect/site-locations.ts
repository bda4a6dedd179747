/**
 * Where in a kernel's image its relocation sites are: in which sections, on how many pages and cache lines, and how many in each part of the image.
 *
 * Relocation writes to memory that has not been touched yet, so the number of pages and cache lines says more about its cost than the number
 * of sites. They are counted at link addresses: an image that is loaded elsewhere is moved by whole pages.
 *
 * Callers pass tables that `checkSites` has accepted: every site is inside the image.
 */
import { physToTableEntry, START_KERNEL_MAP, tableEntryToPhys, virtToPhys } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { SHF_ALLOC } from '../elf/constants.ts';
import { sectionName } from '../elf/read.ts';
import type { Section, Segment } from '../elf/read.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import { LISTS } from '../relocs/tables/kernel-table.ts';
import type { ListName } from '../relocs/tables/kernel-table.ts';

/** A section that is loaded, at its link address. */
export interface LoadedSection {
  readonly name: string;
  readonly start: PhysAddr;
  /** One past its last byte. */
  readonly end: PhysAddr;
  readonly header: Section;
}

/** By rising address. Empty for a file without section headers. */
export function loadedSections({ elf, loads }: Vmlinux): LoadedSection[] {
  const placed: LoadedSection[] = [];
  const low = loads.filter(({ vaddr }) => vaddr < START_KERNEL_MAP).toSorted((a, b) => Number(a.vaddr - b.vaddr));
  const allocated = elf.sections
    .filter(({ flags, size }) => (flags & SHF_ALLOC) !== 0n && size > 0)
    .toSorted((a, b) => Number(a.addr - b.addr));
  let load = 0;
  for (const section of allocated) {
    while (load < low.length && section.addr >= endOf(low[load]!)) load++;
    const start = virtToPhys(section.addr) ?? physIn(low[load], section.addr);
    if (start === undefined) continue;
    placed.push({
      // Read when it is asked for: few sections have sites.
      get name() {
        return sectionName(elf, section);
      },
      start,
      end: start + section.size,
      header: section,
    });
  }
  return placed.toSorted((a, b) => a.start - b.start);
}

const endOf = ({ vaddr, memsz }: Segment): bigint => vaddr + BigInt(memsz);

/** Kernels before 6.15 link per-cpu data at 0. The segment that loads it has its physical address. */
function physIn(load: Segment | undefined, address: bigint): PhysAddr | undefined {
  if (load === undefined || address < load.vaddr || address >= endOf(load)) return undefined;
  return load.paddr + Number(address - load.vaddr);
}

/** The sites of all lists in one order. */
export interface MergedSites {
  /** Table entries, ascending. */
  readonly entries: Uint32Array;
  /** For each entry, the index of its list in LISTS. */
  readonly lists: Uint8Array;
}

export function mergeSites(sites: Sites): MergedSites {
  const { abs64, inverse32, abs32 } = sites;
  const count = abs64.length + inverse32.length + abs32.length;
  const entries = new Uint32Array(count);
  const lists = new Uint8Array(count);
  const ended = 2 ** 32; // greater than every entry
  let [i, j, k] = [0, 0, 0];
  for (let at = 0; at < count; at++) {
    const a = i < abs64.length ? abs64[i]! : ended;
    const b = j < inverse32.length ? inverse32[j]! : ended;
    const c = k < abs32.length ? abs32[k]! : ended;
    const entry = Math.min(a, b, c);
    entries[at] = entry;
    if (entry === a) {
      i++; // `lists` has list 0 there already
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

export const CACHE_LINE = 64;
export const PAGE = 0x1000;

/** What relocation writes to. */
export interface Touched {
  /** Sites by list. */
  readonly sites: Readonly<Record<ListName, number>>;
  /** Cache lines (CACHE_LINE bytes) and pages (PAGE bytes) that hold any part of a site. */
  readonly lines: number;
  readonly pages: number;
}

export interface TouchedSection extends Touched {
  /** Null for sites outside all sections. */
  readonly name: string | null;
  /** The section's address, or that of the first site. */
  readonly start: PhysAddr;
}

/** All sites together. */
export function touchedByAll(merged: MergedSites): Touched {
  return touched(merged, 0, merged.entries.length);
}

/** Each section that has sites, by rising address. A line or page that two sections share counts for both. */
export function touchedBySection(
  merged: MergedSites,
  sections: readonly Omit<LoadedSection, 'header'>[],
): TouchedSection[] {
  const { entries } = merged;
  const result: TouchedSection[] = [];
  let section = 0;
  for (let from = 0; from < entries.length;) {
    const address = tableEntryToPhys(entries[from]!) ?? 0;
    while (section < sections.length && sections[section]!.end <= address) section++;
    const next = sections[section];
    const inside = next !== undefined && next.start <= address ? next : undefined;
    const limit = inside?.end ?? next?.start ?? Number.MAX_SAFE_INTEGER;
    let to = from + 1;
    while (to < entries.length && entries[to]! < physToTableEntry(limit)) to++;
    result.push({ name: inside?.name ?? null, start: inside?.start ?? address, ...touched(merged, from, to) });
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
    const firstLine = Math.max(Math.floor(first / CACHE_LINE), lastLine + 1);
    const firstPage = Math.max(Math.floor(first / PAGE), lastPage + 1);
    lastLine = Math.max(lastLine, Math.floor(last / CACHE_LINE));
    lastPage = Math.max(lastPage, Math.floor(last / PAGE));
    lines += lastLine - firstLine + 1;
    pages += lastPage - firstPage + 1;
  }
  const [abs64 = 0, inverse32 = 0, abs32 = 0] = counts;
  return { sites: { abs64, inverse32, abs32 }, lines, pages };
}

/** How many sites begin in each cell of `cell` bytes, from the cell of the image's first byte to that of its last. */
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
