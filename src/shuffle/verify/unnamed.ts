/**
 * What refers to code from outside .text, where no relocations name it (`shuffle --recover`).
 *
 * Code is disassembled before and after, as .text is. Of data nobody says which bytes are fields, so it is asked of the bytes. Each one that changed belongs to four
 * that led into code that moved, as a distance from where they stand, and that lead now to where that is. And of those that did not change, there are
 * none that lead to the start of a function that moved; nor so many in one page or section that lead into such functions that they look like a table.
 *
 * So what was changed is right. That nothing else had to be is shown as far as that: a few fields that lead into the inside of functions, among bytes
 * that are something else, would not be found.
 */
import { PAGE_SIZE } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { alignUp } from '../../base/bytes.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import { sectionsOf, symbolsBySection } from '../debug-kernel-sections.ts';
import type { LoadedSection } from '../debug-kernel-sections.ts';
import type { DebugKernel } from '../debug-kernel.ts';
import type { Disassembler } from '../disassembler.ts';
import { placeOfLow } from '../kernel-image.ts';
import { refute } from '../../verify/evidence.ts';
import type { Moves } from './moves.ts';
import type { Sides } from './sides.ts';
import { makeWalker } from './walk.ts';

/** Names, types and checksums: no distances. What ORC and kallsyms have of them was looked at by itself. */
const NO_DISTANCES = /^(?:\.BTF|\.BTF_ids|__kcrctab|__kcrctab_gpl|__ksymtab_strings|\.orc_header|\.notes)$/;

/**
 * Aligned words of one page that may lead into code that moved, by chance: in Debian's 6.12 134, in the tables of UTF-8, 25 anywhere else. A page of a
 * table has 256 or more; of alternatives, whose entries of 14 bytes are not aligned, 146.
 */
const WORDS_AT_MOST = 240;
/** Nor does more than this part of a section, which is less than there is of fields in a table. */
const SECTION_PART = 4;

/** Gives how many fields it found. `symbols`: places in .text. Other tables must have been accepted before. */
export function checkUnnamed(
  debug: DebugKernel,
  sides: Sides,
  moves: Moves,
  table: RelocationTable,
  symbols: readonly PhysAddr[],
  makeDisassembler: (code: Uint8Array) => Disassembler,
): number {
  const named = new Set(symbols);
  const isStart = (place: PhysAddr): boolean => named.has(place);
  // By byte of the file.
  const sites = new Uint8Array(sides.before.bytes.length);
  for (const [list, width] of [
    [table.abs64, 8],
    [table.abs32, 4],
  ] as const) {
    for (const entry of list) {
      const at = sides.before.at(placeOfLow(entry), width, 'site');
      sites.fill(1, at, at + width);
    }
  }
  const cuts = symbolsBySection(debug);
  let fields = 0;
  for (const section of sectionsOf(debug)) {
    if (debug.text.sections.has(section.index)) continue;
    if (section.isCode) {
      fields += checkOtherCode(section, cuts.get(section.index) ?? [], sides, moves, sites, isStart, makeDisassembler);
      sides.acceptRange(section.start, section.end);
    } else if (!NO_DISTANCES.test(section.name)) fields += checkData(section, sides, moves, isStart);
  }
  return fields;
}

function checkOtherCode(
  { start: origin, end, name }: LoadedSection,
  symbols: readonly PhysAddr[],
  { before: one, after: two }: Pick<Sides, 'before' | 'after'>,
  moves: Moves,
  allSites: Uint8Array,
  isStart: (place: PhysAddr) => boolean,
  makeDisassembler: (code: Uint8Array) => Disassembler,
): number {
  const before = one.range(origin, end, name);
  const after = two.range(origin, end, name);
  const offset = two.at(origin, end - origin, name);
  const sites = allSites.subarray(offset, offset + before.length);
  const disassemblers = { before: makeDisassembler(before), after: makeDisassembler(after) };
  const pair = { before, after, origin, offset, sites, aims: undefined };
  const { walk, checkOpaque, counts } = makeWalker(pair, moves, disassemblers, isStart);
  const inside = symbols.filter((place) => place > origin && place < end).map((place) => place - origin);
  const cuts = [...new Set([0, ...inside, before.length])].toSorted((a, b) => a - b);
  for (let stretch = 0; stretch + 1 < cuts.length; stretch++) {
    const stop = cuts[stretch + 1]!;
    checkOpaque(walk(cuts[stretch]!, stop, cuts[stretch]!), stop, true);
  }
  disassemblers.before.free();
  disassemblers.after.free();
  return counts.fields;
}

function checkData(section: LoadedSection, sides: Sides, moves: Moves, isStart: (place: PhysAddr) => boolean): number {
  const { start, end, name } = section;
  const { before, after } = sides;
  const offset = after.at(start, end - start, name);
  const size = end - start;
  let fields = 0;
  // Fields of tables do not overlap, and the first that fits is the one: a number that leads right by chance is one in 2^32.
  for (let at = 0; at + 4 <= size; at++) {
    const old = before.view.getInt32(offset + at, true);
    const now = after.view.getInt32(offset + at, true);
    if (old === now || sides.hasAccepted(offset + at, 4)) continue;
    const target = start + at + old;
    const image = moves.imageOf(target);
    if (moves.rangeOf(target) < 0 || now - old !== image - target) continue;
    sides.accept(offset + at, 4);
    fields++;
    at += 3;
  }
  let [inPage, inSection] = [0, 0];
  const inSectionAtMost = Math.floor(size / 4 / SECTION_PART);
  for (let at = alignUp(start, 4) - start; at + 4 <= size; at += 4) {
    if ((start + at) % PAGE_SIZE === 0) inPage = 0;
    if (sides.hasAccepted(offset + at, 4)) continue;
    const target = start + at + before.view.getInt32(offset + at, true);
    if (moves.rangeOf(target) < 0 || moves.imageOf(target) === target) continue; // some come to where they were
    const isMany = ++inPage > WORDS_AT_MOST || ++inSection > inSectionAtMost;
    if (!isMany && !isStart(target)) continue;
    refute('word of data', offset + at, {
      found: `what looks like a reference to moved code, at 0x${target.toString(16)}`,
      expected: isMany ? `no more than ${WORDS_AT_MOST} such in a page, and ${inSectionAtMost} in ${name}` : 'none',
    });
  }
  return fields;
}
