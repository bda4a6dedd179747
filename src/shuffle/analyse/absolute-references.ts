/**
 * The absolute references to code: sites of the kernel's own relocation table, in code and in data.
 *
 * The value of a site says where it leads. Where a relocation names the symbol that is meant, the symbol counts instead. Without relocations, a value that
 * leads into a piece and not to its start may be counted from elsewhere, so everything that it may mean is pinned (pieces.ts, pinIfInside).
 */
import { LISTS } from '../../relocs/tables/kernel-table.ts';
import type { ListName, RelocationTable } from '../../relocs/tables/kernel-table.ts';
import { inAnyRange, rangeAt } from '../ranges.ts';
import type { Range } from '../ranges.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ImageBytes } from '../read/kernel-image.ts';
import { FieldList, FIXED } from './fields.ts';
import { pin, pinIfInside, STAY } from './pieces.ts';
import type { Pieces } from './pieces.ts';

export interface AbsoluteReferences {
  readonly abs64: FieldList;
  readonly abs32: FieldList;
  /** Targets in .text outside of all pieces. */
  readonly paddingTargets: readonly number[];
}

/** Sections whose fields mean places inside functions: jump tables, and paravirt call sites (until Linux 6.7). */
const LABEL_TABLES = /^\.(?:rodata|parainstructions)$/;

/**
 * The absolute fields that refer to code. `symbolTargets` holds the targets that symbols name, by place of the field; for all others the value counts.
 * Without `symbolTargets`, a piece that some field leads into is pinned. The fields of `sorted` tables are left out: their writers write them.
 */
export function readAbsolute(
  table: RelocationTable,
  image: ImageBytes,
  pieces: Pieces,
  debug: DebugKernel,
  sorted: readonly Range[],
  symbolTargets: ReadonlyMap<number, number> | undefined,
): AbsoluteReferences {
  const { starts, ends } = pieces;
  const { text } = debug;
  const found = { abs64: new FieldList(), abs32: new FieldList() };
  const paddingTargets: number[] = [];
  const isLabelTable = inAnyRange(debug.loadedSections().filter(({ name }) => LABEL_TABLES.test(name)));
  for (const name of ['abs64', 'abs32'] as const) {
    const width = widthOf(name);
    for (const entry of table[name]) {
      const place = placeOfLow(entry);
      if (sorted.some(({ start, end }) => place >= start && place < end)) continue;
      const target =
        symbolTargets?.get(place) ?? placeOfLow(image.view.getUint32(image.at(place, width, 'relocation table'), true));
      if (target < text.start || target >= text.end) continue;
      const piece = rangeAt(starts, ends, target);
      if (piece === FIXED) paddingTargets.push(target);
      else {
        const site = rangeAt(starts, ends, place);
        found[name].add(place, site, piece);
        if (symbolTargets !== undefined || starts[piece] === target) continue;
        const isLabel = site === piece || isLabelTable(place);
        if (isLabel) pin(pieces, piece, STAY['doubtful reference']);
        else pinIfInside(pieces, target, piece);
      }
    }
  }
  return { ...found, paddingTargets };
}

function widthOf(name: ListName): number {
  return LISTS.find((list) => list.name === name)!.width;
}
