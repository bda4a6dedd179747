/**
 * Looks for fields of tables whose format is not known. Such a field would be relative to its own place, as all of the kernel's are, and so hold the distance
 * to some function. Where such a number is found in the data, and nothing known explains it, the function that it leads to is pinned. Most such
 * numbers are chance, one in 100,000 words of random bytes. Sections that are known to hold other things are skipped.
 */
import type { PhysAddr } from '../../../base/addresses.ts';
import { LISTS } from '../../../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../../../relocs/tables/kernel-table.ts';
import type { Range } from '../../ranges.ts';
import type { DebugKernel } from '../../read/debug-kernel.ts';
import { placeOfLow } from '../../read/kernel-image.ts';
import type { ImageBytes } from '../../read/kernel-image.ts';
import type { Pieces } from '../pieces.ts';

/** Names, types, checksums, and ORC entries without their addresses. */
const NO_REFERENCES = /^(?:\.BTF|\.BTF_ids|__kcrctab(?:_gpl)?|__ksymtab_strings|\.orc_unwind|\.orc_header|\.notes)$/;

/** What scripts/kallsyms.c writes. The order differs between kernels, but everything lies between the first of these and the last. */
const KALLSYMS = [
  'kallsyms_offsets',
  'kallsyms_relative_base',
  'kallsyms_num_syms',
  'kallsyms_names',
  'kallsyms_markers',
  'kallsyms_token_table',
  'kallsyms_token_index',
  'kallsyms_seqs_of_names',
];

/** The numbers of pieces that some word of data may refer to. `known`: tables whose fields are all accounted for. */
export function findUncertainReferences(
  debug: DebugKernel,
  image: ImageBytes,
  table: RelocationTable,
  { starts }: Pieces,
  known: readonly Range[],
): number[] {
  const { text } = debug;
  const pieceOf = new Int32Array(text.end - text.start).fill(-1);
  for (let piece = 0; piece < starts.length; piece++) pieceOf[starts[piece]! - text.start] = piece;
  // By byte of the file.
  const explained = new Uint8Array(image.bytes.length);
  const explain = (start: PhysAddr, end: PhysAddr, what: string): void => {
    const at = image.at(start, end - start, what);
    explained.fill(1, at, at + end - start);
  };
  for (const { start, end } of known) explain(start, end, 'table');
  const kallsyms = kallsymsExtent(debug);
  if (kallsyms !== undefined) explain(kallsyms.start, kallsyms.end, 'kallsyms');
  for (const { name, width } of LISTS)
    for (const entry of table[name]) explain(placeOfLow(entry), placeOfLow(entry) + width, 'relocation table');

  const found = new Set<number>();
  for (const { start, end, name, isCode } of debug.loadedSections()) {
    if (isCode || NO_REFERENCES.test(name)) continue;
    const offset = image.at(start, end - start, name);
    for (let at = 0; at + 4 <= end - start; at++) {
      if (explained[offset + at] === 1) continue;
      const target = start + at + image.view.getInt32(offset + at, true) - text.start;
      if (target >= 0 && target < pieceOf.length && pieceOf[target]! >= 0) found.add(pieceOf[target]!);
    }
  }
  return [...found];
}

function kallsymsExtent(debug: DebugKernel): Range | undefined {
  const places = KALLSYMS.flatMap((name) => debug.find(name) ?? []).toSorted((a, b) => a - b);
  const [start] = places;
  return start === undefined ? undefined : { start, end: places.at(-1)! };
}
