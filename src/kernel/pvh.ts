/**
 * A kernel's PVH entry, and by which slides the kernel may be moved if it is entered there.
 *
 * The entry's code runs on page tables that were linked in, before the kernel builds its own. How it finds out where it runs has changed twice
 * (arch/x86/platform/pvh/head.S):
 *
 * - Until 6.11 it does not: all addresses are link addresses. With its relocations applied, the kernel must run at the address that it says it is
 *   linked at, so the virtual and the physical slide must be the same.
 * - Since 6.12 (note XEN_ELFNOTE_PHYS32_RELOC) the code subtracts the address that it is linked at from the one that it runs at. It adds the
 *   difference to its page tables and to phys_base; after a virtual slide V and a physical slide P, this is P − V. In 6.12 the link address is an
 *   immediate operand, which is a relocation site, and the difference has 64 bits: any V goes with any P.
 * - Since 6.13 the code reads the link address from the kernel's own loaded PHYS32_ENTRY note, and stores the difference in phys_base as 32
 *   bits without a sign. So P must be at least V. kslide allows only P = V (booted on 7.3) and V = 0; the rest was not tried.
 *
 * So the note that the loader reads must hold entry + P, and since 6.13 the loaded note must hold entry + V. Before that the loaded note stays as it
 * was linked: nothing but loaders needs it, and every user of the guest can read it.
 */
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { physToTableEntry, PMD_SIZE } from '../base/addresses.ts';
import { Reader } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { XEN_ELFNOTE_PHYS32_RELOC } from '../elf/constants.ts';
import { readNotes } from '../elf/read.ts';
import type { ElfFile, Note } from '../elf/read.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import { fileOffsetOf, findPvhNotes } from './vmlinux.ts';
import type { PvhNote, Vmlinux } from './vmlinux.ts';

export interface PvhEntry {
  /** Physical link address of pvh_start_xen. */
  readonly entry: PhysAddr;
  /** Every place where a loader may find the entry. */
  readonly notes: readonly PvhNote[];
  /** What XEN_ELFNOTE_PHYS32_RELOC says: the image may be loaded at any multiple of `align` from `min`, to end at `max` or before. */
  readonly range: { readonly align: number; readonly min: PhysAddr; readonly max: PhysAddr } | undefined;
  /** Whether the code takes its link address from relocation sites, as in 6.12. */
  readonly relocatesItself: boolean;
}

/** Undefined if the kernel has no PVH entry. The caller has checked that `sites` lie in the image. */
export function readPvh(kernel: Vmlinux, sites: Sites): PvhEntry | undefined {
  if (kernel.pvhEntry === undefined) return undefined;
  return {
    entry: kernel.pvhEntry,
    notes: findPvhNotes(kernel.elf, kernel.loads),
    range: findRange(kernel.elf),
    relocatesItself: countLinkAddresses(kernel, kernel.pvhEntry, sites) >= 2,
  };
}

/**
 * Only Xen reads this note, by owner and padded to 4. QEMU and linux-loader ignore it, so their ways to read notes do not matter here. Throws
 * KernelImageError if two such notes differ.
 */
function findRange(elf: ElfFile): PvhEntry['range'] {
  const notes = readNotes(elf).filter(({ owner, type }) => owner === 'Xen' && type === XEN_ELFNOTE_PHYS32_RELOC);
  const [first] = notes;
  if (first === undefined) return undefined;
  const range = readRange(first);
  const other = notes.find((note) => !sameRange(readRange(note), range));
  if (other === undefined) return range;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'XEN_ELFNOTE_PHYS32_RELOC',
    offset: other.descOffset,
    found: 'another range',
    expected: `what the note has whose descriptor is at ${hex(first.descOffset)}`,
  });
}

type Range = NonNullable<PvhEntry['range']>;

function sameRange(a: Range, b: Range): boolean {
  return a.align === b.align && a.min === b.min && a.max === b.max;
}

/** Up to three u32 (include/xen/interface/elfnote.h), with these defaults; the last is the last byte. Linux writes all three. */
const RANGE_DEFAULTS = [PMD_SIZE, 0, 0xffff_ffff] as const;

function readRange({ desc, descOffset }: Note): Range {
  const reader = new Reader(desc, descOffset);
  const [align, min, last] = RANGE_DEFAULTS.map((usual, index) =>
    desc.length < (index + 1) * 4 ? usual : reader.u32(index * 4, 'XEN_ELFNOTE_PHYS32_RELOC'),
  ) as [number, number, number];
  if (align === 0) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'XEN_ELFNOTE_PHYS32_RELOC: alignment',
      offset: descOffset,
      found: align,
      expected: 'at least 1',
    });
  }
  return { align, min, max: last + 1 };
}

/** At least the size of the entry's code: in 6.12 it is 0x123 bytes. */
const ENTRY_CODE = 0x200;

/** How often the entry's code has its own link address as an immediate operand: twice in 6.12, once for 32 and once for 64 bits. */
function countLinkAddresses({ elf, loads }: Vmlinux, entry: PhysAddr, { abs32 }: Sites): number {
  const first = physToTableEntry(entry);
  let count = 0;
  for (const site of abs32) {
    if (site < first || site >= first + ENTRY_CODE) continue;
    const offset = fileOffsetOf(loads, site - 0x8000_0000);
    if (offset !== undefined && new Reader(elf.bytes).u32(offset, 'site') === entry) count++;
  }
  return count;
}

/**
 * Whether the PVH entry works at these slides, multiples of 2 MiB, as far as the kernel decides that. The note's alignment is CONFIG_PHYSICAL_ALIGN, which a
 * loader that looks for a place should keep to. The entry's code does not know it: it adds the slide to page tables of 2 MiB pages.
 */
export function pvhAllows({ range, relocatesItself }: PvhEntry, virt: Slide, phys: Slide): boolean {
  return virt === phys || (range !== undefined && (relocatesItself || virt === 0));
}

/** Whether the entry's code takes its link address from the loaded note: since 6.13. */
export function readsNote({ range, relocatesItself }: PvhEntry): boolean {
  return range !== undefined && !relocatesItself;
}
