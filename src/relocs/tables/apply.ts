/**
 * Applies a relocation table to an image in memory, as handle_relocations() of the kernel's decompressor does: the slide is added at 64-bit and
 * 32-bit sites and subtracted at inverse 32-bit sites. These are hot loops: a kernel has a quarter of a million sites.
 *
 * One pass first finds the lowest and the highest site and checks them; after that the loops check nothing. `prepareTable` keeps the result of that
 * pass, so that a launcher of thousands of guests pays for it once. Each guest then takes two comparisons.
 *
 * The loops work on signed 32-bit integers, as JavaScript's bit operations do. Offsets count from the lowest site, so that they stay below 1 GiB
 * however large the memory is and wherever in it the image is. Measured on a Debian 6.12 kernel (Node 20): 3.2 ns a site; in doubles 4.2, with BigInt
 * three times that. An Int32Array for the aligned sites takes 3.0, which is not worth a second set of loops.
 */
import { tableEntryToPhys } from '../../base/addresses.ts';
import type { PhysAddr, Slide } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { hex } from '../../base/errors.ts';
import { LISTS } from './kernel-table.ts';
import type { RelocationTable } from './kernel-table.ts';

/** The sites of a table in any format. */
export type Sites = Pick<RelocationTable, 'abs64' | 'inverse32' | 'abs32'>;

/** A table with its bounds, made by `prepareTable`. All sites here are table entries: low halves of link addresses. */
export interface PreparedTable extends Sites {
  /** The lowest site; the site that ends highest, and its end. All three are 0 in a table without sites. */
  readonly first: number;
  readonly last: number;
  readonly end: number;
}

/** Low half of __START_KERNEL_map: a table entry minus this is a physical link address. */
const START_KERNEL_MAP_LOW = 0x8000_0000;
const WORD = 0x1_0000_0000;
const SIGN = 0x8000_0000 | 0;

/** The table need not be sorted. Its lists are kept, not copied. Throws RangeError if a site is outside the kernel's map. */
export function prepareTable({ abs64, inverse32, abs32 }: Sites): PreparedTable {
  const lists: Sites = { abs64, inverse32, abs32 };
  let first = WORD;
  let [last, end] = [0, 0];
  for (const { name, width } of LISTS) {
    const { low, high } = boundsOf(lists[name]);
    if (low < first) first = low;
    if (high + width > end && lists[name].length > 0) [last, end] = [high, high + width];
  }
  if (first === WORD) return { ...lists, first: 0, last: 0, end: 0 };
  for (const entry of [first, last]) if (tableEntryToPhys(entry) === undefined) throw outside(entry);
  return { ...lists, first, last, end };
}

/** The same without a pass over the lists, for a table that `checkSites` has accepted: they ascend, and all sites are in the kernel's map. */
export function prepareCheckedTable({ abs64, inverse32, abs32 }: Sites): PreparedTable {
  const lists: Sites = { abs64, inverse32, abs32 };
  let first = WORD;
  let [last, end] = [0, 0];
  for (const { name, width } of LISTS) {
    const list = lists[name];
    if (list.length === 0) continue;
    const high = list[list.length - 1]!;
    if (list[0]! < first) first = list[0]!;
    if (high + width > end) [last, end] = [high, high + width];
  }
  return first === WORD ? { ...lists, first: 0, last: 0, end: 0 } : { ...lists, first, last, end };
}

/** Lowest and highest entry, as u32. Compares them as i32 with the sign bit flipped: V8 allocates an object for each number above 2^31 until it has compiled the loop. */
function boundsOf(list: Uint32Array): { low: number; high: number } {
  if (list.length === 0) return { low: WORD, high: 0 };
  const signed = entriesOf(list);
  let low = signed[0]! ^ SIGN;
  let high = low;
  for (let index = 1; index < signed.length; index++) {
    const entry = signed[index]! ^ SIGN;
    if (entry < low) low = entry;
    else if (entry > high) high = entry;
  }
  return { low: (low ^ SIGN) >>> 0, high: (high ^ SIGN) >>> 0 };
}

