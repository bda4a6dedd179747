/** What each reader of a relocation table gives, and how it reports that the bytes are wrong. One reader per format: kernel.ts, compact.ts. */
import type { FileOffset } from '../../base/addresses.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { Sites } from '../../relocs/tables/apply.ts';
import type { ListName } from '../../relocs/tables/kernel-table.ts';

/** The entries of a table. Each list ascends, as in the original's table. */
export interface DecodedTable extends Sites {
  /** File offset of an entry; for an index past the list's end, where the next entry would be. */
  offsetOf(list: ListName, index: number): FileOffset;
}

/** Called for each entry as it is decoded, with the file offset that it was decoded from. It may throw, to stop the decoding. */
export type EntryWatch = (list: ListName, entry: number, offset: FileOffset) => void;

export interface TableReaderOptions {
  readonly watch?: EntryWatch | undefined;
  readonly sitesAtMost?: number | undefined;
}

/**
 * `bytes`: the whole table. `origin`: its offset in the file, for errors. `sitesAtMost`: how many sites a list may have. A few bytes of a compact table can claim
 * millions, so without this number memory is not bounded by what the kernel has.
 *
 * Throws KernelImageError for bytes that the format does not allow, and for bytes that encode the table in another way than the one that the format
 * prescribes. So every byte of a table is either right or reported. Formats in which one wrong byte makes everything after it wrong call `watch`.
 */
export type TableReader = (bytes: Uint8Array, origin: FileOffset, options?: TableReaderOptions) => DecodedTable;

/** The error that table readers throw. `verify` turns it into a finding. */
export function badTable(
  what: string,
  offset: FileOffset,
  { found, expected }: { readonly found: number | string; readonly expected: string },
): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what: `relocation table: ${what}`, offset, found, expected });
}
