/**
 * A relocation table applied to an image in memory, as handle_relocations() of the kernel's decompressor does it: 64-bit and 32-bit sites
 * take the slide, inverse 32-bit sites lose it. Alone in its file, because it is the hot loop: a quarter of a million sites a kernel.
 */
import { tableEntryToPhys } from '../addresses.ts';
import type { PhysAddr, Slide } from '../addresses.ts';
import { viewOf } from '../bytes.ts';
import { hex } from '../errors.ts';
import { LISTS } from './table.ts';
import type { RelocationTable } from './table.ts';

/** The sites of a table, whatever format it is in. */
export type Sites = Pick<RelocationTable, 'abs64' | 'inverse32' | 'abs32'>;

export interface Move {
  /** What is added to link addresses. */
  readonly slide: Slide;
  /** Physical link address of the memory's first byte. */
  readonly base: PhysAddr;
}

/** Low half of __START_KERNEL_map: a table entry minus this is a physical link address. */
const START_KERNEL_MAP_LOW = 0x8000_0000;
const WORD = 0x1_0000_0000;

/**
 * Changes `memory`, the image or any part of it that holds all sites of `table`, in place. The table need not be sorted.
 * Throws RangeError, and changes nothing, when a site lies outside `memory` or the slide is not a whole number from 0 up to 2^32: tables
 * out of files go through `checkSites` first.
 */
export function applyTable(memory: Uint8Array, table: Sites, { slide, base }: Move): void {
  if (!Number.isInteger(slide) || slide < 0 || slide >= WORD) throw new RangeError(`a slide of ${slide}`);
  for (const { name, width } of LISTS) checkInside(table[name], width, memory.length, base);
  const view = viewOf(memory);
  const origin = base + START_KERNEL_MAP_LOW;
  add64(view, table.abs64, origin, slide);
  add32(view, table.inverse32, origin, -slide);
  add32(view, table.abs32, origin, slide);
}

function checkInside(list: Uint32Array, width: number, length: number, base: PhysAddr): void {
  for (const entry of list) {
    const site = tableEntryToPhys(entry);
    if (site === undefined || site < base || site + width > base + length)
      throw new RangeError(`relocation of ${hex(entry)}, outside the memory given`);
  }
}

/** Two u32 with carry: no BigInt a site. */
function add64(view: DataView, list: Uint32Array, origin: number, slide: number): void {
  for (let index = 0; index < list.length; index++) {
    const at = list[index]! - origin;
    const low = view.getUint32(at, true) + slide;
    view.setUint32(at, low, true); // modulo 2^32
    if (low >= WORD) view.setUint32(at + 4, view.getUint32(at + 4, true) + 1, true);
  }
}

function add32(view: DataView, list: Uint32Array, origin: number, slide: number): void {
  for (let index = 0; index < list.length; index++) {
    const at = list[index]! - origin;
    view.setUint32(at, view.getUint32(at, true) + slide, true);
  }
}
