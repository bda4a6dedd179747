/**
 * Cuts the code in .text into pieces, by the symbols of the debug vmlinux.
 *
 * A symbol of type STT_FUNC with a size makes a piece that may be movable. All other code stays. Later passes may pin more pieces, and units.ts decides what is
 * placed; here each piece gets the reasons to stay that symbols show.
 *
 * What the linker placed as a section can be placed elsewhere as a whole, including code without a name: the rest of a weak function that another
 * replaced. Where all sections of one name were merged before the last link (ld -r), that code shares a section with its replacement.
 *
 * Ranges of code that the kernel recognises by address have a pair of linker symbols around them, such as `__sched_text_start` and `__sched_text_end`.
 * There are noinstr, cpuidle, lock, kprobes, entry, irqentry, softirqentry, static_call and indirect_thunk. All code inside such a pair stays, whatever its
 * name.
 *
 * Some mitigations of speculation depend on the address of their code. `srso_alias_safe_ret` must have the address of `srso_alias_untrain_ret` except for four
 * bits (arch/x86/kernel/vmlinux.lds.S); others need their position in a cache line. No pair of linker symbols encloses all of them, so they are
 * recognised by name.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { lastAtOrBelow } from '../../base/search.ts';
import { NO_RANGE, rangeAt } from '../ranges.ts';
import type { Range } from '../ranges.ts';
import { STT } from '../read/debug-kernel.ts';
import type { DebugKernel, TextSections } from '../read/debug-kernel.ts';
import { sizeByMap } from '../read/link-map.ts';
import type { InputSections } from '../read/link-map.ts';
import { pinBeforePadding, STAY } from './pieces.ts';
import type { Pieces } from './pieces.ts';

const STB_LOCAL = 0;

/** From arch/x86/lib/retpoline.S and arch/x86/entry/entry_64.S, by the names of 5.15 to 7.2. */
const PLACED_MITIGATION =
  /^(?:__pfx_)?(?:srso_|retbleed_(?:untrain_ret|return_thunk)|(?:entry_|zen_)?untrain_ret|zen_return_thunk|its_return_thunk|__x86_(?:return|indirect)_|clear_bhb_loop|__bhi_args)/;

/**
 * No-operations before a function, which belong to it: the kernel writes a call's accounting or a check of its type there (CONFIG_CALL_PADDING). Objtool
 * and Clang give them symbols of type STT_FUNC. The code of such a piece runs into the function, which ties the two together.
 */
const PREFIX = /^__(?:pfx|cfi)_/;

export interface CutCode {
  readonly pieces: Pieces;
  /** The number of distinct functions: places with an STT_FUNC symbol, not counting prefixes. */
  readonly functions: number;
  /** First and last piece of each section that is placed as a whole, if it is movable. */
  readonly wholeSections: readonly (readonly [first: number, last: number])[];
}

/**
 * `trim` returns the code between two pieces, without padding. `map`: the input sections from which the code was linked, if a link map says so.
 */
export function cutIntoPieces(
  debug: DebugKernel,
  map: InputSections | undefined,
  trim: (start: PhysAddr, end: PhysAddr) => [PhysAddr, PhysAddr][],
): CutCode {
  const { text } = debug;
  const { functions: named, linkerSymbols, labels, marks, ranges } = collectSymbols(debug);
  const functions = map === undefined ? named : sizeByMap(named, map);
  const pieces: Pieces = { starts: [], ends: [], stay: [], symbols: [] };
  const add = (start: number, end: number, stay: number, symbol: number): void => {
    pieces.starts.push(start);
    pieces.ends.push(end);
    pieces.stay.push(stay);
    pieces.symbols.push(symbol);
  };
  const inFixedRange = (start: number, end: number): boolean =>
    ranges.some((range) => start < range.end && end > range.start);
  const addGap = (from: number, to: number): void => {
    for (const [start, end] of trim(from, to)) add(start, end, STAY.unnamed, -1);
  };
  let end: number = text.start;
  let distinct = 0;
  let last = -1;
  for (const { place, size, symbol } of functions) {
    if (place === last) continue; // an alias; the longest comes first
    last = place;
    const name = debug.symbols.name(symbol);
    const isPrefix = PREFIX.test(name);
    if (!isPrefix) distinct++;
    if (place < end) {
      // It reaches into the piece before it: the two become one, which stays.
      const before = pieces.starts.length - 1;
      pieces.stay[before] = STAY.overlap;
      pieces.ends[before] = end = Math.max(end, Math.min(place + size, text.end));
      continue;
    }
    if (size === 0) continue; // what is there becomes a gap
    addGap(end, place);
    const isFixed = inFixedRange(place, place + size) || PLACED_MITIGATION.test(name);
    const reason = isFixed ? STAY['fixed range'] : linkerSymbols.has(place) ? STAY['linker symbol'] : STAY.none;
    add(place, place + size, reason, isPrefix ? -1 : symbol);
    end = place + size;
  }
  addGap(end, text.end);
  const wholeSections = freeSections(pieces, map ?? keptSections(text), marks, inFixedRange);
  for (const label of labels) pinBeforePadding(pieces, label, STAY['linker symbol']);
  // A linker symbol between two pieces may be the end of the one or the start of the other.
  for (const label of linkerSymbols) {
    const before = lastAtOrBelow(pieces.starts, label) - 1;
    if (before >= 0 && pieces.ends[before] === label && pieces.stay[before] === STAY.none)
      pieces.stay[before] = STAY['linker symbol'];
  }
  return { pieces, functions: distinct, wholeSections };
}

