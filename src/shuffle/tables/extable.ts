/**
 * __ex_table: instructions that may fault, and where execution continues then (arch/x86/include/asm/extable.h). The build sorts it by instruction and the
 * kernel searches it by bisection, so it is sorted again for each layout.
 *
 *     s32 insn    relative to this field
 *     s32 fixup   relative to this field
 *     u32 data    EX_TYPE_… in the low byte, since Linux 5.16
 */
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { OwnerOf } from '../analyse/units.ts';
import { orderOf } from '../layout/layout.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import type { ImageBytes } from '../read/kernel-image.ts';

const ENTRY = 12;
/** EX_TYPE_… goes up to about 20. Before 5.16 this word was a relative pointer; in some entry of a table its low byte is larger than this. */
const LARGEST_TYPE = 31;

export interface ExtableData {
  readonly offset: FileOffset;
  readonly place: PhysAddr;
  readonly insns: Uint32Array;
  readonly insnOwners: Uint32Array;
  readonly fixups: Uint32Array;
  readonly fixupOwners: Uint32Array;
  readonly data: Uint32Array;
}

export function readExtable(debug: DebugKernel, image: ImageBytes, ownerOf: OwnerOf): ExtableData {
  const place = debug.need('__start___ex_table');
  const end = debug.need('__stop___ex_table');
  const count = image.count(place, end, ENTRY, '__ex_table');
  const offset = image.at(place, end - place, '__ex_table');
  const { view } = image;
  const insns = new Uint32Array(count);
  const fixups = new Uint32Array(count);
  const data = new Uint32Array(count);
  for (let index = 0, at = offset; index < count; index++, at += ENTRY) {
    const here = place + index * ENTRY;
    insns[index] = here + view.getInt32(at, true);
    fixups[index] = here + 4 + view.getInt32(at + 4, true);
    data[index] = view.getUint32(at + 8, true);
    const bad =
      (index > 0 && insns[index]! < insns[index - 1]! && '__ex_table is not sorted') ||
      ((data[index]! & 0xff) > LARGEST_TYPE && '__ex_table has the form from before Linux 5.16');
    if (bad !== false) throw new KernelImageError({ code: 'unsupported', what: bad, offset: at });
  }
  return {
    offset,
    place,
    insns,
    insnOwners: insns.map(ownerOf),
    fixups,
    fixupOwners: fixups.map(ownerOf),
    data,
  };
}

/** All places that the table refers to. */
export function extablePlaces(debug: DebugKernel, image: ImageBytes): number[] {
  const { insns, fixups } = readExtable(debug, image, () => 0);
  return [...insns, ...fixups];
}

export function writeExtable(view: DataView, table: ExtableData, shifts: Int32Array): void {
  const { offset, place, insns, insnOwners, fixups, fixupOwners, data } = table;
  const placed = insns.map((insn, index) => insn + shifts[insnOwners[index]!]!);
  const order = orderOf(placed);
  for (let index = 0; index < order.length; index++) {
    const entry = order[index]!;
    const at = offset + index * ENTRY;
    const here = place + index * ENTRY;
    view.setInt32(at, placed[entry]! - here, true);
    view.setInt32(at + 4, fixups[entry]! + shifts[fixupOwners[entry]!]! - (here + 4), true);
    view.setUint32(at + 8, data[entry]!, true);
  }
}
