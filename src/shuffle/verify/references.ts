/**
 * What refers to code from elsewhere: the sites of the relocation table, which hold absolute addresses, and the PC-relative fields outside .text, which the
 * debug vmlinux's `.rela` sections name. Each must hold its old target's new place.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { SHF_EXECINSTR } from '../../elf/constants.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import { RELOCATION_TYPES } from '../../relocs/tool/types.ts';
import { REL_SIZE } from '../../elf/fields.ts';
import { PIECE, readPieces, relocationSections } from '../../relocs/tool/relocation-entries.ts';
import { NOWHERE } from '../debug-kernel.ts';
import type { DebugKernel } from '../debug-kernel.ts';
import { placeOfLow } from '../kernel-image.ts';
import { refute } from '../../verify/evidence.ts';
import type { Moves } from './moves.ts';
import type { Range, Sides } from './sides.ts';
import { expectCertain } from './walk.ts';

const { R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_PC64 } = RELOCATION_TYPES[64];
const LISTS = [
  ['abs64', 8],
  ['abs32', 4],
  ['inverse32', 4],
] as const;

const within = (ranges: readonly Range[], place: PhysAddr): boolean =>
  ranges.some(({ start, end }) => place >= start && place < end);

/** `aims`: undefined without relocations; then `isStart` tells the places of symbols in .text. Marks the sites in .text, for the disassembly, and accepts those outside of it. */
export function checkSites(
  sides: Sides,
  table: RelocationTable,
  moves: Moves,
  aims: ReadonlyMap<number, number> | undefined,
  isStart: (place: PhysAddr) => boolean,
  sorted: readonly Range[],
): { sites: Uint8Array; checked: number } {
  const { text } = moves;
  const sites = new Uint8Array(text.end - text.start);
  let checked = 0;
  for (const [list, width] of LISTS) {
    for (const entry of table[list]) {
      const place = placeOfLow(entry);
      const now = moves.imageOf(place);
      // Relative to the next instruction: the disassembly sees to it.
      if (list === 'inverse32') continue;
      if (place >= text.start && place < text.end) sites.fill(1, place - text.start, place - text.start + width);
      if (within(sorted, place)) continue;
      const from = sides.before.at(place, width, 'site');
      const to = sides.after.at(now, width, 'site');
      const value = sides.before.view.getUint32(from, true);
      const target = placeOfLow(value);
      if (aims === undefined) expectCertain(moves, place, target, isStart, to);
      const moved = aims?.get(place) ?? shiftOf(moves, target);
      const expected = (value + moved) >>> 0;
      const found = sides.after.view.getUint32(to, true);
      const high =
        width === 8 && sides.before.view.getUint32(from + 4, true) !== sides.after.view.getUint32(to + 4, true);
      if (found !== expected || high || Number.isNaN(moved))
        refute('absolute field', to, { found, expected: Number.isNaN(moved) ? 'no reference to padding' : expected });
      sides.accept(to, width);
      checked++;
    }
  }
  return { sites, checked };
}

/** The same sites, those in moved code with it. */
export function checkTable(before: RelocationTable, after: RelocationTable, moves: Moves): number {
  let entries = 0;
  for (const [list] of LISTS) {
    const expected = before[list]
      .map((entry) => entry + moves.imageOf(placeOfLow(entry)) - placeOfLow(entry))
      .toSorted();
    const found = after[list].toSorted();
    const at = expected.findIndex((entry, index) => entry !== found[index]);
    if (at >= 0 || found.length !== expected.length)
      refute(`relocation table, ${list} entry ${Math.max(at, 0)}`, 0, {
        found: found[at] ?? 'missing',
        expected: expected[at] ?? 'none',
      });
    entries += expected.length;
  }
  return entries;
}

export function checkRelative(
  debug: DebugKernel,
  sides: Sides,
  moves: Moves,
  aims: ReadonlyMap<number, number>,
  sorted: readonly Range[],
): number {
  const { text } = moves;
  const scratch = new Uint8Array(PIECE * REL_SIZE[64]);
  let checked = 0;
  for (const section of relocationSections(debug.image)) {
    if (debug.text.sections.has(section.target)) continue;
    const executable = (debug.image.sections.word(section.target, 'sh_flags') & Number(SHF_EXECINSTR)) !== 0;
    const perCpu = section.target === debug.image.perCpu?.index;
    const shift = perCpu ? debug.placeOfSection(section.target) : -0x8000_0000;
    for (const piece of readPieces(debug.image, section, scratch)) {
      const view = viewOf(piece.bytes);
      for (let entry = 0, row = 0; entry < piece.count; entry++, row += REL_SIZE[64]) {
        const type = view.getUint32(row + 8, true);
        if (type !== R_X86_64_PC32 && type !== R_X86_64_PLT32 && type !== R_X86_64_PC64) continue;
        const base = debug.places[section.checkSymbol(view.getUint32(row + 12, true))]!;
        if (base === NOWHERE) continue;
        const target = base + view.getInt32(row + 16, true);
        if (target < text.start - 8 || target > text.end) continue;
        const place = view.getUint32(row, true) + shift;
        if (within(sorted, place)) continue;
        // In code the operand ends 4 to 8 bytes behind the field, and the relocation does not say where.
        const named = aims.get(place);
        const targets = (executable ? [4, 5, 6, 8] : [0]).map((more) => shiftOf(moves, target + more));
        const shifts = new Set(named === undefined ? targets : [named]);
        const [change = 0] = shifts;
        const field = sides.before.at(place, type === R_X86_64_PC64 ? 8 : 4, 'field');
        const old = sides.before.view.getInt32(field, true);
        const now = sides.after.view.getInt32(sides.after.at(place, 4, 'field'), true);
        if (shifts.size > 1 || now !== ((old + change) | 0) || Number.isNaN(change))
          refute('relative field outside .text', field, {
            found: now,
            expected: shifts.size > 1 ? 'a target that is in one range for certain' : old + change,
          });
        sides.accept(field, type === R_X86_64_PC64 ? 8 : 4);
        checked++;
      }
    }
  }
  return checked;
}

/** How far what was at a place moved; NaN when it is nowhere now. */
function shiftOf(moves: Moves, place: PhysAddr): number {
  const image = moves.imageOf(place);
  return image < 0 && place >= 0 ? Number.NaN : image - place;
}
