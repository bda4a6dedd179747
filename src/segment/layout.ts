/**
 * The segment that kslide adds to a kernel, and the two structures that its program works with.
 *
 *     +0                  parameters   what `convert` knows of this kernel: the only thing in the segment that depends on it, but the table
 *     +PARAMS.size        program      the same bytes in every kernel; position independent
 *     16-aligned          table        the relocations
 *     (end of file bytes)
 *     page-aligned        scratch      not in the file: the program's state, trap tables, stack, page tables and log
 *
 * The program finds the parameters relative to itself, and everything else through them. Fields are u64 unless said otherwise.
 */

/** Offsets in the parameters. */
export const PARAMS = {
  /** 8 bytes; see PARAMS_MAGIC. */
  magic: 0x00,
  /** Physical link address of the segment; where it runs minus this is the physical slide. */
  link_base: 0x08,
  /** Physical link address of startup_64; the program adds the physical slide in place, and leaves through it. */
  entry: 0x10,
  /** 8 bytes that stood at the entry before the hook. */
  entry_bytes: 0x18,
  /** Physical link address of the image's first byte. */
  image_start: 0x20,
  /** Bytes of memory that the segment takes, scratch included. */
  segment_size: 0x28,
  /** How many slides there are, and the distance between them. */
  slot_count: 0x30,
  slot_align: 0x38,
  /** Offsets from the segment's start. */
  scratch: 0x40,
  table: 0x48,
  table_end: 0x50,
  /** u32, see TABLE_FORMAT. */
  table_format: 0x58,
  /** u32, see STUB_FLAGS. */
  flags: 0x5c,
  /** In a kernel that the host has moved: by what, virtually. Nothing reads it but people and tools. */
  virt_slide: 0x60,
  /** Up to here zero. */
  size: 0x80,
} as const;

/** "KSLIDE", a zero, and the version of this layout. */
export const PARAMS_MAGIC: readonly number[] = [0x4b, 0x53, 0x4c, 0x49, 0x44, 0x45, 0x00, 0x01];

export const TABLE_FORMAT = {
  /** The kernel's own: always three lists, the inverse one empty where the kernel has none. */
  kernel: 0,
  /** kslide's own, in a sixth of the bytes: relocs/tables/compact.ts. */
  compact: 1,
  /** The kernel's own in the form with two lists, where its decompressor reads the same table. */
  kernel_two_lists: 2,
  /** There is no table: the host has moved the kernel (`randomize`), and the program sets KASLR_FLAG alone. */
  none: 0xff,
} as const;

export const STUB_FLAGS = {
  /**
   * Relocate although KASLR_FLAG is set: for the kernel of a bzImage whose decompressor sets it, and picks the physical slide, but has an empty
   * table and so no virtual slide. `nokaslr` is obeyed all the same.
   */
  despite_kaslr_flag: 1 << 0,
} as const;

/** How many bytes at e_entry the program puts back; the hook is the first 5 of them. */
export const ENTRY_BYTES = 8;

/** Offsets in the scratch memory. Its first page is wiped on leaving; the page tables stay in use until the kernel loads its own, and the log stays. */
export const SCRATCH = {
  /** What the loader had: RSP, the 10-byte pseudo-descriptors of IDT and GDT, and CR0. */
  saved_rsp: 0x000,
  saved_idtr: 0x008,
  saved_gdtr: 0x018,
  /** The program's own, while they are loaded. */
  idtr: 0x028,
  gdtr: 0x038,
  /** Where a fault resumes; 0: nowhere. */
  resume: 0x048,
  saved_cr0: 0x050,
  /** The relocation step's: a site of no meaning, u32; chains in a batch; where a row enters the loop. */
  no_site: 0x058,
  chains: 0x060,
  row_entry: 0x068,
  idt: 0x100,
  gdt: 0x300,
  /** The stack grows down from here to the GDT's end; only traps use it. */
  stack_top: 0x1000,
  wiped: 0x1000,
  pml5: 0x1000,
  pml4: 0x2000,
  pdpt: 0x3000,
  /** Four pages of 2 MiB entries: an identity map of 4 GiB. */
  pd: 0x4000,
  /** u32 link addresses of sites, as the relocation step comes to them: no slide. */
  log: 0x8000,
  size: 0xd000,
} as const;

/** Gates in the IDT: the exceptions. Interrupts stay disabled. */
export const IDT_VECTORS = 32;
export const GDT_ENTRIES = 32;
