/**
 * What the original's relocations aim at, as far as their symbols say: a reference to `_text + 0xfff` is one to `_text`, whatever lies at that
 * address. Only where the symbol is a section does the sum of symbol and addend say it, or the instruction.
 */
import { viewOf } from '../../base/bytes.ts';
import { REL_SIZE } from '../../elf/fields.ts';
import { PIECE, readPieces, relocationSections } from '../../relocs/tool/relocation-entries.ts';
import { NOWHERE } from '../debug-kernel.ts';
import type { DebugKernel } from '../debug-kernel.ts';
import type { Moves } from './moves.ts';

const STT_SECTION = 3;

/** By place of the field: how far what it aims at moved, or NaN when that is nowhere now. Only for relocations that name a symbol. */
export function readAims(debug: DebugKernel, moves: Moves): Map<number, number> {
  const { symbols, places } = debug;
  const shifts = new Map<number, number>();
  const bySymbol = Float64Array.from(places, (place, symbol) => {
    if ((symbols.info(symbol) & 15) === STT_SECTION) return -Infinity;
    if (place === NOWHERE) return 0;
    const image = moves.imageOf(place);
    return image < 0 ? Number.NaN : image - place;
  });
  const scratch = new Uint8Array(PIECE * REL_SIZE[64]);
  for (const section of relocationSections(debug.image)) {
    const perCpu = section.target === debug.image.perCpu?.index;
    const shift = perCpu ? debug.placeOfSection(section.target) : -0x8000_0000;
    for (const piece of readPieces(debug.image, section, scratch)) {
      const view = viewOf(piece.bytes);
      for (let entry = 0, row = 0; entry < piece.count; entry++, row += REL_SIZE[64]) {
        const moved = bySymbol[section.checkSymbol(view.getUint32(row + 12, true))]!;
        if (moved !== -Infinity && view.getUint32(row + 8, true) !== 0)
          shifts.set(view.getUint32(row, true) + shift, moved);
      }
    }
  }
  return shifts;
}
