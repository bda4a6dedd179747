/**
 * Relocation sites in the kernel's notes, and the table without them.
 *
 * Every user of a guest can read the notes in /sys/kernel/notes. The kernel's relocs tool before 2024 (Linux 6.9, and the stable trees of that spring)
 * kept the addresses in Xen's notes as sites: three in Debian's 5.10.0-30. Relocated, they tell everybody the slide. Newer tools leave all sites in
 * notes out, and so does kslide: what the notes hold is for loaders, before the kernel runs, and stays as it was linked.
 *
 * A site is left out if it lies in the descriptor of a note. A PT_NOTE that covers something else than notes takes no site away from it.
 */
import { physToTableEntry } from '../base/addresses.ts';
import { lowerBound } from '../base/search.ts';
import type { ElfFile, Segment } from '../elf/read.ts';
import { readNotes } from '../elf/read.ts';
import { LISTS } from './tables/kernel-table.ts';
import type { RelocationTable } from './tables/kernel-table.ts';

export interface TableWithoutNotes {
  readonly table: RelocationTable;
  /** How many sites were left out. */
  readonly left: number;
}

/** `table`: checked against the image. It is returned as it is if it has no such site. Costs microseconds: two searches in each list for a note. */
export function leaveOutNotes(
  table: RelocationTable,
  { elf, loads }: { readonly elf: ElfFile; readonly loads: readonly Segment[] },
): TableWithoutNotes {
  const inNotes = LISTS.map(() => new Set<number>());
  for (const { desc, descOffset } of readNotes(elf)) {
    const load = loads.find(
      ({ offset, filesz }) => descOffset >= offset && descOffset + desc.length <= offset + filesz,
    );
    if (load === undefined) continue;
    const start = physToTableEntry(load.paddr + (descOffset - load.offset));
    for (const [index, { name, width }] of LISTS.entries()) {
      const list = table[name];
      for (let at = lowerBound(list, start); at < list.length && list[at]! + width <= start + desc.length; at++)
        inNotes[index]!.add(at);
    }
  }
  const left = inNotes.reduce((sum, { size }) => sum + size, 0);
  if (left === 0) return { table, left };
  const [abs64, inverse32, abs32] = LISTS.map(({ name }, index) =>
    table[name].filter((_, at) => !inNotes[index]!.has(at)),
  ) as [Uint32Array, Uint32Array, Uint32Array];
  return { table: { ...table, abs64, inverse32, abs32 }, left };
}
