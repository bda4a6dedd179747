/**
 * The kernel with its units where a layout puts them.
 *
 * First all fields get their new values, where they are: what they hold then is right for the new places. Then the units move, with the fields in
 * them. What padding is left is int3. The tables that are sorted by address are written from the plan, after that: none of
 * them lies in .text.
 */
import { copyOf, viewOf } from '../base/bytes.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { movesOf, orderOf } from './owners.ts';
import type { FieldColumns, Plan } from './plan/plan.ts';
import { writeExtable } from './tables/extable.ts';
import { writeKallsyms } from './tables/kallsyms.ts';
import { writeMcount } from './tables/mcount.ts';
import { writeOrc } from './tables/orc.ts';

const INT3 = 0xcc;

/** In place. `bytes` is the ELF file that the plan is of, `placed` where each unit starts. Gives the new relocation table. */
export function rewrite(bytes: Uint8Array, plan: Plan, placed: Uint32Array): RelocationTable {
  const view = viewOf(bytes);
  const moves = movesOf(plan.starts, placed);
  writeRelative32(view, plan.relative32, moves);
  writeRelative64(view, plan.relative64, moves);
  // An absolute field of 64 bits changes in its low half alone: the image and all its layouts are within one 2 GiB.
  writeAbsolute(view, plan.absolute32, moves);
  writeAbsolute(view, plan.absolute64, moves);
  moveUnits(bytes, plan, placed);

  writeExtable(view, plan.extable, moves);
  if (plan.mcount !== undefined) writeMcount(view, plan.mcount, moves);
  if (plan.kallsyms !== undefined) writeKallsyms(bytes, view, plan.kallsyms, moves);
  if (plan.orc !== undefined) writeOrc(bytes, view, plan.orc, moves, orderOf(placed));
  return moveTable(plan, moves);
}

function writeRelative32(view: DataView, { offsets, sites, targets }: FieldColumns, moves: Int32Array): void {
  for (let field = 0; field < offsets.length; field++) {
    const at = offsets[field]!;
    view.setInt32(at, view.getInt32(at, true) + moves[targets[field]!]! - moves[sites[field]!]!, true);
  }
}

function writeRelative64(view: DataView, { offsets, sites, targets }: FieldColumns, moves: Int32Array): void {
  for (let field = 0; field < offsets.length; field++) {
    const at = offsets[field]!;
    const change = BigInt(moves[targets[field]!]! - moves[sites[field]!]!);
    view.setBigInt64(at, view.getBigInt64(at, true) + change, true);
  }
}

function writeAbsolute(view: DataView, { offsets, targets }: FieldColumns, moves: Int32Array): void {
  for (let field = 0; field < offsets.length; field++) {
    const at = offsets[field]!;
    view.setUint32(at, view.getUint32(at, true) + moves[targets[field]!]!, true);
  }
}

function moveUnits(bytes: Uint8Array, { text, runs, starts, ends }: Plan, placed: Uint32Array): void {
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

function moveTable({ table, tableOwners }: Plan, moves: Int32Array): RelocationTable {
  const move = (name: keyof typeof tableOwners): Uint32Array => {
    const owners = tableOwners[name];
    return table[name].map((entry, index) => entry + moves[owners[index]!]!).toSorted();
  };
  return { lists: table.lists, abs64: move('abs64'), inverse32: move('inverse32'), abs32: move('abs32') };
}
