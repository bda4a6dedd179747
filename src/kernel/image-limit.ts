/**
 * How far the kernel's own page tables map its image: the kernel's KERNEL_IMAGE_SIZE, which bounds its slides.
 *
 * It is 1 GiB with CONFIG_RANDOMIZE_BASE, else 512 MiB (arch/x86/include/asm/page_64_types.h). No header says which, but the page tables do that
 * arch/x86/kernel/head_64.S links into the image:
 *
 *     level3_kernel_pgt    entry 510 holds level2_kernel_pgt's physical link address + flags
 *     level2_kernel_pgt    entry i holds i × 2 MiB + flags, for each 2 MiB of KERNEL_IMAGE_SIZE; the rest of the page is zero
 *
 * They are found by this shape, without symbols. The PVH entry of 6.12 and later has a second pair, of the same size. Modules begin where
 * KERNEL_IMAGE_SIZE ends, so an image that reaches beyond it is neither mapped nor alone there. Measured on a 6.12 kernel without RANDOMIZE_BASE: the last
 * slide that fits into 512 MiB boots, and the next one does not.
 *
 * `verify` reads the limit by itself, from the relocation sites (verify/image-limit.ts).
 */
import { isPossibleSlide, KERNEL_IMAGE_SIZE, PAGE_SIZE, physToVirt, PMD_SIZE, virtToPhys } from '../base/addresses.ts';
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { segmentBytes } from '../elf/read.ts';
import type { ElfFile, Segment } from '../elf/read.ts';
import type { Vmlinux } from './vmlinux.ts';

export interface ImageLimit {
  /** The image, slide included, must end at this distance from __START_KERNEL_map or below. */
  readonly bytes: number;
  /**
   * `assumed`: the image has no such page tables, as no kernel that was tried. Then it is 1 GiB: a kernel build makes relocations for x86-64 only with
   * CONFIG_RANDOMIZE_BASE (X86_NEED_RELOCS).
   */
  readonly source: 'page-tables' | 'assumed';
}

const ENTRIES = 512;
/** __START_KERNEL_map is in this entry of a level 3 table. */
const KERNEL_MAP_ENTRY = 510;
/** _PAGE_PRESENT, _PAGE_RW and _PAGE_PSE (arch/x86/include/asm/pgtable_types.h). */
const [PRESENT, WRITABLE, LARGE] = [0x1, 0x2, 0x80];

/**
 * Two words of each page are read: 0.25 ms for Debian's 6.12 cloud kernel, 52 MB, in a process that has done it before (the least of 30 runs). Throws KernelImageError when the page tables contradict each other.
 */
export function readImageLimit({ elf, loads, imageEnd }: Pick<Vmlinux, 'elf' | 'loads' | 'imageEnd'>): ImageLimit {
  const pages = loads.flatMap((load) => pagesOf(segmentBytes(elf, load), load.paddr));
  const maps = findMaps(pages, imageEnd);
  let found: FoundMap | undefined;
  for (const at of maps.size === 0 ? [] : findUpperEntries(pages)) {
    const entries = maps.get(at);
    if (entries === undefined) continue;
    if (found !== undefined && found.entries !== entries) throw contradiction(found, { entries, at });
    found = { entries, at };
  }
  if (found === undefined) return { bytes: KERNEL_IMAGE_SIZE, source: 'assumed' };
  return { bytes: found.entries * PMD_SIZE, source: 'page-tables' };
}

/**
 * The virtual slide that was applied to an image in a file: 0 for a kernel as it was linked. Entry 510 is a relocation site, so in a moved kernel it
 * leads to level2_kernel_pgt's link address + slide. Undefined if the image has no such page tables, or they do not agree.
 */
export function readAppliedSlide(elf: ElfFile): Slide | undefined {
  const loads = elf.segments.filter(
    ({ type, vaddr, memsz }) => type === PT_LOAD && memsz > 0 && virtToPhys(vaddr) !== undefined,
  );
  const linkOf = ({ vaddr }: Segment): PhysAddr => virtToPhys(vaddr)!;
  const pages = loads.flatMap((load) => pagesOf(segmentBytes(elf, load), linkOf(load)));
  const maps = findMaps(pages, Math.max(0, ...loads.map((load) => linkOf(load) + load.memsz)));
  const slides = new Set<Slide>();
  for (const target of maps.size === 0 ? [] : findUpperEntries(pages))
    for (const at of maps.keys()) if (isPossibleSlide(target - at)) slides.add(target - at);
  return slides.size === 1 ? [...slides][0] : undefined;
}

/** Level 2 tables that map at least the image: how many entries each has, by its address. */
function findMaps(pages: readonly Pages[], imageEnd: PhysAddr): Map<PhysAddr, number> {
  const maps = new Map<PhysAddr, number>();
  for (const { view, at, count, paddr } of pages) {
    for (let page = 0; page < count; page++) {
      const start = at + page * PAGE_SIZE;
      // Nearly all pages end here: the first entry is flags alone.
      const flags = view.getUint32(start, true);
      if (flags >= PAGE_SIZE || (flags & (PRESENT | WRITABLE | LARGE)) !== (PRESENT | WRITABLE | LARGE)) continue;
      const entries = countMapped(view, start, flags);
      if (entries * PMD_SIZE >= imageEnd) maps.set(paddr + page * PAGE_SIZE, entries);
    }
  }
  return maps;
}

/** Where entry 510 of each page leads, if it looks like that of a level 3 table. */
function* findUpperEntries(pages: readonly Pages[]): Generator<PhysAddr> {
  for (const { view, at, count } of pages) {
    for (let page = 0; page < count; page++) {
      const entry = at + page * PAGE_SIZE + KERNEL_MAP_ENTRY * 8;
      const low = view.getUint32(entry, true);
      if ((low & (PRESENT | LARGE)) === PRESENT && view.getUint32(entry + 4, true) === 0) yield low - (low % PAGE_SIZE);
    }
  }
}

/** Whole pages of a segment's bytes, from the byte `at`. */
interface Pages {
  readonly view: DataView;
  readonly at: number;
  readonly count: number;
  readonly paddr: PhysAddr;
}

function pagesOf(bytes: Uint8Array, start: PhysAddr): Pages[] {
  const at = (PAGE_SIZE - (start % PAGE_SIZE)) % PAGE_SIZE;
  const count = Math.floor((bytes.length - at) / PAGE_SIZE);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return count > 0 ? [{ view, at, count, paddr: start + at }] : [];
}

/** The number of entries that map 2 MiB each, from the first on; 0 unless all the others are zero. */
function countMapped(view: DataView, start: number, flags: number): number {
  const entryIs = (index: number, low: number): boolean =>
    view.getUint32(start + index * 8, true) === low && view.getUint32(start + index * 8 + 4, true) === 0;
  let mapped = 0;
  while (mapped < ENTRIES && entryIs(mapped, mapped * PMD_SIZE + flags)) mapped++;
  for (let index = mapped; index < ENTRIES; index++) if (!entryIs(index, 0)) return 0;
  return mapped;
}

interface FoundMap {
  readonly entries: number;
  readonly at: PhysAddr;
}

function contradiction(one: FoundMap, other: FoundMap): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: `page table at ${hex(physToVirt(other.at))} (level2_kernel_pgt): mapped entries`,
    found: other.entries,
    expected: `${hex(one.entries)}, as the one at ${hex(physToVirt(one.at))}`,
  });
}
