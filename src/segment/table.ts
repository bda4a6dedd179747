/** Encodes and decodes the relocation table of a segment, in each format that a segment can carry. */
import type { FileOffset } from '../base/addresses.ts';
import { KernelImageError } from '../base/errors.ts';
import { encodeCompactTable, readCompactTable } from '../relocs/tables/compact.ts';
import { encodeRelocationTable, readRelocationTable } from '../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import { TABLE_FORMAT } from './layout.ts';

/** The formats that `convert` writes, best first. */
export const STUB_TABLES = ['compact', 'kernel'] as const;
export type StubTableName = (typeof STUB_TABLES)[number];

/** A relocation table in the form that the program's apply step reads. */
export interface StubTable {
  readonly name: StubTableName;
  /** TABLE_FORMAT. */
  readonly format: number;
  readonly bytes: Uint8Array;
}

export function encodeStubTable(table: RelocationTable, name: StubTableName): StubTable {
  return {
    name,
    format: TABLE_FORMAT[name],
    bytes: name === 'compact' ? encodeCompactTable(table) : encodeRelocationTable(table, 3),
  };
}

export interface TableDecoder {
  /** The name that `inspect` shows. */
  readonly name: keyof typeof TABLE_FORMAT;
  /**
   * `origin`: where the table starts in its file, for errors. `sitesAtMost`: how many the kernel's bytes have room for. Throws KernelImageError for bytes that are
   * not a table in this format.
   */
  readonly read: (bytes: Uint8Array, origin: FileOffset, sitesAtMost: number) => Sites;
}

/** By their numbers in the parameters. `verify` has readers of its own, written from the specification: docs/formats.md. */
export const TABLE_DECODERS: ReadonlyMap<number, TableDecoder> = new Map<number, TableDecoder>([
  [TABLE_FORMAT.kernel, { name: 'kernel', read: kernelTableOf(3) }],
  [TABLE_FORMAT.compact, { name: 'compact', read: readCompactTable }],
  [TABLE_FORMAT.kernel_two_lists, { name: 'kernel_two_lists', read: kernelTableOf(2) }],
]);

/** The program expects the number of lists that the format says, so the table must have as many. */
function kernelTableOf(lists: 2 | 3): TableDecoder['read'] {
  return (bytes, origin) => {
    const table = readRelocationTable(bytes, origin);
    if (table.lists === lists) return table;
    throw new KernelImageError({
      code: 'bad-value',
      what: 'lists in the relocation table',
      offset: origin,
      found: table.lists,
      expected: lists,
    });
  };
}
