/**
 * The compact table (docs/formats.md): decoded in the order in which the program in the guest reads it, and checked against "The one way to write
 * it". This reader was written from the specification. It shares no code with the encoder in relocs/tables/compact.ts.
 */
import { physToTableEntry } from '../../base/addresses.ts';
import type { FileOffset } from '../../base/addresses.ts';
import type { Sites } from '../../relocs/tables/apply.ts';
import type { ListName } from '../../relocs/tables/kernel-table.ts';
import { ABS32, INVERSE32, orderOfChains, readChains } from './compact-chains.ts';
import { TableInput } from './compact-input.ts';
import type { DecodedSites } from './compact-input.ts';
import { orderOfItems, readItems } from './compact-items.ts';
import type { DecodedTable, TableReaderOptions } from './reader.ts';

/** For each list of a table, the indices of its entries in the order in which the format writes them. */
export function writtenOrder({ abs32, inverse32, abs64 }: Sites): Readonly<Record<ListName, Uint32Array>> {
  return {
    abs32: orderOfChains(abs32, ABS32),
    inverse32: orderOfChains(inverse32, INVERSE32),
    abs64: orderOfItems(abs64),
  };
}

export function decodeCompactTable(bytes: Uint8Array, origin: FileOffset, options?: TableReaderOptions): DecodedTable {
  const input = new TableInput(bytes, origin, options);
  const abs32 = readChains(input, ABS32);
  const inverse32 = readChains(input, INVERSE32);
  const abs64 = readItems(input);
  input.expectEnd();
  const lists = { abs32, inverse32, abs64 };
  const entries = ({ sites, length }: DecodedSites): Uint32Array => sites.slice(0, length).map(physToTableEntry);
  return {
    abs32: entries(abs32),
    inverse32: entries(inverse32),
    abs64: entries(abs64),
    offsetOf: (name, index) => origin + (index < lists[name].length ? lists[name].offsets[index]! : bytes.length - 1),
  };
}
