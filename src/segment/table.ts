/** The relocation table as the program reads it, in the format that was asked for. */
import { encodeCompactTable } from '../relocs/tables/compact.ts';
import { encodeRelocationTable } from '../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { TABLE_FORMAT } from './layout.ts';
import type { StubTable } from './build.ts';

/** The formats that `convert` writes, best first. */
export const STUB_TABLES = ['compact', 'kernel'] as const;
export type StubTableName = (typeof STUB_TABLES)[number];

export function encodeStubTable(table: RelocationTable, name: StubTableName): StubTable {
  return {
    format: TABLE_FORMAT[name],
    bytes: name === 'compact' ? encodeCompactTable(table) : encodeRelocationTable(table, 3),
  };
}
