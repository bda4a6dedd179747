/** What verify's readers of relocation tables have in common, whatever the format: what they give, and what they throw. table.ts lists them. */
import type { FileOffset } from '../base/addresses.ts';
import { KernelImageError } from '../base/errors.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import type { ListName } from '../relocs/tables/kernel-table.ts';

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

/** What a table reader throws: `verify` makes a finding of it. */
export function badTable(
  what: string,
  offset: FileOffset,
  { found, expected }: { readonly found: number | string; readonly expected: string },
): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what: `relocation table: ${what}`, offset, found, expected });
}
