/**
 * An /init for kernels that do not say where they run, and whose files do not tell either.
 *
 * A kernel without CONFIG_RANDOMIZE_BASE that relocates itself moves at each boot, and yet its panic says "Kernel Offset: disabled". The kernel does know
 * where it is: /proc/kallsyms. So this program prints one line and ends, and the kernel panics as it would have without an initramfs:
 *
 *     kslide-guest: text=<address of _text, from /proc/kallsyms>
 *
 * A kernel needs CONFIG_BLK_DEV_INITRD, CONFIG_BINFMT_ELF, CONFIG_PROC_FS and CONFIG_KALLSYMS for it. Without one of them there is no such line, and the slide
 * stays unknown. It adds 0.1 s to a boot under TCG.
 */
import { KernelImageError } from '../../base/errors.ts';
import { isElf, readElf } from '../../elf/read.ts';
import type { ElfFile } from '../../elf/read.ts';
import { readInput } from '../../kernel/input.ts';
import { slideWithKaslrOff } from '../../kernel/slide-of-file.ts';
import type { Slide } from '../../base/addresses.ts';
import { nodeCodecs } from '../codecs.ts';
import {
  drainConsole,
  exitInit,
  Guest,
  mount,
  openConsole,
  packProgram,
  reportText,
  silencePrintk,
} from './guest-program.ts';

/** The initramfs for a boot of `image`, a vmlinux or bzImage. Undefined where the file tells the slide of a kernel that says "disabled". */
export async function kallsymsInitramfs(image: Uint8Array): Promise<Uint8Array | undefined> {
  return (await slideByFile(image)) === undefined ? packKallsymsGuest() : undefined;
}

export function packKallsymsGuest(): Uint8Array {
  const guest = new Guest();
  openConsole(guest);
  mount(guest, 'proc', '/proc');
  silencePrintk(guest);
  reportText(guest);
  drainConsole(guest);
  exitInit(guest);
  return packProgram(guest.finish());
}

/** The slide with which the kernel in this file runs when its KASLR is off. Undefined if the file does not tell, or is none that kslide can describe: it may boot all the same. */
export async function slideByFile(bytes: Uint8Array, elf?: ElfFile): Promise<Slide | undefined> {
  try {
    if (elf !== undefined || isElf(bytes)) return slideWithKaslrOff(elf ?? readElf(bytes));
    const { vmlinux } = await readInput(bytes, { codecs: nodeCodecs });
    return slideWithKaslrOff(readElf(vmlinux));
  } catch (error) {
    if (error instanceof KernelImageError) return undefined;
    throw error;
  }
}
