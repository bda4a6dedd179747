/**
 * The segment loader: the protected-mode code of a bzImage without compression. It runs instead of a decompressor (boot.rst, "32-bit boot
 * protocol", "64-bit boot protocol"), puts the kernel's segments in place and jumps to startup_64. This file has its layout and builds it for
 * one kernel; its instructions are in segment-loader-program.ts.
 *
 *     0x000   32-bit entry: an identity map of 4 GiB, long mode
 *     0x200   64-bit entry: the segments to where they run, then startup_64
 *     0x400   data: what the two need to know of this kernel (SEGMENT_LOADER)
 *     0x1000  page tables and stack of the 32-bit entry
 *     ...     the ELF file, at an offset that brings its first segment to a multiple of 2 MiB
 *
 * If the boot loader respected kernel_alignment and pref_address, the first segment lies where it can run, and only segments whose place in
 * the file differs from that in memory are copied: per-cpu data, init, the added segment. Below pref_address everything is copied up to it,
 * as boot.rst says of relocatable kernels; at an address that is not aligned, up to the next one that is. Aligned is what min_alignment says, 2 MiB, for
 * every x86-64 kernel. kernel_alignment is what boot loaders should keep to; a kernel with 16 MiB runs at the others too (docs/results/slots.json), and
 * its file would have up to 14 MiB of zeros more.
 */
import { CODE64_DESCRIPTOR, DATA_DESCRIPTOR } from '../asm/machine-state.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { Writer } from '../base/bytes.ts';
import { SEGMENT_LOADER_PROGRAM } from './assembled.ts';

/** Of the 64-bit entry, as boot.rst fixes it; the 32-bit one is at 0. */
export const ENTRY_64 = 0x200;

/** Offsets in the protected-mode code. */
export const SEGMENT_LOADER = {
  /** Descriptors, and the 6-byte pointer to them, whose base the 32-bit entry fills in. */
  gdt: 0x400,
  gdt_pointer: 0x420,
  /** u64: where the first segment lies, from the start of the protected-mode code. */
  first: 0x430,
  /** u64: physical link addresses of the first segment and of startup_64. */
  link: 0x438,
  entry: 0x440,
  /** u64: the alignment of the first segment, less 1. */
  align_mask: 0x448,
  /** u64: the farthest that any segment lies above its place in memory, both counted from the first segment. */
  lead: 0x450,
  /** u32: the number of copies. */
  count: 0x458,
  /** u32: 1 if no segment lies lower in the file than in memory, so that the kernel can run where the first segment lies; else 0. */
  in_place: 0x45c,
  copies: 0x460,
  pml4: 0x1000,
  pdpt: 0x2000,
  pd: 0x3000,
  stack_top: 0x8000,
  /** The ELF file comes after it. */
  size: 0x8000,
} as const;

/** A segment to put in place; fields are u64. */
export const COPY = { from: 0, to: 8, filesz: 16, memsz: 24, size: 32 } as const;
export const MAX_SEGMENT_COPIES = Math.floor((SEGMENT_LOADER.pml4 - SEGMENT_LOADER.copies) / COPY.size);

/** __BOOT_CS and __BOOT_DS, as boot.rst wants them: the first with long mode on. */
export const BOOT_CS = 0x10;
export const BOOT_DS = 0x18;

/** A segment's offset from the first segment's first byte, in the file and in memory, and its sizes. */
export interface SegmentCopy {
  readonly file: number;
  readonly memory: number;
  readonly filesz: number;
  readonly memsz: number;
}

export interface SegmentLoaderPlan {
  /** Of the first segment, from the start of the protected-mode code. */
  readonly first: number;
  /** Its physical link address. */
  readonly link: PhysAddr;
  /** That of startup_64. */
  readonly entry: PhysAddr;
  readonly align: number;
  /** By rising addresses, in the file as in memory; at most MAX_SEGMENT_COPIES. */
  readonly copies: readonly SegmentCopy[];
}

/** SEGMENT_LOADER.size bytes. */
export function buildSegmentLoader({ first, link, entry, align, copies }: SegmentLoaderPlan): Uint8Array {
  if (copies.length > MAX_SEGMENT_COPIES)
    throw new RangeError(`${copies.length} segments to copy, at most ${MAX_SEGMENT_COPIES}`);
  const image = new Writer(new Uint8Array(SEGMENT_LOADER.size));
  image.copy(0, SEGMENT_LOADER_PROGRAM);
  image.u64(SEGMENT_LOADER.gdt + BOOT_CS, CODE64_DESCRIPTOR);
  image.u64(SEGMENT_LOADER.gdt + BOOT_DS, DATA_DESCRIPTOR);
  image.u16(SEGMENT_LOADER.gdt_pointer, BOOT_DS + 7);
  image.u64(SEGMENT_LOADER.first, first);
  image.u64(SEGMENT_LOADER.link, link);
  image.u64(SEGMENT_LOADER.entry, entry);
  image.u64(SEGMENT_LOADER.align_mask, align - 1);
  image.u64(SEGMENT_LOADER.lead, leadOf(copies));
  image.u32(SEGMENT_LOADER.count, copies.length);
  image.u32(SEGMENT_LOADER.in_place, copies.every(({ file, memory }) => file >= memory) ? 1 : 0);
  for (const [index, { file, memory, filesz, memsz }] of copies.entries()) {
    const at = SEGMENT_LOADER.copies + index * COPY.size;
    image.u64(at + COPY.from, file);
    image.u64(at + COPY.to, memory);
    image.u64(at + COPY.filesz, filesz);
    image.u64(at + COPY.memsz, memsz);
  }
  return image.bytes;
}

/** SEGMENT_LOADER.lead. */
export function leadOf(copies: readonly SegmentCopy[]): number {
  return Math.max(0, ...copies.map(({ file, memory }) => file - memory));
}
