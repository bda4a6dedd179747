/**
 * Writes the kernel with its units where a layout places them.
 *
 * First all fields get their new values, at their old places: values that are right for the new places. Then the units are copied to their new places, with
 * the fields in them; the rest of each run is filled with int3. The tables that are sorted by address are written after that, from the plan. None of them
 * lies in .text.
 */
import { physToTableEntry } from '../base/addresses.ts';
import { bytesOfWords, copyOf, viewOf } from '../base/bytes.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { orderOf, shiftsOf } from './layout/layout.ts';
import type { FieldColumns, Plan } from './plan/plan.ts';
import { writeExtable } from './tables/extable.ts';
import { writeKallsyms } from './tables/kallsyms.ts';
import { writeMcount } from './tables/mcount.ts';
import { writeOrc } from './tables/orc.ts';

const INT3 = 0xcc;

/** Changes `bytes`, the ELF file that the plan is of. `placed`: the new start of each unit. Returns the new relocation table. */
export function rewrite(bytes: Uint8Array, plan: Plan, placed: Uint32Array): RelocationTable {
  const view = viewOf(bytes);
  const shifts = shiftsOf(plan.starts, placed);
  writeRelative32(view, plan.relative32, shifts);
  writeRelative64(view, plan.relative64, shifts);
  // An absolute field of 64 bits changes only in its low half: every layout of the image lies within the same 2 GiB.
  writeAbsolute(view, plan.absolute32, shifts);
  writeAbsolute(view, plan.absolute64, shifts);
  placeUnits(bytes, plan, placed);

  writeExtable(view, plan.extable, shifts);
  if (plan.mcount !== undefined) writeMcount(view, plan.mcount, shifts);
  if (plan.kallsyms !== undefined) writeKallsyms(bytes, view, plan.kallsyms, shifts);
  if (plan.orc !== undefined) writeOrc(bytes, view, plan.orc, shifts, orderOf(placed));
  return shiftSites(plan, shifts);
}

function writeRelative32(view: DataView, { offsets, sites, targets }: FieldColumns, shifts: Int32Array): void {
  for (let field = 0; field < offsets.length; field++) {
    const at = offsets[field]!;
    view.setInt32(at, view.getInt32(at, true) + shifts[targets[field]!]! - shifts[sites[field]!]!, true);
  }
}

function writeRelative64(view: DataView, { offsets, sites, targets }: FieldColumns, shifts: Int32Array): void {
  for (let field = 0; field < offsets.length; field++) {
    const at = offsets[field]!;
    const change = BigInt(shifts[targets[field]!]! - shifts[sites[field]!]!);
    view.setBigInt64(at, view.getBigInt64(at, true) + change, true);
  }
}

function writeAbsolute(view: DataView, { offsets, targets }: FieldColumns, shifts: Int32Array): void {
  for (let field = 0; field < offsets.length; field++) {
    const at = offsets[field]!;
    view.setUint32(at, view.getUint32(at, true) + shifts[targets[field]!]!, true);
  }
}

function placeUnits(bytes: Uint8Array, { text, runs, starts, ends }: Plan, placed: Uint32Array): void {
  const code = bytes.subarray(text.offset, text.offset + (text.end - text.start));
  const before = copyOf(code);
  for (const { start, end } of runs) code.fill(INT3, start - text.start, end - text.start);
  for (const { first, count } of runs) {
    for (let unit = first; unit < first + count; unit++) {
      const from = starts[unit]! - text.start;
      code.set(before.subarray(from, ends[unit]! - text.start), placed[unit]! - text.start);
    }
  }
}

function shiftSites({ table, tableOwners }: Plan, shifts: Int32Array): RelocationTable {
  const shifted = (name: keyof typeof tableOwners): Uint32Array => {
    const owners = tableOwners[name];
    return table[name].map((entry, index) => entry + shifts[owners[index]!]!).toSorted();
  };
  return { lists: table.lists, abs64: shifted('abs64'), inverse32: shifted('inverse32'), abs32: shifted('abs32') };
}

/**
 * Section .kslide.moves of a shuffled kernel says where everything went. It is in the file only: no loader loads it.
 *
 * `kslide verify --shuffled` takes it as a claim and proves the rest against it. With it, an address from a panic can be found in the debug vmlinux of the
 * build. Rows of three u32, little-endian, by rising first column: the old link address (its low half, as in a relocation table), the size, the new link
 * address. What is in no row is where it was.
 */
export const MOVES_SECTION = '.kslide.moves';

export function encodeMovesSection({ runs, starts, ends }: Plan, placed: Uint32Array): Uint8Array {
  const words = new Uint32Array(runs.reduce((sum, { count }) => sum + count, 0) * 3);
  let at = 0;
  for (const { first, count } of runs) {
    for (let unit = first; unit < first + count; unit++) {
      const start = starts[unit]!;
      words[at++] = physToTableEntry(start);
      words[at++] = ends[unit]! - start;
      words[at++] = physToTableEntry(placed[unit]!);
    }
  }
  return bytesOfWords(words);
}
