/** Takes a kernel apart: the vmlinux as it was linked, and its relocation table. */
import type { InputOptions } from './kernel/input.ts';
import { readRelocations } from './relocs/find.ts';
import { encodeRelocationTable } from './relocs/tables/kernel-table.ts';
import { openKernel } from './kernel/open.ts';

export interface Extracted {
  /** The ELF file alone: a view of the input, unless it had to be decompressed. */
  readonly vmlinux: Uint8Array;
  /** Why the kernel's own decompressor would not read the payload as it was decoded here, if there is a reason. */
  readonly payloadNote: string | undefined;
  /** The table in the kernel's format, byte for byte as its build made it. Throws `no-relocations` if there is none. */
  relocs(): Uint8Array;
}

/** Throws KernelImageError if the input holds no x86-64 kernel. */
export async function extract(image: Uint8Array, options: InputOptions): Promise<Extracted> {
  const opened = await openKernel(image, 'extract', options);
  return {
    vmlinux: opened.kernel.elf.bytes,
    payloadNote: opened.input.payloadDiffers?.message,
    relocs: () => encodeRelocationTable(readRelocations(opened)),
  };
}
