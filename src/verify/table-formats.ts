/** verify's readers of relocation tables, by their numbers in the parameters: a new format comes in here. The kernel's own format is read here too. */
import type { FileOffset } from '../base/addresses.ts';
import { viewOf, wordsOfBytes } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import type { ListName } from '../relocs/tables/kernel-table.ts';
import { TABLE_FORMAT } from '../segment/layout.ts';
import { walkCompactTable } from './compact-table.ts';
import { badTable } from './table-reader.ts';
import type { DecodedTable, TableReader } from './table-reader.ts';

export const TABLE_READERS: ReadonlyMap<number, TableReader> = new Map<number, TableReader>([
  [TABLE_FORMAT.kernel, (bytes, origin) => readKernelTable(bytes, origin)],
  [TABLE_FORMAT.compact, walkCompactTable],
  [TABLE_FORMAT.kernel_two_lists, (bytes, origin) => readKernelTable(bytes, origin, 2)],
]);

/** Which formats are right: one, where a decompressor of `lists` lists reads the table as well; else any but the one that is only for that. */
export function formatsFor(lists: 2 | 3 | undefined): number[] {
  const { kernel, kernel_two_lists } = TABLE_FORMAT;
  if (lists !== undefined) return [lists === 2 ? kernel_two_lists : kernel];
  return [...TABLE_READERS.keys()].filter((format) => format !== kernel_two_lists);
}

/** Backwards from the end, through 32-bit, inverse and 64-bit list, each up to its zero: what stub/relocate-kernel.ts does. */
function readKernelTable(bytes: Uint8Array, origin: FileOffset, lists: 2 | 3 = 3): DecodedTable {
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
