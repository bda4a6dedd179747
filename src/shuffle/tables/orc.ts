/**
 * ORC: how to unwind from each address (arch/x86/include/asm/orc_types.h). .orc_unwind_ip holds the addresses, each relative to its own field, sorted;
 * .orc_unwind holds 6 bytes for each. An entry is valid up to the next one. The kernel looks an address up by bisection, between bounds that it puts into
 * .orc_lookup when it boots.
 *
 * objtool writes an entry only where something changes, so a function may begin in the state in which the one before it ended. Placed elsewhere it needs
 * an entry of its own. After the last code of a section there is a terminator ("undefined"), which belongs to that code, not to what follows at the same
 * address. So each unit gets an entry at its start, and keeps its terminator after it.
 *
 * The table must not grow. For each entry that is added, a terminator is left out: the next unit's own entry ends what came before it. Space that is left
 * at the end repeats the last entry.
 */
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import { KernelImageError } from '../../base/errors.ts';
import { STAY } from '../analyse/pieces.ts';
import type { Units } from '../analyse/units.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import type { ImageBytes } from '../read/kernel-image.ts';

const IP = 4;
const ENTRY = 6;

export interface OrcData {
  readonly ipOffset: FileOffset;
  readonly ipPlace: PhysAddr;
  readonly entryOffset: FileOffset;
  readonly count: number;
  /** Entries of unit u: firsts[u] … firsts[u + 1] - 1. After the last unit's come those of other sections, which stay. */
  readonly firsts: Uint32Array;
  readonly ips: Uint32Array;
  /** ENTRY bytes each. */
  readonly entries: Uint8Array;
}

/** Undefined for a kernel with another unwinder. */
export function readOrc(debug: DebugKernel, image: ImageBytes, units: Units): OrcData | undefined {
  const ipPlace = debug.find('__start_orc_unwind_ip');
  if (ipPlace === undefined) return undefined;
  const ipEnd = debug.need('__stop_orc_unwind_ip');
  const count = image.count(ipPlace, ipEnd, IP, '.orc_unwind_ip');
  const ipOffset = image.at(ipPlace, ipEnd - ipPlace, '.orc_unwind_ip');
  const entryOffset = image.at(debug.need('__start_orc_unwind'), count * ENTRY, '.orc_unwind');
  const [lookup, lookupEnd] = [debug.find('orc_lookup'), debug.find('orc_lookup_end')];
  if (lookup !== undefined && lookupEnd !== undefined && !image.isZero(lookup, lookupEnd))
    throw new KernelImageError({ code: 'unsupported', what: '.orc_lookup', expected: 'zeros: the kernel fills it' });

  const old = new Uint32Array(count);
  for (let index = 0; index < count; index++) {
    old[index] = ipPlace + index * IP + image.view.getInt32(ipOffset + index * IP, true);
    if (index > 0 && old[index]! < old[index - 1]!) {
      throw new KernelImageError({
        code: 'unsupported',
        what: '.orc_unwind_ip',
        offset: ipOffset + index * IP,
        expected: 'entries by rising address',
      });
    }
  }
  const isTerminator = (index: number): boolean => (image.bytes[entryOffset + index * ENTRY + 4]! & 0xf) === 0;
  const picked = pick(units, debug.text.end, old, isTerminator);
  const spare = count - picked.indexes.length;
  const kept = spare < 0 ? dropTerminators(picked, -spare) : picked;
  const { firsts, indexes, ips } = kept;
  const entries = new Uint8Array(indexes.length * ENTRY);
  indexes.forEach((index, at) => {
    const from = entryOffset + index * ENTRY;
    entries.set(image.bytes.subarray(from, from + ENTRY), at * ENTRY);
  });
  return { ipOffset, ipPlace, entryOffset, count, firsts, ips: new Uint32Array(ips), entries };
}

interface Picked {
  readonly firsts: Uint32Array;
  /** By new entry: the old entry that it copies, and its address in the original. */
  readonly indexes: number[];
  readonly ips: number[];
  /** By new entry: 1 when it only ends a movable unit. */
  readonly terminators: number[];
}

