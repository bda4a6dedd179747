/**
 * The tables that the build sorts by address after the link: __ex_table, ORC and __mcount_loc. Symbols say where they lie, so the symbols are held against
 * sections, and what lies there must be such a table: whole entries, by rising address, that lead to code.
 */
import { physToVirt } from '../../base/addresses.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import { inAnyRange } from '../ranges.ts';
import type { Range } from '../ranges.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ImageBytes } from '../read/kernel-image.ts';
import type { Contradictions } from './contradictions.ts';

interface SortedTable {
  readonly start: string;
  readonly stop: string;
  /** Bytes of an entry. */
  readonly size: number;
  /** The section that holds the table and nothing else, if the linker script makes one. */
  readonly section?: string;
}

const EXTABLE: SortedTable = {
  start: '__start___ex_table',
  stop: '__stop___ex_table',
  size: 12,
  section: '__ex_table',
};
const ORC_IPS: SortedTable = {
  start: '__start_orc_unwind_ip',
  stop: '__stop_orc_unwind_ip',
  size: 4,
  section: '.orc_unwind_ip',
};
const ORC_ENTRIES: SortedTable = {
  start: '__start_orc_unwind',
  stop: '__stop_orc_unwind',
  size: 6,
  section: '.orc_unwind',
};
const MCOUNT: SortedTable = { start: '__start_mcount_loc', stop: '__stop_mcount_loc', size: 8 };

/** Throws KernelImageError for symbols that lie elsewhere, and for a table that is not one. */
export function confirmSortedTables(debug: DebugKernel, image: ImageBytes, contradictions: Contradictions): void {
  const isCode = inAnyRange(debug.loadedSections().filter(({ executable }) => executable));
  const { view } = image;

  const extable = extentOf(debug, EXTABLE);
  if (extable !== undefined) {
    const offset = image.at(extable.start, extable.end - extable.start, '__ex_table');
    for (let place = extable.start, at = offset; place < extable.end; place += 12, at += 12) {
      const insn = place + view.getInt32(at, true);
      const fixup = place + 4 + view.getInt32(at + 4, true);
      if (!isCode(insn) || !isCode(fixup)) contradictions.add(place, () => 'an entry that leads to no code');
    }
    contradictions.refuse('symbols of __ex_table', 'a table of code that may fault');
  }

  const ips = extentOf(debug, ORC_IPS);
  const entries = extentOf(debug, ORC_ENTRIES);
  if (ips !== undefined) {
    const count = (ips.end - ips.start) / ORC_IPS.size;
    // Only the start is used: older kernels have no symbol at the end.
    if (entries !== undefined && (entries.end - entries.start) / ORC_ENTRIES.size !== count)
      throw misplaced(ORC_ENTRIES, entries.start, `${count} entries, as .orc_unwind_ip has`);
    const offset = image.at(ips.start, count * ORC_IPS.size, '.orc_unwind_ip');
    let last = 0;
    for (let index = 0; index < count; index++) {
      const place = ips.start + index * ORC_IPS.size;
      const ip = place + view.getInt32(offset + index * ORC_IPS.size, true);
      if (ip < last || !isCode(ip))
        contradictions.add(place, () => 'an entry that is not in order, or leads to no code');
      last = ip;
    }
    contradictions.refuse('symbols of .orc_unwind_ip', 'addresses of code that rise');
  }

  const mcount = extentOf(debug, MCOUNT);
  if (mcount === undefined) return;
  const offset = image.at(mcount.start, mcount.end - mcount.start, '__mcount_loc');
  for (let place = mcount.start, at = offset; place < mcount.end; place += 8, at += 8) {
    const low = view.getUint32(at, true);
    const high = view.getUint32(at + 4, true);
    const isEmpty = low === 0 && high === 0;
    if (!isEmpty && (high !== 0xffff_ffff || !isCode(placeOfLow(low))))
      contradictions.add(place, () => 'an entry that leads to no code');
  }
  contradictions.refuse('symbols of __mcount_loc', 'addresses of code');
}

/** Where a table lies by its symbols; undefined for a kernel without it. */
function extentOf(debug: DebugKernel, table: SortedTable): Range | undefined {
  const start = debug.find(table.start);
  const end = debug.find(table.stop);
  const section = debug.loadedSections().find(({ name }) => name === table.section);
  if (start === undefined && end === undefined && section === undefined) return undefined;
  if (start === undefined || end === undefined || end < start || (end - start) % table.size !== 0)
    throw misplaced(table, start ?? end ?? section!.start, `a pair around whole entries of ${table.size} bytes`);
  if (section !== undefined && (section.start !== start || section.end !== end))
    throw misplaced(table, start, `the start and end of section ${section.name}`);
  return { start, end };
}

function misplaced({ start, stop }: SortedTable, place: number, expected: string): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: `debug vmlinux: symbols ${start} and ${stop}`,
    found: `missing or elsewhere, near ${hex(physToVirt(place))}`,
    expected,
  });
}
