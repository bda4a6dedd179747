/**
 * The code in .text, cut into pieces by the symbols of the debug vmlinux.
 *
 * A piece is a function, or code that has to stay: whatever has no symbol of type STT_FUNC and a size. Between pieces there is nothing but padding, and
 * a piece never shares a byte with another. Which pieces then move is decided in units.ts; this says of each why it may not, as far as symbols tell.
 *
 * What the linker placed as a section can be placed elsewhere as a whole, code without a name included: it is what is left of a weak function that another
 * replaced. Where all sections of one name were put together before the last link (ld -r), it is in one section with that other.
 *
 * Ranges of code that the kernel recognises by address have a pair of linker symbols around them: `__sched_text_start` and `__sched_text_end`,
 * noinstr, cpuidle, lock, kprobes, entry, irqentry, softirqentry, static_call, indirect_thunk. All that lies in such a pair stays, whatever its name.
 *
 * Some mitigations of speculation work by where their code is. `srso_alias_safe_ret` has to have the address of `srso_alias_untrain_ret` but for four bits
 * (arch/x86/kernel/vmlinux.lds.S); others need their place in a cache line. No pair of linker symbols is around all of them, so their names tell.
 */
import { PAGE_SIZE } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import type { DebugKernel, TextSections } from './debug-kernel.ts';
import { FIXED, pieceAt, pieceBefore } from './fields.ts';
import { sizeByMap } from './link-map.ts';
import type { InputSections } from './link-map.ts';

/** Why a piece of code stays where it is; `none` means that it moves. The words of the summary. */
export const STAY = {
  none: 0,
  /** Code without a function symbol: entry points, labels, thunks. */
  unnamed: 1,
  /** A function symbol without a size. */
  'unknown size': 2,
  /** Between a pair of linker symbols, or a mitigation that works by its address. */
  'fixed range': 3,
  /** A linker symbol, such as _stext, is at its start, or at its end: references to that must not move. */
  'linker symbol': 4,
  /** Function symbols that overlap. */
  overlap: 5,
  /** Held by a short branch or by falling through from, or into, code that stays. */
  'tied to fixed code': 6,
  /** Instructions or relocations in it that are not what they should be. */
  undecodable: 7,
  /** Nothing else to change places with. */
  alone: 8,
  /** Where no relocation tells: something may be a reference to it, or a reference to it may mean something else. */
  'doubtful reference': 9,
} as const;
export type StayReason = Exclude<keyof typeof STAY, 'none'>;

const STT_NOTYPE = 0;
const STT_FUNC = 2;
const STT_SECTION = 3;
const STB_LOCAL = 0;

/** arch/x86/lib/retpoline.S and arch/x86/entry/entry_64.S, in the names of 5.15 to 7.2. */
const PLACED_MITIGATION =
  /^(?:__pfx_)?(?:srso_|retbleed_(?:untrain_ret|return_thunk)|(?:entry_|zen_)?untrain_ret|zen_return_thunk|its_return_thunk|__x86_(?:return|indirect)_|clear_bhb_loop|__bhi_args)/;

/**
 * No-operations before a function, which belong to it: the kernel writes a call's accounting or a check of its type there (CONFIG_CALL_PADDING). Objtool
 * and Clang give them symbols of type STT_FUNC. The code of such a piece runs into the function, which keeps the two together.
 */
const PREFIX = /^__(?:pfx|cfi)_/;

/** Pieces by rising address, none overlapping. */
export interface Pieces {
  readonly starts: number[];
  readonly ends: number[];
  /** STAY */
  readonly stay: number[];
  /** Symbol number, for messages; -1 for code without one, and for what is before a function. */
  readonly symbols: number[];
}

export interface CodeSymbols {
  readonly pieces: Pieces;
  /** Distinct functions: places with an STT_FUNC symbol, but for what is before a function. */
  readonly functions: number;
  /** First and last pieces that move as one, if they do. */
  readonly whole: readonly (readonly [first: number, last: number])[];
}

/** `trim` gives what is between two pieces beside padding; `map`, where there is one, the input sections that the code was linked of. */
export function readCode(
  debug: DebugKernel,
  map: InputSections | undefined,
  trim: (start: PhysAddr, end: PhysAddr) => [PhysAddr, PhysAddr][],
): CodeSymbols {
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
  const inRange = (start: number, end: number): boolean =>
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
      // Reaches into the piece before it: the two become one, which stays.
      const before = pieces.starts.length - 1;
      pieces.stay[before] = STAY.overlap;
      pieces.ends[before] = end = Math.max(end, Math.min(place + size, text.end));
      continue;
    }
    if (size === 0) continue; // whatever is there becomes a gap
    addGap(end, place);
    const isHeld = inRange(place, place + size) || PLACED_MITIGATION.test(name);
    const reason = isHeld ? STAY['fixed range'] : linkerSymbols.has(place) ? STAY['linker symbol'] : STAY.none;
    add(place, place + size, reason, isPrefix ? -1 : symbol);
    end = place + size;
  }
  addGap(end, text.end);
  const whole = freeSections(pieces, map ?? keptSections(text), marks, inRange);
  for (const label of labels) holdBefore(pieces, label, STAY['linker symbol']);
  // A linker symbol between two pieces may be the end of the one or the start of the other.
  for (const label of linkerSymbols) {
    const before = pieceBefore(pieces.starts, label) - 1;
    if (before >= 0 && pieces.ends[before] === label && pieces.stay[before] === STAY.none)
      pieces.stay[before] = STAY['linker symbol'];
  }
  return { pieces, functions: distinct, whole };
}

