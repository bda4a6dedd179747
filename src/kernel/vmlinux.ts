/**
 * What kslide needs to know of an x86-64 vmlinux: which memory it fills, where it is entered, and where its file ends.
 *
 * The image is the kernel in memory: from the lowest p_paddr to the highest p_paddr + p_memsz of its PT_LOAD segments, that is
 * from _text to _end. All of it is linked at physical address + __START_KERNEL_map, except the per-cpu segment of kernels before 6.15,
 * which is linked at 0 but loaded with the rest. Relocations name places by link address; this file resolves them by physical address.
 */
import { KERNEL_IMAGE_SIZE, physToVirt, START_KERNEL_MAP } from '../base/addresses.ts';
import type { FileOffset, PhysAddr, VirtAddr } from '../base/addresses.ts';
import { Reader } from '../base/bytes.ts';
import { EM_X86_64, ET_DYN, ET_EXEC, PT_LOAD, XEN_ELFNOTE_PHYS32_ENTRY } from '../elf/constants.ts';
import { EHDR } from '../elf/fields.ts';
import { endOfElf, findLoaderNotes, readElf, segmentBytes } from '../elf/read.ts';
import type { ElfFile, Segment } from '../elf/read.ts';
import { hex, KernelImageError } from '../base/errors.ts';

export interface Vmlinux {
  /** The ELF file alone, without what follows it. */
  readonly elf: ElfFile;
  /** What follows the ELF file: in a bzImage's payload, the relocation table. */
  readonly trailer: Uint8Array;
  /** PT_LOAD segments that fill memory, by rising p_paddr; none overlap. */
  readonly loads: readonly Segment[];
  /** Lowest and one past the highest physical link address: _text and _end. */
  readonly imageStart: PhysAddr;
  readonly imageEnd: PhysAddr;
  /** startup_64, and where it lies in the file. */
  readonly entry: PhysAddr;
  readonly entryOffset: FileOffset;
  /** pvh_start_xen's physical link address, from Xen note 18. */
  readonly pvhEntry: PhysAddr | undefined;
}

/** `bytes`: an ELF file, with or without a relocation table after it. Throws KernelImageError if it is not an x86-64 kernel. */
export function readVmlinux(bytes: Uint8Array): Vmlinux {
  return readVmlinuxFrom(readElf(bytes));
}

/** The same for a file whose headers were read already. */
export function readVmlinuxFrom(elf: ElfFile): Vmlinux {
  const { bytes, header } = elf;
  if (header.machine !== EM_X86_64 || header.bits !== 64) {
    throw new KernelImageError({
      code: 'wrong-architecture',
      what: `ELF${header.bits} e_machine`,
      offset: EHDR[header.bits].e_machine[0],
      found: header.machine,
      expected: `ELF64 ${EM_X86_64} (EM_X86_64)`,
    });
  }
  if (header.type !== ET_EXEC && header.type !== ET_DYN) {
    throw new KernelImageError({
      code: 'not-a-kernel',
      what: 'e_type',
      offset: EHDR[header.bits].e_type[0],
      found: header.type,
      expected: '2 (ET_EXEC) or 3 (ET_DYN)',
    });
  }
  const end = endOfElf(elf);
  if (end > bytes.length) {
    throw new KernelImageError({
      code: 'truncated',
      what: 'ELF file, by its headers',
      offset: bytes.length,
      expected: `an end at 0x${end.toString(16)}`,
    });
  }
  const loads = readLoads(elf);
  const imageStart = loads[0]!.paddr;
  const last = loads.at(-1)!;
  const { entry, entryOffset } = locateEntry(elf, loads);
  return {
    elf: { ...elf, bytes: bytes.subarray(0, end) },
    trailer: bytes.subarray(end),
    loads,
    imageStart,
    imageEnd: last.paddr + last.memsz,
    entry,
    entryOffset,
    pvhEntry: findPvhNotes(elf, loads)[0]?.entry,
  };
}

/**
 * Returns the segments that fill memory. Checks that they are inside the file, inside KERNEL_IMAGE_SIZE, linked where the image is, and do not
 * overlap.
 */
function readLoads(elf: ElfFile): Segment[] {
  const loads = elf.segments
    // Without memory it is nothing to QEMU. But Firecracker and the decompressor go by p_filesz alone and would load it.
    .filter(({ type, memsz, filesz }) => type === PT_LOAD && (memsz > 0 || filesz > 0))
    .toSorted((a, b) => a.paddr - b.paddr);
  // Distinguishes a kernel from any other program for x86-64.
  if (!loads.some(({ vaddr }) => vaddr >= START_KERNEL_MAP)) {
    throw new KernelImageError({
      code: 'not-a-kernel',
      what: 'program headers',
      found: elf.header.type === ET_DYN ? 'those of a shared object or another program' : 'those of another program',
      expected: `a PT_LOAD at ${hex(START_KERNEL_MAP)} (__START_KERNEL_map) or above`,
    });
  }
  let end = 0;
  for (const load of loads) {
    const what = `program header ${load.index}`;
    segmentBytes(elf, load);
    if (load.filesz > load.memsz) {
      throw new KernelImageError({
        code: 'bad-value',
        what: `${what}: p_filesz`,
        found: load.filesz,
        expected: `at most p_memsz 0x${load.memsz.toString(16)}`,
      });
    }
    if (load.paddr + load.memsz > KERNEL_IMAGE_SIZE) {
      throw new KernelImageError({
        code: 'bad-value',
        what: `${what}: p_paddr + p_memsz`,
        found: load.paddr + load.memsz,
        expected: `at most 0x${KERNEL_IMAGE_SIZE.toString(16)} (KERNEL_IMAGE_SIZE)`,
      });
    }
    if (load.vaddr >= START_KERNEL_MAP && load.vaddr !== physToVirt(load.paddr)) {
      throw new KernelImageError({
        code: 'bad-value',
        what: `${what}: p_vaddr`,
        found: load.vaddr,
        expected: physToVirt(load.paddr),
      });
    }
    if (load.paddr < end) {
      throw new KernelImageError({
        code: 'bad-value',
        what: `${what}: p_paddr`,
        found: load.paddr,
        expected: `0x${end.toString(16)} or above: segments overlap`,
      });
    }
    end = load.paddr + load.memsz;
  }
  checkVirtual(loads);
  expectBytesForAll(elf, loads);
  return loads;
}

