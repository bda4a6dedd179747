/** The check with which both writers of a compact table's lists begin. */
import { int32Entries, INT32_ENTRY_TO_PHYS, KERNEL_IMAGE_SIZE, tableEntryToPhys } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';

/** The addresses of a list's sites, each `width` bytes wide. Throws RangeError unless they ascend, do not overlap, and are inside the kernel's map. */
export function compactSites(list: Uint32Array, width: number): Int32Array {
  const sites = new Int32Array(list.length);
  const entries = int32Entries(list);
  let free = 0;
  for (let index = 0; index < entries.length; index++) {
    const site = entries[index]! ^ INT32_ENTRY_TO_PHYS;
    if (site < free || site >= KERNEL_IMAGE_SIZE) refuseEntry(list[index]!);
    sites[index] = site;
    free = site + width;
  }
  return sites;
}

function refuseEntry(entry: number): never {
  if (tableEntryToPhys(entry) === undefined) throw new RangeError(`${hex(entry)} is no link address`);
  throw new RangeError(`sites that overlap or descend at ${hex(entry)}`);
}
