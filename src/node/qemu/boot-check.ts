/** Refuses what QEMU cannot boot before QEMU is started: with a file that is not a kernel, or does not fit into memory, QEMU hangs without a word. */
import { MIB } from '../../base/addresses.ts';
import { readSetupHeader, isBzImage } from '../../bzimage/header.ts';
import { PT_LOAD, XEN_ELFNOTE_PHYS32_ENTRY } from '../../elf/constants.ts';
import { findLoaderNotes, isElf, readElf } from '../../elf/read.ts';
import type { ElfFile } from '../../elf/read.ts';
import { KernelImageError } from '../../base/errors.ts';
import { describeForeign, foreignKernel } from '../../kernel/foreign.ts';
import type { ForeignFile } from '../../kernel/foreign.ts';

export interface Start {
  readonly entry: 'pvh' | 'linux64';
  readonly memoryMib: number;
  /** Bytes. */
  readonly physicalSlide: number;
}

/** The ELF file, or undefined for a bzImage, which QEMU boots its own way. Throws KernelImageError for an image that would not boot by `start`. */
export function expectBootable(bytes: Uint8Array, start: Start): ElfFile | undefined {
  if (!isElf(bytes)) {
    if (isBzImage(bytes) && start.entry === 'pvh') {
      readSetupHeader(bytes);
      return undefined;
    }
    const { found, hint }: Pick<ForeignFile, 'found' | 'hint'> = isBzImage(bytes)
      ? { found: 'a bzImage' }
      : (foreignKernel(bytes) ?? describeForeign(bytes));
    throw new KernelImageError({
      code: 'not-a-kernel',
      what: 'file',
      found,
      hint,
      expected: start.entry === 'pvh' ? 'a vmlinux or a bzImage' : 'a vmlinux, which is what linux64 enters',
    });
  }
  const elf = readElf(bytes);
  if (start.entry === 'pvh') expectPvhEntry(elf);
  expectMemory(elf, start);
  return elf;
}

function expectPvhEntry(elf: ElfFile): void {
  if (findLoaderNotes(elf, XEN_ELFNOTE_PHYS32_ENTRY).length > 0) return;
  throw new KernelImageError({
    code: 'would-not-boot',
    what: 'XEN_ELFNOTE_PHYS32_ENTRY note',
    expected: 'one in a kernel with a PVH entry (CONFIG_PVH)',
    hint: 'boot it by linux64',
  });
}

function expectMemory({ segments }: ElfFile, { memoryMib, physicalSlide }: Start): void {
  const ends = segments.filter(({ type }) => type === PT_LOAD).map(({ paddr, memsz }) => paddr + memsz);
  const end = Math.max(0, ...ends) + physicalSlide;
  if (end <= memoryMib * MIB) return;
  throw new KernelImageError({
    code: 'would-not-boot',
    what: "end of the kernel's segments in memory",
    found: end,
    expected: memoryMib * MIB,
    hint: `give the guest ${Math.ceil(end / MIB)} MiB or more`,
  });
}
