/**
 * The segment that kslide adds to a kernel: its layout, and the structures that its program uses. This file decides nothing about a kernel. build.ts
 * writes segments in this layout, read.ts reads them, and `verify` compares with it.
 *
 *     +0                  parameters   what the program must know of this kernel; apart from the table, the only bytes that differ between kernels
 *     +PARAMS.size        program      position independent, the same bytes in every kernel
 *     16-aligned          table        the relocations; in a kernel that the host has moved, a copy of its notes if a loader needs one
 *     (end of file bytes)
 *     page-aligned        scratch      not in the file: the program's state, trap tables, stack, page tables and log
 *
 * There are two such segments. `convert` adds the self-relocation program with a table. `randomize` adds the flag program, which has no table and
 * uses the first page of the scratch memory only.
 *
 * The program finds the parameters relative to itself, and everything else through them.
 */
import { PAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { alignUp } from '../base/bytes.ts';
import type { Layout } from '../elf/fields.ts';

/** The parameters' fields. The bytes after the last one are zero, up to PARAMS.size. */
export const PARAMETERS = {
  /** See PARAMS_MAGIC. */
  magic: [0x00, 8],
  /** Physical link address of the segment. The physical slide is the address where the segment runs minus this. */
  link_base: [0x08, 8],
  /** Physical link address of startup_64. The program adds the physical slide to this field, and in the end jumps to the sum. */
  entry: [0x10, 8],
  /** The ENTRY_BYTES bytes that were at the entry before the hook. */
  entry_bytes: [0x18, 8],
  /** Physical link address of the image's first byte. */
  image_start: [0x20, 8],
  /** Size of the segment in memory, scratch included. */
  segment_size: [0x28, 8],
  /** How many slides there are, and the distance between them. */
  slot_count: [0x30, 8],
  slot_align: [0x38, 8],
  /** Offsets from the segment's start. */
  scratch: [0x40, 8],
  table: [0x48, 8],
  table_end: [0x50, 8],
  /** See TABLE_FORMAT. */
  table_format: [0x58, 4],
  /** See STUB_FLAGS. */
  flags: [0x5c, 4],
  /** In a kernel that the host has moved: its virtual slide. Only people and tools read it. */
  virt_slide: [0x60, 8],
} as const satisfies Layout;

type Offsets = { readonly [name in keyof typeof PARAMETERS]: number };

/** Offsets of the parameters, for the program, and their total size. */
export const PARAMS: Offsets & { readonly size: 0x80 } = {
  ...(Object.fromEntries(Object.entries(PARAMETERS).map(([name, [offset]]) => [name, offset])) as Offsets),
  size: 0x80,
};

/** "KSLIDE", a zero byte, and the version of this layout. */
export const PARAMS_MAGIC: readonly number[] = [0x4b, 0x53, 0x4c, 0x49, 0x44, 0x45, 0x00, 0x01];

export const TABLE_FORMAT = {
  /** The kernel's own. Always three lists; the inverse one is empty if the kernel has none. */
  kernel: 0,
  /** kslide's own, one sixth the size: relocs/tables/compact.ts. */
  compact: 1,
  /** The kernel's own in the form with two lists. Only used if the kernel's decompressor reads the same table. */
  kernel_two_lists: 2,
  /** There is no table: the host has moved the kernel (`randomize`), and the program only sets KASLR_FLAG. */
  none: 0xff,
} as const;

export const STUB_FLAGS = {
  /**
   * Relocate although KASLR_FLAG is set. This is for a kernel in a bzImage: the decompressor sets the flag and picks the physical slide, but its
   * table is empty, so it applies no virtual slide. `nokaslr` is still obeyed.
   */
  despite_kaslr_flag: 1 << 0,
} as const;

/** Size of the hook: a JMP rel32 at e_entry that leads to the program. */
export const HOOK_SIZE = 5;
/** The number of bytes at e_entry that the program restores. The hook is the first HOOK_SIZE of them. */
export const ENTRY_BYTES = 8;

/**
 * Offsets in the scratch memory. The program wipes the first page when it leaves. The page tables stay in use until the kernel loads its own. The
 * log stays in memory.
 */
export const SCRATCH = {
  /** The loader's RSP, and its IDT and GDT as 10-byte pseudo-descriptors. */
  saved_rsp: 0x000,
  saved_idtr: 0x008,
  saved_gdtr: 0x018,
  /** The program's own, while they are loaded. */
  idtr: 0x028,
  gdtr: 0x038,
  /** The address where execution resumes after a fault. 0: none. */
  resume: 0x048,
  /** The loader's CR0. */
  saved_cr0: 0x050,
  /** The relocation step's state: a dummy site, u32; the number of chains in the batch; the address where a row enters the loop. */
  no_site: 0x058,
  chains: 0x060,
  row_entry: 0x068,
  /** What CPUID says: leaf 0 ECX, leaf 1 ECX, leaf 7 EBX. 0 where it says nothing, because it faults or lacks the leaf. */
  cpu_vendor: 0x070,
  cpu_leaf1: 0x074,
  cpu_leaf7: 0x078,
  /**
   * The state of the reader that goes by groups: R9 and R12, which it keeps; a chain's rows after the first; their bytes in the batch; the group's
   * first site in the log; the number of groups left.
   */
  kept_r9: 0x080,
  kept_r12: 0x088,
  rows: 0x090,
  row_bytes: 0x098,
  group: 0x0a0,
  groups_left: 0x0a8,
  /** The address of the reader of the 32-bit lists. */
  chain_reader: 0x0b0,
  idt: 0x100,
  gdt: 0x300,
  /** The stack grows down from here to the GDT's end. Only traps use it. */
  stack_top: 0x1000,
  wiped: 0x1000,
  pml5: 0x1000,
  pml4: 0x2000,
  pdpt: 0x3000,
  /** Four pages of 2 MiB entries: an identity map of 4 GiB. */
  pd: 0x4000,
  /** u32 link addresses of sites, in the order in which the relocation step reaches them. They do not include the slide. */
  log: 0x8000,
  size: 0xd000,
} as const;

/** Gates in the IDT: for exceptions only. Interrupts stay disabled. */
export const IDT_VECTORS = 32;
export const GDT_ENTRIES = 32;

/** Where the parts of one segment lie, as offsets from its start. */
export interface SegmentLayout {
  readonly program: number;
  /** The table, or the notes. */
  readonly payload: number;
  /** End of what the file holds. */
  readonly fileSize: number;
  readonly scratch: number;
  /** Bytes of memory, scratch included. */
  readonly memsz: number;
}

export function layOutSegment(programSize: number, payloadSize: number, scratchSize: number): SegmentLayout {
  const program = PARAMS.size;
  const payload = alignUp(program + programSize, 16);
  const fileSize = payload + payloadSize;
  const scratch = alignUp(fileSize, PAGE_SIZE);
  return { program, payload, fileSize, scratch, memsz: scratch + scratchSize };
}

/**
 * The physical link address for a segment at this file offset: the first page after the image that is congruent to the offset modulo p_align, as the
 * ELF specification requires. The gap of up to 2 MiB before it is free memory. It takes no bytes in the file.
 */
export function segmentAddress(imageEnd: PhysAddr, offset: FileOffset): PhysAddr {
  const first = alignUp(imageEnd, PAGE_SIZE);
  return first + ((((offset - first) % PMD_SIZE) + PMD_SIZE) % PMD_SIZE);
}