/** The sections that the linker kept, which follow .text itself. */
function keptSections({ extents }: TextSections): InputSections {
  const kept = extents.slice(1);
  return {
    starts: Uint32Array.from(kept, ({ start }) => start),
    ends: Uint32Array.from(kept, ({ end }) => end),
  };
}

/** In sections with more pieces than this, each function is movable on its own, rather than all together with the unnamed code among them. */
const PIECES_AT_MOST = 8;

/**
 * Makes unnamed code movable where a section around it is known, and nothing in that section could be a label to it. Returns the first and last pieces of these
 * sections, which must stay together.
 */
function freeSections(
  { starts, ends, stay }: Pieces,
  sections: InputSections,
  marks: Uint32Array,
  inFixedRange: (start: number, end: number) => boolean,
): [number, number][] {
  const whole: [number, number][] = [];
  for (let piece = 0; piece < starts.length; piece++) {
    const section = stay[piece] === STAY.unnamed ? rangeAt(sections.starts, sections.ends, starts[piece]!) : NO_RANGE;
    if (section === NO_RANGE) continue;
    const [start, end] = [sections.starts[section]!, sections.ends[section]!];
    const [first, last] = [lastAtOrBelow(starts, start), lastAtOrBelow(starts, end - 1)];
    const isMarked = (marks[lastAtOrBelow(marks, end - 1)] ?? 0) >= start || inFixedRange(start, end);
    const isFree = (at: number): boolean => stay[at] === STAY.none || stay[at] === STAY.unnamed;
    const members = Array.from({ length: Math.min(last - first + 1, PIECES_AT_MOST + 1) }, (_, at) => first + at);
    if (isMarked || starts[first] !== start || ends[last]! > end || members.length > PIECES_AT_MOST) continue;
    if (!members.every(isFree)) continue;
    for (const member of members) stay[member] = STAY.none;
    whole.push([first, last]);
  }
  return whole;
}

interface FunctionSymbol {
  readonly place: PhysAddr;
  readonly size: number;
  readonly symbol: number;
}

interface TextSymbols {
  /** By rising place, the longest first. */
  readonly functions: FunctionSymbol[];
  /** Global symbols without type and size. */
  readonly linkerSymbols: ReadonlySet<number>;
  /** All symbols without type. */
  readonly labels: readonly number[];
  /** All symbols except those of sections and functions with a size; rising. */
  readonly marks: Uint32Array;
  /** Between pairs of linker symbols. */
  readonly ranges: readonly Range[];
}

const RANGE_SYMBOL = /^__(\w+)_(start|end)$/;

function collectSymbols({ symbols, places, text }: DebugKernel): TextSymbols {
  const functions: FunctionSymbol[] = [];
  const linkerSymbols = new Set<number>();
  const labels: number[] = [];
  const marks: number[] = [];
  const bounds = { start: new Map<string, number>(), end: new Map<string, number>() };
  for (let symbol = 0; symbol < symbols.count; symbol++) {
    const place = places[symbol]!;
    if (place < text.start || place > text.end || !text.sections.has(symbols.sectionIndex(symbol))) continue;
    const info = symbols.info(symbol);
    const type = info & 15;
    const size = Number(symbols.size(symbol));
    if (type === STT.func && place + size <= text.end) functions.push({ place, size, symbol });
    if (type !== STT.section && (type !== STT.func || size === 0)) marks.push(place);
    if (type !== STT.notype) continue;
    labels.push(place);
    if (info >> 4 === STB_LOCAL || size > 0) continue;
    linkerSymbols.add(place);
    const [, name, bound] = RANGE_SYMBOL.exec(symbols.name(symbol)) ?? [];
    if (name !== undefined) bounds[bound as 'start' | 'end'].set(name, place);
  }
  functions.sort((a, b) => a.place - b.place || b.size - a.size || a.symbol - b.symbol);
  const ranges = [...bounds.start].flatMap(([name, start]) => {
    const end = bounds.end.get(name);
    return end === undefined || end <= start ? [] : [{ start, end }];
  });
  return { functions, linkerSymbols, labels, marks: Uint32Array.from(marks).toSorted(), ranges };
}
