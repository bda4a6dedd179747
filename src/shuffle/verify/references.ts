/**
 * What refers to code from elsewhere: the sites of the relocation table, which hold absolute addresses, and the PC-relative fields outside .text, which the
 * debug vmlinux's `.rela` sections name. Each must hold the new place of its old target.
 *
 * Where a relocation names a symbol, the symbol is the target: a reference to `_text + 0xfff` is one to `_text`, whatever lies at that address. Where the
 * symbol is a section, the sum of symbol and addend is the target, or the instruction shows it.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { SHF_EXECINSTR } from '../../elf/constants.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import { RELOCATION_TYPES } from '../../relocs/tool/types.ts';
import { REL_SIZE } from '../../elf/fields.ts';
import { PIECE, readPieces, relocationSections } from '../../relocs/tool/relocation-entries.ts';
import { refute } from '../../verify/evidence.ts';
import type { Range } from '../ranges.ts';
import { NOWHERE, STT } from '../read/debug-kernel.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ClaimedLayout } from './claimed-layout.ts';
import { expectCertain, isInner } from './code-pair.ts';
import type { ImagePair } from './image-pair.ts';
import type { PremiseRecord } from './premises.ts';

const { R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_PC64 } = RELOCATION_TYPES[64];
const LISTS = [
  ['abs64', 8],
  ['abs32', 4],
  ['inverse32', 4],
] as const;

/** By place of the field, for all relocations that name a symbol: how far that symbol was shifted, or NaN when it is nowhere now. */
export function readTargetShifts(debug: DebugKernel, layout: ClaimedLayout): Map<number, number> {
  const { symbols, places } = debug;
  const shifts = new Map<number, number>();
  const bySymbol = Float64Array.from(places, (place, symbol) => {
    if ((symbols.info(symbol) & 15) === STT.section) return -Infinity;
    if (place === NOWHERE) return 0;
    const now = layout.newPlaceOf(place);
    return now < 0 ? Number.NaN : now - place;
  });
  const scratch = new Uint8Array(PIECE * REL_SIZE[64]);
  for (const section of relocationSections(debug.image)) {
    const perCpu = section.target === debug.image.perCpu?.index;
    const base = perCpu ? debug.placeOfSection(section.target) : -0x8000_0000;
    for (const piece of readPieces(debug.image, section, scratch)) {
      const view = viewOf(piece.bytes);
      for (let entry = 0, row = 0; entry < piece.count; entry++, row += REL_SIZE[64]) {
        const shift = bySymbol[section.checkSymbol(view.getUint32(row + 12, true))]!;
        if (shift !== -Infinity && view.getUint32(row + 8, true) !== 0)
          shifts.set(view.getUint32(row, true) + base, shift);
      }
    }
  }
  return shifts;
}

const within = (ranges: readonly Range[], place: PhysAddr): boolean =>
  ranges.some(({ start, end }) => place >= start && place < end);

/**
 * Marks the sites outside .text as explained, and returns those in .text by byte, for the disassembly. Without relocations `targetShifts` is undefined, and
 * `isSymbol` says which places of .text have a symbol.
 */
export function checkAbsoluteFields(
  images: ImagePair,
  table: RelocationTable,
  layout: ClaimedLayout,
  targetShifts: ReadonlyMap<number, number> | undefined,
  isSymbol: (place: PhysAddr) => boolean,
  sorted: readonly Range[],
  premises: PremiseRecord,
): { readonly sites: Uint8Array; readonly count: number } {
  const { text } = layout;
  const sites = new Uint8Array(text.end - text.start);
  let checked = 0;
  for (const [list, width] of LISTS) {
    for (const entry of table[list]) {
      const place = placeOfLow(entry);
      const now = layout.newPlaceOf(place);
      if (list === 'inverse32') continue; // relative to the next instruction: the disassembly checks these
      if (place >= text.start && place < text.end) sites.fill(1, place - text.start, place - text.start + width);
      if (within(sorted, place)) continue;
      const from = images.before.at(place, width, 'site');
      const to = images.after.at(now, width, 'site');
      const value = images.before.view.getUint32(from, true);
      const target = placeOfLow(value);
      if (targetShifts === undefined) expectCertain(layout, place, target, isSymbol, to);
      const named = targetShifts?.get(place);
      const shift = named ?? shiftOf(layout, target);
      const isText = place >= text.start && place < text.end;
      if (named !== undefined && named !== shiftOf(layout, target)) premises.addNamed(place);
      else if (targetShifts !== undefined && named === undefined && isText && isInner(layout, place, target, isSymbol))
        premises.addInner(place);
      const expected = (value + shift) >>> 0;
      const found = images.after.view.getUint32(to, true);
      const high =
        width === 8 && images.before.view.getUint32(from + 4, true) !== images.after.view.getUint32(to + 4, true);
      if (found !== expected || high || Number.isNaN(shift))
        refute('absolute field', to, { found, expected: Number.isNaN(shift) ? 'no reference to padding' : expected });
      images.mark(to, width);
      checked++;
    }
  }
  return { sites, count: checked };
}

/** The relocation table that the shuffled kernel must have: the same sites, those in moved code moved with it. */
export function shiftSites(table: RelocationTable, layout: ClaimedLayout): RelocationTable {
  const shifted = (list: Uint32Array): Uint32Array =>
    list.map((entry) => entry + layout.newPlaceOf(placeOfLow(entry)) - placeOfLow(entry)).toSorted();
  const { lists, abs64, inverse32, abs32 } = table;
  return { lists, abs64: shifted(abs64), inverse32: shifted(inverse32), abs32: shifted(abs32) };
}

export function checkShiftedSites(expectedTable: RelocationTable, foundTable: RelocationTable): number {
  let entries = 0;
  for (const [list] of LISTS) {
    const expected = expectedTable[list];
    const found = foundTable[list].toSorted();
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

/** The PC-relative fields outside .text that refer into it. */
export function checkRelativeFields(
  debug: DebugKernel,
  images: ImagePair,
  layout: ClaimedLayout,
  targetShifts: ReadonlyMap<number, number>,
  sorted: readonly Range[],
  premises: PremiseRecord,
): number {
  const { text } = layout;
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
        // In code the instruction ends 4 to 8 bytes after the field begins, and the relocation does not say where.
        const named = targetShifts.get(place);
        const possible = (executable ? [4, 5, 6, 8] : [0]).map((more) => shiftOf(layout, target + more));
        const shifts = new Set(named === undefined ? possible : [named]);
        const [change = 0] = shifts;
        if (named !== undefined && !possible.includes(named)) premises.addNamed(place);
        const field = images.before.at(place, type === R_X86_64_PC64 ? 8 : 4, 'field');
        const old = images.before.view.getInt32(field, true);
        const now = images.after.view.getInt32(images.after.at(place, 4, 'field'), true);
        if (shifts.size > 1 || now !== ((old + change) | 0) || Number.isNaN(change))
          refute('relative field outside .text', field, {
            found: now,
            expected: shifts.size > 1 ? 'a target that is in one range for certain' : old + change,
          });
        images.mark(field, type === R_X86_64_PC64 ? 8 : 4);
        checked++;
      }
    }
  }
  return checked;
}

/** How far a place was shifted; NaN when it is nowhere now. */
function shiftOf(layout: ClaimedLayout, place: PhysAddr): number {
  const now = layout.newPlaceOf(place);
  return now < 0 && place >= 0 ? Number.NaN : now - place;
}
