/**
 * The absolute references to code: sites of the kernel's own relocation table, in code and in data.
 *
 * What a site holds says where it leads. Where a relocation names the symbol that is meant, that counts; without relocations a value that leads into code, and
 * not to its start, may be counted from elsewhere, and what it may mean stays (code.ts, holdIfInside).
 */
import { LISTS } from '../../relocs/tables/kernel-table.ts';
import type { ListName, RelocationTable } from '../../relocs/tables/kernel-table.ts';
import { hold, holdIfInside, STAY } from './pieces.ts';
import type { Pieces } from './pieces.ts';
import { sectionsOf } from '../debug-kernel-sections.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { makeExtents } from '../ranges.ts';
import { FIXED, FieldList, pieceAt } from './fields.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ImageBytes } from '../read/kernel-image.ts';
import type { SortedRange } from './relocated-references.ts';

export interface AbsoluteReferences {
  readonly abs64: FieldList;
  readonly abs32: FieldList;
  readonly strays: readonly number[];
}

/** Sections whose fields name places in functions as such: jump tables, and paravirt call sites (until Linux 6.7). */
const LABEL_TABLES = /^\.(?:rodata|parainstructions)$/;

/**
 * The absolute fields that aim at code: at their symbol, else at what they hold. Sorted tables write theirs themselves. Without `aims`, the code that a
 * field aims into stays.
 */
export function readAbsolute(
  table: RelocationTable,
  image: ImageBytes,
  pieces: Pieces,
  debug: DebugKernel,
  sorted: readonly SortedRange[],
  aims: ReadonlyMap<number, number> | undefined,
): AbsoluteReferences {
  const { starts, ends } = pieces;
  const { text } = debug;
  const found = { abs64: new FieldList(), abs32: new FieldList() };
  const strays: number[] = [];
  const isLabelTable = makeExtents(sectionsOf(debug).filter(({ name }) => LABEL_TABLES.test(name)));
  for (const name of ['abs64', 'abs32'] as const) {
    const width = widthOf(name);
    for (const entry of table[name]) {
      const place = placeOfLow(entry);
      if (sorted.some(({ start, end }) => place >= start && place < end)) continue;
      const target =
        aims?.get(place) ?? placeOfLow(image.view.getUint32(image.at(place, width, 'relocation table'), true));
      if (target < text.start || target >= text.end) continue;
      const piece = pieceAt(starts, ends, target);
      if (piece === FIXED) strays.push(target);
      else {
        const site = pieceAt(starts, ends, place);
        found[name].add(place, site, piece);
        if (aims !== undefined || starts[piece] === target) continue;
        const isLabel = site === piece || isLabelTable(place);
        if (isLabel) hold(pieces, piece, STAY['doubtful reference']);
        else holdIfInside(pieces, target, piece);
      }
    }
  }
  return { ...found, strays };
}

function widthOf(name: ListName): number {
  return LISTS.find((list) => list.name === name)!.width;
}
