/**
 * The pipeline for hosts: it moves the kernel before the guest boots, so that the guest has nothing to do.
 *
 * The headers say where the kernel is loaded (p_paddr, e_entry). Virtual addresses in the file stay link addresses, also those of symbols and
 * sections. So tools that know the kernel's build also know this file. Only kslide's parameters, if the file has them, hold the virtual slide.
 *
 * The kernel is read and checked once. Then the image in memory is moved for each file, by the difference to the slide before. The same
 * seed, kernel and options give the same bytes, on any machine.
 */
import { copyOf } from './base/bytes.ts';
import type { InputOptions } from './kernel/input.ts';
import { openKernel } from './kernel/open.ts';
import { readVmlinux } from './kernel/vmlinux.ts';
import { KernelRandomizer } from './randomize/randomizer.ts';
import type { Randomized, RandomizeOptions, Randomizer } from './randomize/randomizer.ts';
import { readRelocations } from './relocs/find.ts';
import { leaveOutNotes } from './relocs/note-sites.ts';

export { SITE_SIZE } from './randomize/randomizer.ts';
export type { MovePlan, Randomized, RandomizeOptions, Randomizer, RandomizeSummary } from './randomize/randomizer.ts';

export interface RandomizerOptions extends InputOptions {
  /** For slides that are farther apart than the kernel needs: a power of two from 2 MiB on. Undefined: 2 MiB (kaslr/slots.ts). */
  readonly align?: number | undefined;
  /** Move the kernel in the given bytes, which changes them. Otherwise a vmlinux is copied first. */
  readonly inPlace?: boolean | undefined;
  /** For an image of which only the headers are filled in: reads bytes of the file. What it returns is valid until the next call. */
  readonly read?: ((offset: number, length: number) => Uint8Array) | undefined;
}

/** Makes one moved kernel. Throws KernelImageError for a kernel that cannot be moved, or not by the requested slides. */
export async function randomize(image: Uint8Array, options: RandomizerOptions & RandomizeOptions): Promise<Randomized> {
  return (await openRandomizer(image, options)).randomize(options);
}

/** Throws KernelImageError for a kernel that cannot be moved at all; see errors.ts for the codes. */
export async function openRandomizer(image: Uint8Array, options: RandomizerOptions): Promise<Randomizer> {
  const { input, kernel: given } = await openKernel(image, 'rewrite', options);
  // From here every site is known to lie inside the image: applying the table cannot go wrong.
  const whole = readRelocations({ input, kernel: given }, { read: options.read });
  const table = leaveOutNotes(whole, given);

  const shared = input.vmlinux.buffer === image.buffer;
  const kernel = shared && options.inPlace !== true ? readVmlinux(copyOf(given.elf.bytes)) : given;
  return new KernelRandomizer(input, kernel, table, options.align);
}
