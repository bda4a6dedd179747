/**
 * The table in the file, decoded as the program in the guest reads it, and compared with the original's, which the core's own reader has
 * read forwards. The formats by their numbers in the parameters: a new one comes in here.
 */
import { tableEntryToVirt } from '../base/addresses.ts';
import type { FileOffset } from '../base/addresses.ts';
import { viewOf, wordsOfBytes } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import { LISTS } from '../relocs/tables/kernel-table.ts';
import type { ListName } from '../relocs/tables/kernel-table.ts';
import { PARAMETERS, PARAMS, TABLE_FORMAT } from '../segment/layout.ts';
import { badTable } from './bad-table.ts';
import { walkCompactTable, writtenOrder } from './compact-table.ts';
import { refute, Refutation } from './evidence.ts';
import type { Evidence } from './evidence.ts';
import type { Original } from './original.ts';
import type { ExpectedSegment } from './segment.ts';

/** What is in a table. Lists are ascending, as in the original. */
export interface DecodedTable extends Sites {
  /** Where in the file an entry is, or would be. */
  offsetOf(list: ListName, index: number): FileOffset;
}

/** Called for each entry as it is decoded, with the offset in the file of what it was decoded from. */
export type EntryWatch = (list: ListName, entry: number, offset: FileOffset) => void;

/**
 * `bytes`: the whole table; `origin`: its offset in the file, for errors. Throws KernelImageError for bytes that the format does not allow, and for
 * any that are not the only way to write the same table: each byte then is either right or found. `watch` is for formats in which one wrong byte
 * makes all that follows wrong.
 */
export type TableReader = (bytes: Uint8Array, origin: FileOffset, watch?: EntryWatch) => DecodedTable;

export const TABLE_READERS: ReadonlyMap<number, TableReader> = new Map<number, TableReader>([
  [TABLE_FORMAT.kernel, (bytes, origin) => walkKernelTable(bytes, origin)],
  [TABLE_FORMAT.compact, walkCompactTable],
  [TABLE_FORMAT.kernel_two_lists, (bytes, origin) => walkKernelTable(bytes, origin, 2)],
]);

/** Which formats are right: one, where a decompressor of `lists` lists reads the table as well; else any but the one that is only for that. */
export function formatsFor(lists: 2 | 3 | undefined): number[] {
  const { kernel, kernel_two_lists } = TABLE_FORMAT;
  if (lists !== undefined) return [lists === 2 ? kernel_two_lists : kernel];
  return [...TABLE_READERS.keys()].filter((format) => format !== kernel_two_lists);
}

/** Backwards from the end, through 32-bit, inverse and 64-bit list, each up to its zero: what stub/relocate-kernel.ts does. */
export function walkKernelTable(bytes: Uint8Array, origin: FileOffset, lists: 2 | 3 = 3): DecodedTable {
  const view = viewOf(bytes);
  let at = bytes.length;
  const starts = { abs64: 0, inverse32: 0, abs32: 0 };
  const walkList = (name: ListName, title: string): Uint32Array => {
    const end = at;
    let after = 2 ** 32;
    for (;;) {
      at -= 4;
      if (at < 0) throw badTable('start', origin, { found: 'no zero', expected: `the one before the ${title} list` });
      const entry = view.getUint32(at, true);
      if (entry === 0) break;
      if (entry >= after) {
        const expected = `less than ${hex(after)}, the entry after it`;
        throw badTable(`entry of the ${title} list`, origin + at, { found: entry, expected });
      }
      after = entry;
    }
    starts[name] = at + 4;
    return wordsOfBytes(bytes.subarray(at + 4, end));
  };
  const abs32 = walkList('abs32', '32-bit');
  const inverse32 = lists === 3 ? walkList('inverse32', 'inverse 32-bit') : new Uint32Array();
  const abs64 = walkList('abs64', '64-bit');
  if (at > 0) {
    const found = `${hex(at)} bytes that the program never reads`;
    throw badTable('start', origin, { found, expected: 'the zero before the 64-bit list' });
  }
  return { abs64, inverse32, abs32, offsetOf: (name, index) => origin + starts[name] + index * 4 };
}

/** The same sites in the same lists as the original's. */
export function checkTable(file: Evidence, original: Original, segment: ExpectedSegment, read: TableReader): void {
  const start = segment.offset + segment.table;
  const end = segment.offset + segment.filesz;
  const bytes = file.bytes.subarray(start, end);
  const decoded = attempt(() => read(bytes, start, watchFor(original.table)));
  if (decoded instanceof Error) {
    // Where the bytes are a table in another format, the parameters are wrong and not all of these.
    const offset = segment.offset + PARAMS.table_format;
    const allowed = formatsFor(original.form.atEnd ? original.table.lists : undefined);
    for (const [format, other] of TABLE_READERS) {
      if (other === read || !allowed.includes(format)) continue;
      if (attempt(() => other(bytes, start)) instanceof Error) continue;
      const found = file.read('parameters', segment.offset, PARAMETERS, 'table_format');
      refute('parameters: table_format', offset, { found, expected: format });
    }
    throw decoded;
  }
  for (const { name } of LISTS) {
    const index = firstDifferent(decoded[name], original.table[name]);
    if (index < 0) continue;
    refuteEntry(name, index, decoded.offsetOf(name, index), {
      found: describeEntry(decoded[name], index),
      expected: describeEntry(original.table[name], index),
    });
  }
  file.accept(start, end);
}

/** What is found wrong with a table; any other error is a bug of ours. */
function attempt(work: () => DecodedTable): DecodedTable | KernelImageError | Refutation {
  try {
    return work();
  } catch (error) {
    if (error instanceof KernelImageError || error instanceof Refutation) return error;
    throw error;
  }
}

/** Refutes the first entry that is not the original's: what is decoded after it may be no table at all. */
function watchFor(table: Sites): EntryWatch {
  const order = writtenOrder(table);
  const done: Record<ListName, number> = { abs64: 0, inverse32: 0, abs32: 0 };
  return (name, entry, offset) => {
    const index = order[name][done[name]++] ?? table[name].length;
    if (entry === table[name][index]) return;
    refuteEntry(name, index, offset, {
      found: hex(tableEntryToVirt(entry)),
      expected: describeEntry(table[name], index),
    });
  };
}

function refuteEntry(
  name: ListName,
  index: number,
  offset: FileOffset,
  values: { readonly found: string; readonly expected: string },
): never {
  const { title } = LISTS.find((list) => list.name === name)!;
  return refute(`relocation table: entry ${index} of the ${title} list`, offset, values);
}

/** Index of the first entry that is not the same, or is in one list only; -1 for equal lists. */
function firstDifferent(a: Uint32Array, b: Uint32Array): number {
  const length = Math.max(a.length, b.length);
  for (let index = 0; index < length; index++) if (a[index] !== b[index]) return index;
  return -1;
}

function describeEntry(list: Uint32Array, index: number): string {
  const entry = list[index];
  return entry === undefined ? `the end of the list after ${list.length} entries` : hex(tableEntryToVirt(entry));
}
