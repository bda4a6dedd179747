/** Where in the kernel image its relocations lie. */
import type { PhysAddr } from '../../base/addresses.ts';
import { countByCell, loadedSections, mergeSites } from '../../inspect/site-locations.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';

export const CELL = 0x1_0000;

/** A stretch of the image, by rising address. */
export interface MapRegion {
  /** The largest section in it, or undefined where the file names none. */
  readonly name: string | undefined;
  readonly start: PhysAddr;
  /** Relocations in each CELL bytes. */
  readonly cells: readonly number[];
}

/** From the cell of the image's first byte to that of its last; a cell belongs to the section that its middle is in. */
export function mapRelocations(kernel: Vmlinux, table: RelocationTable): readonly MapRegion[] {
  const first = Math.floor(kernel.imageStart / CELL);
  const sections = loadedSections(kernel);
  const nameAt = (address: PhysAddr): string | undefined =>
    sections.find(({ start, end }) => address >= start && address < end)?.name;
  const regions: { name: string | undefined; start: PhysAddr; cells: number[] }[] = [];
  countByCell(mergeSites(table), kernel, CELL).forEach((count, i) => {
    const start = (first + i) * CELL;
    const name = nameAt(start + CELL / 2);
    const last = regions.at(-1);
    if (last !== undefined && last.name === name) last.cells.push(count);
    else regions.push({ name, start, cells: [count] });
  });
  return regions;
}
