/** Where in the kernel image its relocations lie. */
import { tableEntryToPhys, virtToPhys } from '../../addresses.ts';
import type { PhysAddr } from '../../addresses.ts';
import { sectionName } from '../../elf/read.ts';
import { LISTS } from '../../relocs/table.ts';
import type { RelocationTable } from '../../relocs/table.ts';
import type { Vmlinux } from '../../vmlinux.ts';

export const CELL = 0x1_0000;

/** A stretch of the image, by rising address. */
export interface MapRegion {
  /** The largest section in it, or undefined where the file names none. */
  readonly name: string | undefined;
  readonly start: PhysAddr;
  /** Relocations in each CELL bytes. */
  readonly cells: readonly number[];
}

const SHF_ALLOC = 2n;

/** From the cell of the image's first byte to that of its last; a cell belongs to the section that its middle is in. */
export function mapRelocations(kernel: Vmlinux, table: RelocationTable): readonly MapRegion[] {
  const first = Math.floor(kernel.imageStart / CELL);
  const counts = Array.from({ length: Math.ceil(kernel.imageEnd / CELL) - first }, () => 0);
  for (const { name } of LISTS)
    for (const entry of table[name]) counts[Math.floor(tableEntryToPhys(entry)! / CELL) - first]!++;

  const nameAt = sectionsOf(kernel);
  const regions: { name: string | undefined; start: PhysAddr; cells: number[] }[] = [];
  counts.forEach((count, i) => {
    const start = (first + i) * CELL;
    const name = nameAt(start + CELL / 2);
    const last = regions.at(-1);
    if (last !== undefined && last.name === name) last.cells.push(count);
    else regions.push({ name, start, cells: [count] });
  });
  return regions;
}

/** Sections by the memory that they fill. Per-cpu data linked at 0 is found by the segment that loads it. */
function sectionsOf({ elf, loads }: Vmlinux): (address: PhysAddr) => string | undefined {
  const ranges = elf.sections
    .filter(({ flags, size }) => (flags & SHF_ALLOC) !== 0n && size > 0)
    .map((section) => {
      const load = loads.find(({ vaddr, memsz }) => section.addr >= vaddr && section.addr < vaddr + BigInt(memsz));
      const start = load === undefined ? virtToPhys(section.addr) : load.paddr + Number(section.addr - load.vaddr);
      return { name: sectionName(elf, section), start: start ?? -1, size: section.size };
    });
  return (address) => ranges.find(({ start, size }) => address >= start && address < start + size)?.name;
}
