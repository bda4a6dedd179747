/** Relocation tables: reading them, checking them, and collecting them from a vmlinux that has its relocation sections. */
export { memorySource } from './byte-source.ts';
export type { ByteSource } from './byte-source.ts';
export { collectRelocations, hasRelocations } from './collect.ts';
export type { CollectOptions } from './collect.ts';
export { encodeCompactTable, readCompactTable } from './compact.ts';
export { checkSites, countRelocations, encodeRelocationTable, LISTS, readRelocationTable } from './table.ts';
export type { ListName, RelocationTable } from './table.ts';
