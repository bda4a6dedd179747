/**
 * __mcount_loc: the address of each call to __fentry__, absolute and 64 bits wide. Since Linux 5.17 sorttable sorts it at build time, and the
 * kernel does not sort it again. Its fields are in the relocation table; what changes is which of them holds what.
 */
import type { FileOffset } from '../../addresses.ts';
import { START_KERNEL_MAP } from '../../addresses.ts';
import type { DebugKernel } from '../debug-kernel.ts';
import type { ImageBytes } from '../kernel-image.ts';
import { placeOfLow } from '../kernel-image.ts';
import type { OwnerOf } from '../owners.ts';

const ENTRY = 8;

export interface McountData {
  readonly offset: FileOffset;
  readonly callsites: Uint32Array;
  readonly owners: Uint32Array;
}

/** Undefined for a kernel without one, or with one that is not sorted: then its fields are like all others. */
export function readMcount(debug: DebugKernel, image: ImageBytes, ownerOf: OwnerOf): McountData | undefined {
  const start = debug.find('__start_mcount_loc');
  const end = debug.find('__stop_mcount_loc');
  if (start === undefined || end === undefined || end - start < 2 * ENTRY) return undefined;
  const offset = image.at(start, end - start, '__mcount_loc');
  const callsites = new Uint32Array((end - start) / ENTRY);
  for (let index = 0; index < callsites.length; index++) {
    callsites[index] = placeOfLow(image.view.getUint32(offset + index * ENTRY, true));
    if (index > 0 && callsites[index]! < callsites[index - 1]!) return undefined;
  }
  return { offset, callsites, owners: callsites.map(ownerOf) };
}

export function writeMcount(view: DataView, { offset, callsites, owners }: McountData, moves: Int32Array): void {
  const moved = callsites.map((callsite, index) => callsite + moves[owners[index]!]!).toSorted();
  const low = Number(START_KERNEL_MAP & 0xffff_ffffn);
  for (let index = 0; index < moved.length; index++) view.setUint32(offset + index * ENTRY, low + moved[index]!, true);
}