function pick(
  { starts, ends, stay }: Units,
  textEnd: PhysAddr,
  old: Uint32Array,
  isTerminator: (index: number) => boolean,
): Picked {
  const picked = { indexes: [] as number[], ips: [] as number[], terminators: [] as number[] };
  const firsts = new Uint32Array(starts.length + 1);
  const add = (index: number, ip: number, terminator: boolean): void => {
    picked.indexes.push(index);
    picked.ips.push(ip);
    picked.terminators.push(terminator ? 1 : 0);
  };
  let index = 0;
  /** A terminator that is followed by another entry at the same address belongs to the code before it. */
  const isTail = (place: number): boolean => old[index] === place && isTerminator(index) && old[index + 1] === place;
  for (let unit = 0; unit < starts.length; unit++) {
    firsts[unit] = picked.indexes.length;
    const start = starts[unit]!;
    const end = ends[unit]!;
    const next = unit + 1 < starts.length ? starts[unit + 1]! : textEnd + 1; // the last one's terminator is at the end
    while (index < old.length && old[index]! < start) index++; // only before the first unit
    // Of several entries at one address, the last is valid.
    while (index + 1 < old.length && old[index + 1] === start) index++;
    if (old[index] === start) add(index++, start, false);
    else if (index > 0) add(index - 1, start, false);
    for (; index < old.length && old[index]! < Math.min(next, end); index++) add(index, old[index]!, false);
    if (stay[unit] !== STAY.none) {
      // What follows code that stays, padding or not, stays with all its entries.
      for (; index < old.length && old[index]! < next && !isTail(next); index++) add(index, old[index]!, false);
      if (isTail(next)) add(index++, next, false);
      continue;
    }
    // After the unit's code: its end, and padding, which nothing returns to. A terminator marks the end of a section.
    let tail = -1;
    for (; index < old.length && old[index]! < next; index++) if (tail < 0) tail = index;
    if (tail < 0 && isTail(next)) tail = index++;
    if (tail >= 0) add(tail, end, true);
  }
  firsts[starts.length] = picked.indexes.length;
  for (; index < old.length; index++) add(index, old[index]!, false);
  return { firsts, ...picked };
}

/** Leaves out the first `many` terminators; any others would do. */
function dropTerminators({ firsts, indexes, ips, terminators }: Picked, many: number): Picked {
  const kept: Picked = { firsts: firsts.slice(), indexes: [], ips: [], terminators: [] };
  let dropped = 0;
  let unit = 0;
  for (let entry = 0; entry < indexes.length; entry++) {
    while (unit < firsts.length && firsts[unit]! <= entry) kept.firsts[unit++] = kept.indexes.length;
    if (terminators[entry] === 1 && dropped < many) {
      dropped++;
      continue;
    }
    kept.indexes.push(indexes[entry]!);
    kept.ips.push(ips[entry]!);
    kept.terminators.push(terminators[entry]!);
  }
  kept.firsts.fill(kept.indexes.length, unit);
  if (dropped === many) return kept;
  throw new KernelImageError({
    code: 'unsupported',
    what: '.orc_unwind',
    found: `${many - dropped} entries too few`,
    expected: 'room for an entry at the start of each function',
  });
}

/** `order`: units by rising new place. */
export function writeOrc(
  bytes: Uint8Array,
  view: DataView,
  table: OrcData,
  shifts: Int32Array,
  order: Uint32Array,
): void {
  const { ipOffset, ipPlace, entryOffset, count, firsts, ips, entries } = table;
  const put = (index: number, entry: number, shift: number): void => {
    view.setInt32(ipOffset + index * IP, ips[entry]! + shift - (ipPlace + index * IP), true);
    const from = entry * ENTRY;
    const to = entryOffset + index * ENTRY;
    for (let byte = 0; byte < ENTRY; byte++) bytes[to + byte] = entries[from + byte]!;
  };
  let index = 0;
  for (const unit of order)
    for (let entry = firsts[unit]!, end = firsts[unit + 1]!; entry < end; entry++)
      put(index++, entry, shifts[unit + 1]!);
  for (let entry = firsts[firsts.length - 1]!; entry < ips.length; entry++) put(index++, entry, 0);
  for (; index < count; index++) put(index, ips.length - 1, 0);
}
