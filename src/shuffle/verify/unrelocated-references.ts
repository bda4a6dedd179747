/**
 * What refers to code from outside .text, where no relocations name it (`verify --shuffled --recover`).
 *
 * Code is disassembled before and after, as .text is. For data, nothing says which bytes are fields, so the bytes themselves are examined:
 *
 * - Each byte that changed must belong to four that led into moved code, as a distance from their own place, and that now lead to where that code is.
 * - Among those that did not change, none may lead to the start of a moved function. Nor may one page or section hold as many that lead into
 *   moved functions as a table would.
 *
 * So everything that was changed is right. That nothing else had to be changed is shown only to this extent: a few fields that lead into the inside of functions,
 * among bytes that are something else, would not be found.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { alignUp } from '../../base/bytes.ts';
import type { RelocationTable } from '../../relocs/tables/kernel-table.ts';
import { refute } from '../../verify/evidence.ts';
import type { Disassembler } from '../disassembler.ts';
import { symbolsBySection } from '../read/debug-kernel.ts';
import type { DebugKernel, LoadedSection } from '../read/debug-kernel.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ClaimedLayout } from './claimed-layout.ts';
import { makeCodeComparer } from './code-pair.ts';
import type { ImagePair } from './image-pair.ts';
import { PremiseRecord } from './premises.ts';

/** Names, types and checksums, which hold no distances. What ORC and kallsyms have of them is checked separately. */
const NO_DISTANCES = /^(?:\.BTF|\.BTF_ids|__kcrctab|__kcrctab_gpl|__ksymtab_strings|\.orc_header|\.notes)$/;

const PAGE = 4096;
/**
 * How many aligned words of one page may lead into moved code by chance. Debian's 6.12 has up to 134 in the tables of UTF-8, and 25 anywhere else. A page of
 * a table has 256 or more; a page of alternatives, whose entries of 14 bytes are not aligned, has 146.
 */
const WORDS_AT_MOST = 240;
/** Nor may more than one word in four of a section. In a table, fields are a larger part. */
const SECTION_PART = 4;

/**
 * Returns how many fields it found. `symbols`: places in .text. All tables that other checks explain must have been marked before.
 */
export function checkUnrelocatedReferences(
  debug: DebugKernel,
  images: ImagePair,
  layout: ClaimedLayout,
  table: RelocationTable,
  symbols: readonly PhysAddr[],
  makeDisassembler: (code: Uint8Array) => Disassembler,
): number {
  const named = new Set(symbols);
  const isSymbol = (place: PhysAddr): boolean => named.has(place);
  // By byte of the file.
  const sites = new Uint8Array(images.before.bytes.length);
  for (const [list, width] of [
    [table.abs64, 8],
    [table.abs32, 4],
  ] as const) {
    for (const entry of list) {
      const at = images.before.at(placeOfLow(entry), width, 'site');
      sites.fill(1, at, at + width);
    }
  }
  const cuts = symbolsBySection(debug);
  let fields = 0;
  for (const section of debug.loadedSections()) {
    if (debug.text.sections.has(section.index)) continue;
    if (section.isCode) {
      const inside = cuts.get(section.index) ?? [];
      fields += checkOtherCode(section, inside, images, layout, sites, isSymbol, makeDisassembler);
      images.markRange(section.start, section.end);
    } else if (!NO_DISTANCES.test(section.name)) fields += checkData(section, images, layout, isSymbol);
  }
  return fields;
}

function checkOtherCode(
  { start: origin, end, name }: LoadedSection,
  symbols: readonly PhysAddr[],
  { before: one, after: two }: Pick<ImagePair, 'before' | 'after'>,
  layout: ClaimedLayout,
  allSites: Uint8Array,
  isSymbol: (place: PhysAddr) => boolean,
  makeDisassembler: (code: Uint8Array) => Disassembler,
): number {
  const before = one.range(origin, end, name);
  const after = two.range(origin, end, name);
  const offset = two.at(origin, end - origin, name);
  const sites = allSites.subarray(offset, offset + before.length);
  const disassemblers = { before: makeDisassembler(before), after: makeDisassembler(after) };
  const pair = { before, after, origin, offset, sites, targetShifts: undefined, premises: new PremiseRecord() };
  const { compare, compareUndecoded, counts } = makeCodeComparer(pair, layout, disassemblers, isSymbol);
  const inside = symbols.filter((place) => place > origin && place < end).map((place) => place - origin);
  const cuts = [...new Set([0, ...inside, before.length])].toSorted((a, b) => a - b);
  for (let part = 0; part + 1 < cuts.length; part++) {
    const stop = cuts[part + 1]!;
    compareUndecoded(compare(cuts[part]!, stop, cuts[part]!), stop, true);
  }
  disassemblers.before.free();
  disassemblers.after.free();
  return counts.fields;
}

function checkData(
  section: LoadedSection,
  images: ImagePair,
  layout: ClaimedLayout,
  isSymbol: (place: PhysAddr) => boolean,
): number {
  const { start, end, name } = section;
  const { before, after } = images;
  const offset = after.at(start, end - start, name);
  const size = end - start;
  let fields = 0;
  // Fields of tables do not overlap, and the first that fits is taken: a number leads to the right place by chance once in 2^32.
  for (let at = 0; at + 4 <= size; at++) {
    const old = before.view.getInt32(offset + at, true);
    const now = after.view.getInt32(offset + at, true);
    if (old === now || images.hasMarked(offset + at, 4)) continue;
    const target = start + at + old;
    const newTarget = layout.newPlaceOf(target);
    if (layout.rangeOf(target) < 0 || now - old !== newTarget - target) continue;
    images.mark(offset + at, 4);
    fields++;
    at += 3;
  }
  let [inPage, inSection] = [0, 0];
  const inSectionAtMost = Math.floor(size / 4 / SECTION_PART);
  for (let at = alignUp(start, 4) - start; at + 4 <= size; at += 4) {
    if ((start + at) % PAGE === 0) inPage = 0;
    if (images.hasMarked(offset + at, 4)) continue;
    const target = start + at + before.view.getInt32(offset + at, true);
    if (layout.rangeOf(target) < 0 || layout.newPlaceOf(target) === target) continue; // some are placed where they were
    const isMany = ++inPage > WORDS_AT_MOST || ++inSection > inSectionAtMost;
    if (!isMany && !isSymbol(target)) continue;
    refute('word of data', offset + at, {
      found: `what looks like a reference to moved code, at 0x${target.toString(16)}`,
      expected: isMany ? `no more than ${WORDS_AT_MOST} such in a page, and ${inSectionAtMost} in ${name}` : 'none',
    });
  }
  return fields;
}
