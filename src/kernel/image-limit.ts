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
import { wordsIn } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { PT_LOAD, SHF_ALLOC } from '../elf/constants.ts';
import { sectionName, segmentBytes } from '../elf/read.ts';
import type { ElfFile, Section, Segment } from '../elf/read.ts';
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

/**
 * Where the image ends, for counting slots: one more than `imageEnd` where the address after its last byte must stay inside the limit too.
 *
 * That address is the symbol _end. __startup_64() keeps the entries of level2_kernel_pgt from pmd_index(_text) to pmd_index(_end). With _end exactly 1 GiB above
 * __START_KERNEL_map, the latter is 0: no entry is kept, and the kernel resets the machine at once (measured on 5.10, 6.1 and 7.3, with _end put at a
 * multiple of 2 MiB). Only an image that ends at such a multiple can get there. With CONFIG_AMD_MEM_ENCRYPT, as in every distribution's kernel,
 * the image ends so, but by .init.scratch, which begins after _end: then nothing looks its end up. In a file without section headers the name is gone, and
 * the slot is left out.
 */
export function endForSlots({ elf, imageEnd }: Pick<Vmlinux, 'elf' | 'imageEnd'>, limit: ImageLimit): PhysAddr {
  if (imageEnd % PMD_SIZE !== 0 || limit.bytes !== KERNEL_IMAGE_SIZE) return imageEnd;
  const endsHere = ({ addr, size, flags }: Section): boolean =>
    (flags & SHF_ALLOC) !== 0n && addr + BigInt(size) === physToVirt(imageEnd);
  const scratch = elf.sections.some((section) => endsHere(section) && sectionName(elf, section) === '.init.scratch');
  return scratch ? imageEnd : imageEnd + 1;
}

const ENTRIES = 512;
/** __START_KERNEL_map is in this entry of a level 3 table. */
const KERNEL_MAP_ENTRY = 510;
/** _PAGE_PRESENT, _PAGE_RW and _PAGE_PSE (arch/x86/include/asm/pgtable_types.h). */
const [PRESENT, WRITABLE, LARGE] = [0x1, 0x2, 0x80];

/**
 * Two words of each page are read. Throws KernelImageError when the page tables contradict each other.
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
  // The first entry is flags alone.
  const found = PRESENT | WRITABLE | LARGE;
  const mask = found | -PAGE_SIZE;
  for (const { words, paddr } of pages) {
    for (let at = nextEntry(words, 0, mask, found); at >= 0; at = nextEntry(words, at + PAGE_WORDS, mask, found)) {
      const entries = countMapped(words, at);
      if (entries * PMD_SIZE >= imageEnd) maps.set(paddr + at * 4, entries);
    }
  }
  return maps;
}

/** Where entry 510 of each page leads, if it looks like that of a level 3 table. */
function* findUpperEntries(pages: readonly Pages[]): Generator<PhysAddr> {
  const mask = PRESENT | LARGE;
  for (const { words } of pages) {
    for (
      let at = nextEntry(words, KERNEL_MAP_ENTRY * 2, mask, PRESENT);
      at >= 0;
      at = nextEntry(words, at + PAGE_WORDS, mask, PRESENT)
    )
      yield (words[at]! & -PAGE_SIZE) >>> 0;
  }
}

/**
 * From the word `at` on, a page further each time: the first entry below 4 GiB whose low half is `value` under `mask`; -1 if there is none. A loop of its own,
 * as small as it can be: it sees all pages, most of them before it is compiled, and then it compiles in about a millisecond.
 */
function nextEntry(words: Int32Array, at: number, mask: number, value: number): number {
  for (; at < words.length; at += PAGE_WORDS) if ((words[at]! & mask) === value && words[at + 1] === 0) return at;
  return -1;
}

const PAGE_WORDS = PAGE_SIZE / 4;

/** Whole pages of a segment's bytes, as words. */
interface Pages {
  readonly words: Int32Array;
  readonly paddr: PhysAddr;
}

function pagesOf(bytes: Uint8Array, start: PhysAddr): Pages[] {
  const at = (PAGE_SIZE - (start % PAGE_SIZE)) % PAGE_SIZE;
  const count = Math.floor((bytes.length - at) / PAGE_SIZE);
  if (count <= 0) return [];
  const { buffer, byteOffset, length } = wordsIn(bytes.subarray(at, at + count * PAGE_SIZE));
  return [{ words: new Int32Array(buffer, byteOffset, length), paddr: start + at }];
}

/** The number of entries that map 2 MiB each, from the first on, at the word `start`; 0 unless all the others are zero. */
function countMapped(words: Int32Array, start: number): number {
  const page = words.subarray(start, start + PAGE_WORDS);
  const flags = page[0]!;
  let mapped = 0;
  while (mapped < ENTRIES && page[mapped * 2] === mapped * PMD_SIZE + flags && page[mapped * 2 + 1] === 0) mapped++;
  return page.subarray(mapped * 2).every((word) => word === 0) ? mapped : 0;
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
