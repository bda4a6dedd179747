/** Taking a kernel apart: the vmlinux as it was linked, and the relocation table that the build put behind it. */
import { readInput } from './input.ts';
import type { InputOptions } from './input.ts';
import { readRelocationTable } from './relocs/table.ts';
import { readVmlinux } from './vmlinux.ts';

export interface Extracted {
  /** The ELF file alone; a view of the input where nothing was compressed. */
  readonly vmlinux: Uint8Array;
  /** The table in the kernel's format, checked. Throws `no-relocations` where there is none. */
  relocs(): Uint8Array;
}

/** Throws KernelImageError when the input holds no x86-64 kernel. */
export async function extract(image: Uint8Array, options: InputOptions): Promise<Extracted> {
  const input = await readInput(image, options);
  const { elf, trailer } = readVmlinux(input.vmlinux);
  return {
    vmlinux: elf.bytes,
    relocs: () => {
      readRelocationTable(trailer, elf.bytes.length);
      return trailer;
    },
  };
}
