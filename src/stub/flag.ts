/**
 * Sets KASLR_FLAG, which tells the kernel that its image was randomized. The decompressor would set it, but does not run.
 *
 * A kernel that sees the flag randomizes its direct map, vmalloc and vmemmap areas and its module base, and prints its offset in a panic.
 *
 * When the host has moved the image (`randomize`), `nokaslr` on the command line is obeyed as far as it can be: the flag is then not set, so
 * everything that the guest itself would choose stays where it is documented to be. The image has moved already. The panic then says "Kernel
 * Offset: disabled" (measured on 6.1 and 6.12), while kallsyms, vmcoreinfo and /proc/kcore tell the truth.
 */
import type { Assembler } from '../asm/assembler.ts';
import { byte } from '../asm/operands.ts';
import { r12 } from '../asm/registers.ts';
import { BOOT_PARAMS, KASLR_FLAG } from '../base/boot-params.ts';

export function emitFlag(a: Assembler): void {
  a.note('tell the kernel that its image was randomized');
  a.or(byte(r12, BOOT_PARAMS.loadflags), KASLR_FLAG);
}
