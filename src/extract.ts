/** Taking a kernel apart: the vmlinux as it was linked, and the relocation table that the build put behind it. */
import type { InputOptions } from './kernel/input.ts';
import { findRelocations } from './relocs/find.ts';
import { encodeRelocationTable } from './relocs/tables/kernel-table.ts';
import { openKernel } from './kernel/open.ts';

export interface Extracted {
  /** The ELF file alone; a view of the input where nothing was compressed. */
  readonly vmlinux: Uint8Array;
  /** The table in the kernel's format, byte for byte as its build made it. Throws `no-relocations` where there is none. */
  relocs(): Uint8Array;
}

/** Throws KernelImageError when the input holds no x86-64 kernel. */
export async function extract(image: Uint8Array, options: InputOptions): Promise<Extracted> {
  const { input, kernel } = await openKernel(image, 'extract', options);
  return { vmlinux: kernel.elf.bytes, relocs: () => encodeRelocationTable(findRelocations(kernel, input)) };
}