/** A small file could load the same bytes to any number of places. What works on the loaded bytes must be linear in the file. */
function expectBytesForAll({ bytes }: ElfFile, loads: readonly Segment[]): void {
  const total = loads.reduce((sum, { filesz }) => sum + filesz, 0);
  if (total <= bytes.length) return;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'p_filesz of all PT_LOADs',
    found: total,
    expected: `at most 0x${bytes.length.toString(16)}, the size of the file`,
  });
}

/** Segments in the kernel's map that do not overlap physically do not overlap virtually. Those linked below the map (per-cpu data) may. */
function checkVirtual(loads: readonly Segment[]): void {
  let end: VirtAddr = 0n;
  for (const load of loads.toSorted((a, b) => (a.vaddr < b.vaddr ? -1 : 1))) {
    if (load.vaddr < end) {
      throw new KernelImageError({
        code: 'bad-value',
        what: `program header ${load.index}: p_vaddr`,
        found: load.vaddr,
        expected: `${hex(end)} or above: segments overlap`,
      });
    }
    end = load.vaddr + BigInt(load.memsz);
  }
}

/** `e_entry` is startup_64's physical link address. It may lie anywhere in the image: in 7.3 it is in .init.text. */
function locateEntry(elf: ElfFile, loads: readonly Segment[]): { entry: PhysAddr; entryOffset: FileOffset } {
  const entry = Number(elf.header.entry);
  const entryOffset = fileOffsetOf(loads, entry);
  if (entryOffset !== undefined) return { entry, entryOffset };
  throw new KernelImageError({
    code: 'bad-value',
    what: 'e_entry',
    offset: EHDR[64].e_entry[0],
    found: elf.header.entry,
    expected: 'a physical address inside a PT_LOAD segment',
  });
}

/** A note XEN_ELFNOTE_PHYS32_ENTRY whose address is loaded from the file: loaders enter the kernel there. */
export interface PvhNote {
  readonly entry: PhysAddr;
  /** The descriptor in the file. A 64-bit kernel's has 8 bytes; loaders also accept 4. */
  readonly offset: FileOffset;
  readonly size: 4 | 8;
  /** The PT_NOTE that it was found by. */
  readonly segment: Segment;
}

/**
 * All of them, wherever a loader may find one (elf/read.ts, `findLoaderNotes`). They name the same entry: throws KernelImageError if two differ, because
 * it would depend on the loader which entry is taken. Those that name no loaded byte are no entries: one way to read a note may find a
 * descriptor where another finds padding.
 */
export function findPvhNotes(elf: ElfFile, loads: readonly Segment[]): PvhNote[] {
  const what = 'XEN_ELFNOTE_PHYS32_ENTRY';
  const reader = new Reader(elf.bytes);
  const notes: PvhNote[] = [];
  for (const { segment, descOffset: offset, descSize } of findLoaderNotes(elf, XEN_ELFNOTE_PHYS32_ENTRY)) {
    const size = descSize >= 8 && offset + 8 <= elf.bytes.length ? 8 : 4;
    if (offset + size > elf.bytes.length) continue;
    const entry = reader.u32(offset, what);
    if (fileOffsetOf(loads, entry) === undefined) continue;
    notes.push({ entry, offset, size, segment });
  }
  const [first] = notes;
  const other = notes.find(({ entry }) => entry !== first!.entry);
  if (first === undefined || other === undefined) return notes;
  throw new KernelImageError({
    code: 'bad-value',
    what,
    offset: other.offset,
    found: other.entry,
    expected: `${hex(first.entry)}, as in the note whose descriptor is at ${hex(first.offset)}: loaders differ in which one they take`,
  });
}

/** Where the byte at a physical link address lies in the file, or undefined if no file byte is loaded there. */
export function fileOffsetOf(loads: readonly Segment[], address: PhysAddr): FileOffset | undefined {
  const load = loads.find(({ paddr, filesz }) => address >= paddr && address < paddr + filesz);
  return load === undefined ? undefined : load.offset + (address - load.paddr);
}

/** The kernel without the segment that kslide added. Throws KernelImageError if no segment is left. */
export function withoutSegment(kernel: Vmlinux, { index }: Segment): Vmlinux {
  const loads = kernel.loads.filter((load) => load.index !== index);
  const last = loads.at(-1);
  if (last === undefined) {
    throw new KernelImageError({
      code: 'not-a-kernel',
      what: 'program headers',
      found: 'only the segment that kslide added',
      expected: 'a kernel beside it',
    });
  }
  return { ...kernel, loads, imageStart: loads[0]!.paddr, imageEnd: last.paddr + last.memsz };
}
