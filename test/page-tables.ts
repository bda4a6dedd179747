/**
 * The page tables that a kernel brings for itself (arch/x86/kernel/head_64.S), for the small kernel of make-vmlinux.ts: what its KERNEL_IMAGE_SIZE shows by.
 *
 *     LINK + 0x2000   level3_kernel_pgt: entry 510 holds level2_kernel_pgt, a site
 *     LINK + 0x5000   level2_kernel_pgt: an entry for each 2 MiB of KERNEL_IMAGE_SIZE
 *     LINK + 0x1000   level2_ident_pgt: 512 entries of the same kind in every kernel, to which no entry 510 leads
 *     LINK + 0x3000   the level 3 table of a PVH entry's own
 *     LINK + 0x4000   its level 2 table
 */
import type { Writer } from '../src/base/bytes.ts';
import type { RelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { entryAt, LINK, PERCPU, TEXT } from './make-vmlinux.ts';
import type { VmlinuxOptions } from './make-vmlinux.ts';

const PAGE = 0x1000;
const PMD = 0x20_0000;
/** __PAGE_KERNEL_LARGE_EXEC, _KERNPG_TABLE_NOENC and _PAGE_TABLE_NOENC. */
const [LARGE, TABLE, LAST] = [0x1e3, 0x63, 0x67];

export const LEVEL3 = LINK + 0x2000;
export const LEVEL2 = LINK + 0x5000;
const PVH_LEVEL3 = PERCPU.paddr;
const PVH_LEVEL2 = LINK + 0x4000;

export interface PageTables {
  /** Entries of level2_kernel_pgt: 512, or 256 without CONFIG_RANDOMIZE_BASE. */
  readonly mapped: number;
  /** Those of the PVH entry's own table; none if undefined. */
  readonly pvh?: number;
  /** Changes what was made. */
  readonly edit?: (elf: Writer) => unknown;
}

/** In this file all of the image is 0x1000 bytes after where it is in memory, counted from LINK. */
export const fileAt = (paddr: number): number => paddr - LINK + TEXT.offset;

export function pageTables({ mapped, pvh, edit }: PageTables): VmlinuxOptions & { readonly table: RelocationTable } {
  const abs64 = [entryAt(LEVEL3 + 510 * 8), entryAt(LEVEL3 + 511 * 8)];
  if (pvh !== undefined) abs64.push(entryAt(PVH_LEVEL3 + 510 * 8));
  return {
    table: {
      abs64: Uint32Array.from(abs64),
      inverse32: Uint32Array.from([entryAt(LINK + 0x600)]),
      abs32: Uint32Array.from([entryAt(LINK + 0x400)]),
      lists: 3,
    },
    edit: (elf) => {
      writeMap(elf, LINK + 0x1000, 512);
      writeMap(elf, LEVEL2, mapped);
      writeUpper(elf, LEVEL3, [LEVEL2 + TABLE, PVH_LEVEL2 + LAST]);
      if (pvh !== undefined) {
        writeMap(elf, PVH_LEVEL2, pvh);
        writeUpper(elf, PVH_LEVEL3, [PVH_LEVEL2 + TABLE, 0]);
      }
      edit?.(elf);
    },
  };
}

function writeMap(elf: Writer, table: number, mapped: number): void {
  for (let i = 0; i < 512; i++) elf.u64(fileAt(table) + i * 8, i < mapped ? i * PMD + LARGE : 0);
}

function writeUpper(elf: Writer, table: number, last: readonly [number, number]): void {
  elf.bytes.fill(0, fileAt(table), fileAt(table) + PAGE);
  last.forEach((entry, i) => elf.u64(fileAt(table) + (510 + i) * 8, entry));
}
