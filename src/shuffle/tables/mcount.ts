/**
 * __mcount_loc: the address of each call to __fentry__, absolute and 64 bits wide. Since Linux 5.17 sorttable sorts it at build time, and the
 * kernel does not sort it again. Its fields are sites of the relocation table and stay sites; only their values change places.
 *
 * Newer kernels (6.15, and stable 6.12) have 0 for call sites that are in no function any more: those of weak functions that another replaced. The zeros come
 * first, and stay. The kernel skips anything that is not an address of its code, also after it has added the slide.
 */
import { START_KERNEL_MAP } from '../../base/addresses.ts';
import type { FileOffset } from '../../base/addresses.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { OwnerOf } from '../analyse/units.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ImageBytes } from '../read/kernel-image.ts';

const ENTRY = 8;
/** The upper half of any address in the image. */
const HIGH = 0xffff_ffff;

export interface McountData {
  /** Of the first entry that is not 0. */
  readonly offset: FileOffset;
  readonly callsites: Uint32Array;
  readonly owners: Uint32Array;
}

/** Undefined for a kernel without one. A table that the kernel itself sorts when it boots need not be sorted, but the rewrite sorts it too. */
export function readMcount(debug: DebugKernel, image: ImageBytes, ownerOf: OwnerOf): McountData | undefined {
  const start = debug.find('__start_mcount_loc');
  const end = debug.find('__stop_mcount_loc');
  if (start === undefined || end === undefined || end - start < ENTRY) return undefined;
  const { view } = image;
  const table = image.at(start, end - start, '__mcount_loc');
  const count = Math.floor((end - start) / ENTRY);
  let zeros = 0;
  while (zeros < count && view.getBigUint64(table + zeros * ENTRY, true) === 0n) zeros++;
  const offset = table + zeros * ENTRY;
  const callsites = new Uint32Array(count - zeros);
  for (let index = 0, at = offset; index < callsites.length; index++, at += ENTRY) {
    const place = placeOfLow(view.getUint32(at, true));
    if (place < 0 || view.getUint32(at + 4, true) !== HIGH)
      throw new KernelImageError({
        code: 'unsupported',
        what: '__mcount_loc',
        offset: at,
        found: view.getBigUint64(at, true),
        expected: 'an address in the image',
      });
    callsites[index] = place;
  }
  return { offset, callsites, owners: callsites.map(ownerOf) };
}

export function writeMcount(view: DataView, { offset, callsites, owners }: McountData, shifts: Int32Array): void {
  const placed = callsites.map((callsite, index) => callsite + shifts[owners[index]!]!).toSorted();
  const low = Number(START_KERNEL_MAP & 0xffff_ffffn);
  for (let index = 0; index < placed.length; index++)
    view.setUint32(offset + index * ENTRY, low + placed[index]!, true);
}
