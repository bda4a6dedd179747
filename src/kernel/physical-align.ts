/**
 * CONFIG_PHYSICAL_ALIGN: at which multiples boot loaders should put a kernel, and its own decompressor puts it, physically and virtually.
 *
 * kslide only reports it. Neither the kernel nor the stub needs it: kaslr/slots.ts says what they need, and why.
 */
import { KERNEL_IMAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import { Reader } from '../base/bytes.ts';
import type { SetupHeader } from '../bzimage/header.ts';
import { XEN_ELFNOTE_PHYS32_RELOC } from '../elf/constants.ts';
import { readNotes } from '../elf/read.ts';
import type { ElfFile } from '../elf/read.ts';

export interface PhysicalAlign {
  readonly bytes: number;
  /** `setup-header`: kernel_alignment. `note`: the first word of XEN_ELFNOTE_PHYS32_RELOC, which kernels with a PVH entry have since 6.12. */
  readonly source: 'setup-header' | 'note';
}

/** Null if neither says it. A note that holds no alignment that a kernel can have says nothing. */
export function readPhysicalAlign(header: SetupHeader | undefined, elf: ElfFile): PhysicalAlign | null {
  if (header !== undefined) return { bytes: header.kernelAlignment, source: 'setup-header' };
  for (const { owner, type, desc } of readNotes(elf)) {
    if (owner !== 'Xen' || type !== XEN_ELFNOTE_PHYS32_RELOC || desc.length < 4) continue;
    const bytes = new Reader(desc).u32(0, 'XEN_ELFNOTE_PHYS32_RELOC');
    if (bytes >= PMD_SIZE && bytes <= KERNEL_IMAGE_SIZE && (bytes & (bytes - 1)) === 0)
      return { bytes, source: 'note' };
  }
  return null;
}
