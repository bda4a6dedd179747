/** Where in the kernel image its relocations are. */
import type { PhysAddr } from '../../base/addresses.ts';
import { countByCell, loadedSections, mergeSites } from '../../inspect/site-locations.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import type { Vmlinux } from '../../kernel/vmlinux.ts';

/** Bytes of the image for which the map has one number. */
export const CELL = 0x1_0000;

/** A range of the image with one section name. Regions are in order of their addresses. */
export interface MapRegion {
  /** The section; undefined where the image has none. */
  readonly name: string | undefined;
  readonly start: PhysAddr;
  /** The number of relocations in each CELL bytes. */
  readonly cells: readonly number[];
}

/** Covers the cells from the image's first byte to its last. A cell belongs to the section that contains its middle. */
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
