/** Takes a kernel apart: the vmlinux as it was linked, and its relocation table. */
import type { InputOptions } from './kernel/input.ts';
import { recoverIfNeeded } from './recover/choose.ts';
import type { RecoverChoice } from './recover/choose.ts';
import { describeRecovery } from './recover/describe.ts';
import type { RecoveredFacts } from './recover/describe.ts';
import { readRelocations } from './relocs/find.ts';
import { encodeRelocationTable } from './relocs/tables/kernel-table.ts';
import { unshared } from './base/bytes.ts';
import { openKernel } from './kernel/open.ts';

export interface Extracted {
  /** The ELF file alone: a view of the input, unless it had to be decompressed. */
  readonly vmlinux: Uint8Array<ArrayBuffer>;
  /** Why the kernel's own decompressor would not read the payload as it was decoded here, if there is a reason. */
  readonly payloadNote: string | undefined;
  /** The table in the kernel's format, byte for byte as its build made it, or as it was recovered. Throws `no-relocations` if there is none. */
  relocs(): Uint8Array<ArrayBuffer>;
  /** What recovered relocations stand on. Undefined: the kernel has its own, or nothing was to be recovered. */
  readonly recovered: RecoveredFacts | undefined;
}

export interface ExtractOptions extends InputOptions {
  /** Recover the relocations of a kernel that carries none from its image (docs/recover.md). */
  readonly recover?: RecoverChoice | undefined;
}

/** Throws KernelImageError if the input holds no x86-64 kernel. */
export async function extract(image: Uint8Array, options: ExtractOptions): Promise<Extracted> {
  const opened = await openKernel(image, 'extract', options);
  const recovery = options.recover === undefined ? undefined : recoverIfNeeded(opened, options.recover);
  return {
    vmlinux: unshared(opened.kernel.elf.bytes),
    payloadNote: opened.input.payloadDiffers?.message,
    relocs: () => unshared(encodeRelocationTable(readRelocations(opened, { known: recovery?.table }))),
    recovered: recovery === undefined ? undefined : describeRecovery(recovery),
  };
}