/** Those that the linker kept, behind .text itself. */
function keptSections({ extents }: TextSections): InputSections {
  const kept = extents.slice(1);
  return {
    starts: Uint32Array.from(kept, ({ start }) => start),
    ends: Uint32Array.from(kept, ({ end }) => end),
  };
}

/** Of more functions than that, each moves on its own rather than all with what has no name among them. */
const PIECES_AT_MOST = 8;

/** Sections with unnamed code, and without anything in them that could be a label to it: that code need not stay. Gives their pieces, which stay together. */
function freeSections(
  { starts, ends, stay }: Pieces,
  sections: InputSections,
  marks: Uint32Array,
  inRange: (start: number, end: number) => boolean,
): [number, number][] {
  const whole: [number, number][] = [];
  for (let piece = 0; piece < starts.length; piece++) {
    const section = stay[piece] === STAY.unnamed ? pieceAt(sections.starts, sections.ends, starts[piece]!) : FIXED;
    if (section === FIXED) continue;
    const [start, end] = [sections.starts[section]!, sections.ends[section]!];
    const [first, last] = [pieceBefore(starts, start), pieceBefore(starts, end - 1)];
    const isMarked = (marks[pieceBefore(marks, end - 1)] ?? 0) >= start || inRange(start, end);
    const isFree = (at: number): boolean => stay[at] === STAY.none || stay[at] === STAY.unnamed;
    const members = Array.from({ length: Math.min(last - first + 1, PIECES_AT_MOST + 1) }, (_, at) => first + at);
    if (isMarked || starts[first] !== start || ends[last]! > end || members.length > PIECES_AT_MOST) continue;
    if (!members.every(isFree)) continue;
    for (const member of members) stay[member] = STAY.none;
    whole.push([first, last]);
  }
  return whole;
}

export function hold({ stay }: Pieces, piece: number, reason: number): void {
  if (piece !== FIXED && stay[piece] === STAY.none) stay[piece] = reason;
}

/**
 * An operand that leads into code, not to its start, and no relocation that says what it means: that code stays, and all that it may be counted from. (Where
 * the kernel copies `core_restore_code`, a page of it, an operand is the last 8 bytes of that page, which are some other function's.)
 */
export function holdIfInside(pieces: Pieces, target: PhysAddr, piece: number): void {
  if (piece === FIXED || pieces.starts[piece] === target) return;
  for (let near = piece; near >= 0 && pieces.ends[near]! > target - PAGE_SIZE; near--)
    hold(pieces, near, STAY['doubtful reference']);
}

/**
 * Something is known to be in the padding behind a piece: when that stays, so does the padding. Nothing is done for a place in a piece.
 */
export function holdBefore({ starts, ends, stay }: Pieces, place: PhysAddr, reason: number): void {
  const before = pieceBefore(starts, place);
  if (before >= 0 && place >= ends[before]! && stay[before] === STAY.none) stay[before] = reason;
}

interface FunctionSymbol {
  readonly place: PhysAddr;
  readonly size: number;
  readonly symbol: number;
}

interface Collected {
  /** By rising place, the longest first. */
  readonly functions: FunctionSymbol[];
  /** Global symbols without type and size. */
  readonly linkerSymbols: ReadonlySet<number>;
  /** All symbols without type. */
  readonly labels: readonly number[];
  /** All symbols but those of sections, and functions with a size; rising. */
  readonly marks: Uint32Array;
  readonly ranges: readonly { readonly start: PhysAddr; readonly end: PhysAddr }[];
}

const RANGE_SYMBOL = /^__(\w+)_(start|end)$/;

function collectSymbols({ symbols, places, text }: DebugKernel): Collected {
  const functions: FunctionSymbol[] = [];
  const linkerSymbols = new Set<number>();
  const labels: number[] = [];
  const marks: number[] = [];
  const bounds = { start: new Map<string, number>(), end: new Map<string, number>() };
  for (let symbol = 0; symbol < symbols.count; symbol++) {
    const place = places[symbol]!;
    if (place < text.start || place > text.end || !text.sections.has(symbols.sectionIndex(symbol))) continue;
    const info = symbols.info(symbol);
    const size = Number(symbols.size(symbol));
    if ((info & 15) === STT_FUNC && place + size <= text.end) functions.push({ place, size, symbol });
    if ((info & 15) !== STT_SECTION && ((info & 15) !== STT_FUNC || size === 0)) marks.push(place);
    if ((info & 15) !== STT_NOTYPE) continue;
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
