/**
 * The kernel's own table format, read in the direction in which the stub reads it (stub/relocate-kernel.ts): backwards from the end of the table,
 * through the 32-bit, the inverse and the 64-bit list, each up to the zero before its first entry.
 */
import type { FileOffset } from '../../base/addresses.ts';
import { viewOf, wordsOfBytes } from '../../base/bytes.ts';
import { hex } from '../../base/errors.ts';
import type { ListName } from '../../relocs/tables/kernel-table.ts';
import { badTable } from './reader.ts';
import type { DecodedTable } from './reader.ts';

/** `lists`: 2 for the form without an inverse list. */
export function decodeKernelTable(bytes: Uint8Array, origin: FileOffset, lists: 2 | 3 = 3): DecodedTable {
  const view = viewOf(bytes);
  let at = bytes.length;
  const starts = { abs64: 0, inverse32: 0, abs32: 0 };
  const readList = (name: ListName, title: string): Uint32Array => {
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
  const abs32 = readList('abs32', '32-bit');
  const inverse32 = lists === 3 ? readList('inverse32', 'inverse 32-bit') : new Uint32Array();
  const abs64 = readList('abs64', '64-bit');
  if (at > 0) {
    const found = `${hex(at)} bytes that the program never reads`;
    throw badTable('start', origin, { found, expected: 'the zero before the 64-bit list' });
  }
  return { abs64, inverse32, abs32, offsetOf: (name, index) => origin + starts[name] + index * 4 };
}