/**
 * Moves the kernel in guest memory. `memory` holds guest-physical memory from `base` on, with the kernel's segments loaded at their link
 * addresses and not moved yet. If the kernel was loaded at a physical slide, pass `base` minus that slide, so that link addresses lead
 * to it. `memory` may be any view: of an mmap'ed file, of a SharedArrayBuffer.
 *
 * Throws RangeError, and changes nothing, if a site is outside `memory` or the slide is not a whole number that is at least 0 and less than 2^32. Does not
 * know which slides boot: see kaslr/slots.ts and randomize/choose.ts.
 */
export function applySlide(memory: Uint8Array, table: Sites | PreparedTable, slide: Slide, base: PhysAddr = 0): void {
  if (!isSlide(slide)) throw new RangeError(`a slide of ${slide}`);
  add(memory, 'end' in table ? table : prepareTable(table), slide, base);
}

/** Moves an image again that `applySlide` has moved by `from`: only the difference is added. */
export function changeSlide(
  memory: Uint8Array,
  table: Sites | PreparedTable,
  { from, to }: { readonly from: Slide; readonly to: Slide },
  base: PhysAddr = 0,
): void {
  for (const slide of [from, to]) if (!isSlide(slide)) throw new RangeError(`a slide of ${slide}`);
  add(memory, 'end' in table ? table : prepareTable(table), to - from, base);
}

/** `applySlide` with its numbers named. `memory` is the image, or any part of it that holds all sites of `table`; `base` is the link address of its first byte. */
export function applyTable(
  memory: Uint8Array,
  table: Sites,
  { slide, base }: { readonly slide: Slide; readonly base: PhysAddr },
): void {
  applySlide(memory, table, slide, base);
}

function isSlide(slide: number): boolean {
  return Number.isInteger(slide) && slide >= 0 && slide < WORD;
}

function outside(entry: number): RangeError {
  return new RangeError(`relocation of ${hex(entry)}, outside the memory given`);
}

function add(memory: Uint8Array, table: PreparedTable, difference: number, base: PhysAddr): void {
  const { abs64, inverse32, abs32, first, last, end } = table;
  if (end === 0) return;
  const start = first - START_KERNEL_MAP_LOW - base;
  if (!(start >= 0)) throw outside(first);
  if (!(end - START_KERNEL_MAP_LOW - base <= memory.length)) throw outside(last);
  const view = viewOf(memory.subarray(start, end - START_KERNEL_MAP_LOW - base));
  // All as i32: table entries, the lowest of them, and the difference in two halves.
  const origin = first | 0;
  const low = difference | 0;
  add64(view, entriesOf(abs64), origin, low, difference < 0 ? -1 : 0);
  add32(view, entriesOf(inverse32), origin, -low | 0);
  add32(view, entriesOf(abs32), origin, low);
}

/** The same memory as i32. All entries are above 2^31; as u32 each would be converted to a double. */
function entriesOf(list: Uint32Array): Int32Array {
  return new Int32Array(list.buffer, list.byteOffset, list.length);
}

/** Two words with carry, instead of a BigInt for each site. The high word rarely changes: carry and the sign of a negative difference cancel out. */
function add64(view: DataView, list: Int32Array, origin: number, low: number, high: number): void {
  for (let index = 0; index < list.length; index++) {
    const at = (list[index]! - origin) | 0;
    const sum = (view.getInt32(at, true) + low) | 0;
    view.setInt32(at, sum, true);
    const carry = sum >>> 0 < low >>> 0 ? 1 : 0;
    if (carry + high !== 0) view.setInt32(at + 4, (view.getInt32(at + 4, true) + carry + high) | 0, true);
  }
}

function add32(view: DataView, list: Int32Array, origin: number, low: number): void {
  for (let index = 0; index < list.length; index++) {
    const at = (list[index]! - origin) | 0;
    view.setInt32(at, (view.getInt32(at, true) + low) | 0, true);
  }
}
