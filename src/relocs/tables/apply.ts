/**
 * A relocation table applied to an image in memory, as handle_relocations() of the kernel's decompressor does it: 64-bit and 32-bit sites
 * take the slide, inverse 32-bit sites lose it. Alone in its file, because it is the hot loop: a quarter of a million sites a kernel.
 *
 * Sites are checked first, in one pass that finds the lowest and the highest; then the loops check nothing. `prepareTable` keeps what that pass
 * found, so that a launcher which starts thousands of guests pays for it once, and then for two comparisons.
 *
 * The loops are in 32-bit integers, signed as JavaScript has them: offsets count from the lowest site, so that they stay below 1 GiB
 * wherever the image lies in how large a memory. Measured on a Debian 6.12 kernel (Node 20): 3.2 ns a site; in doubles 4.2, with BigInt
 * three times that, with an Int32Array for the sites that are aligned 3.0, which is not worth a second set of loops.
 */
import { tableEntryToPhys } from '../../base/addresses.ts';
import type { PhysAddr, Slide } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { hex } from '../../base/errors.ts';
import { LISTS } from './kernel-table.ts';
import type { RelocationTable } from './kernel-table.ts';

/** The sites of a table, whatever format it is in. */
export type Sites = Pick<RelocationTable, 'abs64' | 'inverse32' | 'abs32'>;

export interface Move {
  /** What is added to link addresses. */
  readonly slide: Slide;
  /** Physical link address of the memory's first byte. */
  readonly base: PhysAddr;
}

/** A table with its bounds: `prepareTable` makes it. Sites as table entries. */
export interface PreparedTable extends Sites {
  /** The lowest site, and the one that reaches highest, with where it ends; all 0 in a table without sites. */
  readonly first: number;
  readonly last: number;
  readonly end: number;
}

/** Low half of __START_KERNEL_map: a table entry minus this is a physical link address. */
const START_KERNEL_MAP_LOW = 0x8000_0000;
const WORD = 0x1_0000_0000;
const SIGN = 0x8000_0000 | 0;

/** Throws RangeError when a site lies outside the kernel's map. The table need not be sorted; its lists are kept, not copied. */
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

/** The same for lists that are known to ascend and to name sites in the kernel's map (checkSites): no pass over them. */
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

/** In the order of u32, on i32 with the sign turned round: numbers above 2^31 cost V8 an object each until it has compiled the loop. */
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
 * Moves the kernel in guest memory: `memory` holds guest-physical memory from `base` on, with the kernel's segments loaded at their link
 * addresses, not moved yet. A kernel that was loaded at a physical slide wants `base` less that slide, so that link addresses lead
 * to where it is. `memory` may be any view: of an mmap'ed file, of a SharedArrayBuffer.
 *
 * Throws RangeError, and changes nothing, when a site lies outside `memory` or the slide is not a whole number from 0 up to 2^32. Does not
 * know which slides boot: see kaslr/slots.ts and kaslr/choose.ts.
 */
export function applySlide(memory: Uint8Array, table: Sites | PreparedTable, slide: Slide, base: PhysAddr = 0): void {
  if (!isSlide(slide)) throw new RangeError(`a slide of ${slide}`);
  add(memory, 'end' in table ? table : prepareTable(table), slide, base);
}

/** The same to an image that was moved by `from` already: only the difference is added. */
export function changeSlide(
  memory: Uint8Array,
  table: Sites | PreparedTable,
  { from, to }: { readonly from: Slide; readonly to: Slide },
  base: PhysAddr = 0,
): void {
  for (const slide of [from, to]) if (!isSlide(slide)) throw new RangeError(`a slide of ${slide}`);
  add(memory, 'end' in table ? table : prepareTable(table), to - from, base);
}

/** `applySlide` with its numbers named. `memory` is the image or any part of it that holds all sites of `table`. */
export function applyTable(memory: Uint8Array, table: Sites, { slide, base }: Move): void {
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
  // As i32: table entries, the lowest of them, and the difference in two halves.
  const origin = first | 0;
  const low = difference | 0;
  add64(view, entriesOf(abs64), origin, low, difference < 0 ? -1 : 0);
  add32(view, entriesOf(inverse32), origin, -low | 0);
  add32(view, entriesOf(abs32), origin, low);
}

/** The same memory as i32, which needs no conversion to double above 2^31, where all entries are. */
function entriesOf(list: Uint32Array): Int32Array {
  return new Int32Array(list.buffer, list.byteOffset, list.length);
}

/** Two words with carry: no BigInt a site. The high word mostly stays: carry and a negative difference's sign cancel. */
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
