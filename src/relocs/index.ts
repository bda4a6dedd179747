/** Relocation tables: reading them, checking them, and collecting them from a vmlinux that has its relocation sections. */
export { memorySource } from './tool/byte-source.ts';
export type { ByteSource } from './tool/byte-source.ts';
export { collectRelocations, hasRelocations } from './tool/collect.ts';
export type { CollectOptions } from './tool/collect.ts';
export { encodeCompactTable, readCompactTable } from './tables/compact.ts';
export {
  checkSites,
  countRelocations,
  encodeRelocationTable,
  LISTS,
  readRelocationTable,
} from './tables/kernel-table.ts';
export type { ListName, RelocationTable } from './tables/kernel-table.ts';
