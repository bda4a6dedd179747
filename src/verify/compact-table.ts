/**
 * The compact table (docs/formats.md), decoded as the program in the guest reads it, and held to "The one way to write it". Written after the
 * specification: the encoder in relocs/tables/compact.ts has no part in it.
 */
import { physToTableEntry } from '../base/addresses.ts';
import type { FileOffset } from '../base/addresses.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import type { ListName } from '../relocs/tables/kernel-table.ts';
import { ABS32, INVERSE32, orderOfChains, readChains } from './compact-chains.ts';
import { orderOfItems, readItems } from './compact-items.ts';
import { Walk } from './compact-reader.ts';
import type { Found } from './compact-reader.ts';
import type { DecodedTable, EntryWatch } from './table-reader.ts';

/** For each list of a table, the order in which its entries are written: their indices. */
export function writtenOrder({ abs32, inverse32, abs64 }: Sites): Readonly<Record<ListName, Uint32Array>> {
  return {
    abs32: orderOfChains(abs32, ABS32),
    inverse32: orderOfChains(inverse32, INVERSE32),
    abs64: orderOfItems(abs64),
  };
}

export function walkCompactTable(bytes: Uint8Array, origin: FileOffset, watch?: EntryWatch): DecodedTable {
  const walk = new Walk(bytes, origin, watch);
  const abs32 = readChains(walk, ABS32);
  const inverse32 = readChains(walk, INVERSE32);
  const abs64 = readItems(walk);
  walk.expectEnd();
  const lists = { abs32, inverse32, abs64 };
  const entries = ({ sites, length }: Found): Uint32Array => sites.slice(0, length).map(physToTableEntry);
  return {
    abs32: entries(abs32),
    inverse32: entries(inverse32),
    abs64: entries(abs64),
    offsetOf: (name, index) => origin + (index < lists[name].length ? lists[name].offsets[index]! : bytes.length - 1),
  };
}
