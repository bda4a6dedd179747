/**
 * The check `table`: the table in the file names the same sites, in the same lists, as the original's.
 *
 * The file's table is decoded by the readers in table/, in the order in which the program in the guest reads it. The original's was read forwards, by
 * the core's own reader.
 */
import { tableEntryToVirt } from '../base/addresses.ts';
import type { FileOffset } from '../base/addresses.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import { LISTS } from '../relocs/tables/kernel-table.ts';
import type { ListName } from '../relocs/tables/kernel-table.ts';
import { PARAMETERS, PARAMS } from '../segment/layout.ts';
import { refute, Refutation } from './evidence.ts';
import type { Evidence } from './evidence.ts';
import type { Original } from './original.ts';
import type { ExpectedSegment } from './segment.ts';
import { writtenOrder } from './table/compact.ts';
import { formatsFor, TABLE_READERS } from './table/formats.ts';
import type { DecodedTable, EntryWatch } from './table/reader.ts';

/** `format`: the one that the parameters name. */
export function checkTable(file: Evidence, original: Original, segment: ExpectedSegment, format: number): void {
  const read = TABLE_READERS.get(format)!;
  const start = segment.offset + segment.table;
  const end = segment.offset + segment.filesz;
  const bytes = file.bytes.subarray(start, end);
  // What has more sites than the original is refuted by the first of them, before memory is spent on the others: by `watch`, which says more, or by the number.
  const sitesAtMost = Math.max(...LISTS.map(({ name }) => original.table[name].length));
  const decoded = attempt(() => read(bytes, start, { watch: watchFor(original.table), sitesAtMost: Infinity }));
  if (decoded instanceof Error) {
    // If the bytes are a table in another format, it is the format in the parameters that is wrong.
    const offset = segment.offset + PARAMS.table_format;
    const allowed = formatsFor(original.form.atEnd ? original.table.lists : undefined);
    for (const [number, other] of TABLE_READERS) {
      if (other === read || !allowed.includes(number)) continue;
      if (attempt(() => other(bytes, start, { sitesAtMost })) instanceof Error) continue;
      const found = file.read('parameters', segment.offset, PARAMETERS, 'table_format');
      refute('parameters: table_format', offset, { found, expected: number });
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

/** Returns the errors that say what is wrong with a table. Any other error is a bug in kslide and is thrown on. */
function attempt(work: () => DecodedTable): DecodedTable | KernelImageError | Refutation {
  try {
    return work();
  } catch (error) {
    if (error instanceof KernelImageError || error instanceof Refutation) return error;
    throw error;
  }
}

/**
 * Refutes the first entry, in written order, that is not the original's. Without this, the decoder would go on with bytes that need not be a table,
 * and the error would be reported at a later byte.
 */
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

/** Index of the first entry that differs, or that only one of the lists has; -1 if the lists are equal. */
function firstDifferent(a: Uint32Array, b: Uint32Array): number {
  const length = Math.max(a.length, b.length);
  for (let index = 0; index < length; index++) if (a[index] !== b[index]) return index;
  return -1;
}

function describeEntry(list: Uint32Array, index: number): string {
  const entry = list[index];
  return entry === undefined ? `the end of the list after ${list.length} entries` : hex(tableEntryToVirt(entry));
}
