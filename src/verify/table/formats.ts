/** The readers by the number that a format has in the parameters (TABLE_FORMAT). To support a new format, add its reader here. */
import { TABLE_FORMAT } from '../../segment/layout.ts';
import { decodeCompactTable } from './compact.ts';
import { decodeKernelTable } from './kernel.ts';
import type { TableReader } from './reader.ts';

export const TABLE_READERS: ReadonlyMap<number, TableReader> = new Map<number, TableReader>([
  [TABLE_FORMAT.kernel, (bytes, origin) => decodeKernelTable(bytes, origin)],
  [TABLE_FORMAT.compact, decodeCompactTable],
  [TABLE_FORMAT.kernel_two_lists, (bytes, origin) => decodeKernelTable(bytes, origin, 2)],
]);

/**
 * The formats that are allowed. If the kernel's decompressor reads the table as well, it is the kernel's format with as many lists as the
 * decompressor expects: `decompressorLists`. Otherwise it is any format but the one with two lists, which exists for such decompressors only.
 */
export function formatsFor(decompressorLists: 2 | 3 | undefined): number[] {
  const { kernel, kernel_two_lists } = TABLE_FORMAT;
  if (decompressorLists !== undefined) return [decompressorLists === 2 ? kernel_two_lists : kernel];
  return [...TABLE_READERS.keys()].filter((format) => format !== kernel_two_lists);
}
