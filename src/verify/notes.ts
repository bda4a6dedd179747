/**
 * The original's table as it must be in the converted file: without the sites in notes, whose values every user of a guest can read
 * (/sys/kernel/notes).
 *
 * This is the rule that `convert` follows, decided here once more from the bytes: a site is left out if all of it lies in the descriptor of a note in a
 * loaded PT_NOTE. Notes are padded to 4; to 8 if p_align is 8 and padding to 4 does not lead to the segment's end.
 */
import { physToTableEntry, tableEntryToPhys } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { alignUp, Reader } from '../base/bytes.ts';
import { lowerBound } from '../base/search.ts';
import { PT_NOTE } from '../elf/constants.ts';
import { NHDR, NHDR_SIZE, readNumber } from '../elf/fields.ts';
import type { Segment } from '../elf/read.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { LISTS } from '../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';

interface Span {
  readonly start: FileOffset;
  readonly end: FileOffset;
}

/** Linear in the table and the notes, which the reader has bounded: notes may name the same bytes, but have 1 MiB in all. */
export function tableWithoutNotes(table: RelocationTable, { elf, loads }: Vmlinux): RelocationTable {
  const notes = elf.segments.filter(({ type }) => type === PT_NOTE);
  const spans = notes.flatMap((note) => descriptors(elf.bytes, note)).flatMap((span) => addressesOf(span, loads));
  const [abs64, inverse32, abs32] = LISTS.map(({ name, width }) => {
    const list = table[name];
    const gone = new Set<number>();
    for (const { start, end } of spans) {
      for (let index = lowerBound(list, physToTableEntry(start)); index < list.length; index++) {
        if (tableEntryToPhys(list[index]!)! + width > end) break;
        gone.add(list[index]!);
      }
    }
    return gone.size === 0 ? list : list.filter((entry) => !gone.has(entry));
  }) as [Uint32Array, Uint32Array, Uint32Array];
  return { ...table, abs64, inverse32, abs32 };
}

/** Where the span is loaded, in physical link addresses; nothing if no segment loads all of it. */
function addressesOf({ start, end }: Span, loads: readonly Segment[]): { start: PhysAddr; end: PhysAddr }[] {
  const load = loads.find(({ offset, filesz }) => start >= offset && end <= offset + filesz);
  return load === undefined ? [] : [{ start: start - load.offset + load.paddr, end: end - load.offset + load.paddr }];
}

function descriptors(bytes: Uint8Array, { offset, filesz, align }: Segment): Span[] {
  const byFour = walk(bytes, offset, filesz, 4);
  if (align !== 8 || byFour.complete) return byFour.spans;
  const byEight = walk(bytes, offset, filesz, 8);
  return byEight.complete ? byEight.spans : byFour.spans;
}

/** `padding` counts from the segment's start. Of 4-padded notes, every part begins at a multiple of 4 whether it counts from there or from the part before. */
function walk(
  bytes: Uint8Array,
  offset: FileOffset,
  size: number,
  padding: 4 | 8,
): { spans: Span[]; complete: boolean } {
  const reader = new Reader(bytes);
  const spans: Span[] = [];
  let at = 0;
  while (at + NHDR_SIZE <= size) {
    const name = readNumber(reader, offset + at, NHDR.n_namesz, 'n_namesz');
    const length = readNumber(reader, offset + at, NHDR.n_descsz, 'n_descsz');
    const start = alignUp(at + NHDR_SIZE + name, padding);
    if (start + length > size) return { spans, complete: false };
    spans.push({ start: offset + start, end: offset + start + length });
    at = alignUp(start + length, padding);
  }
  return { spans, complete: at >= size };
}
