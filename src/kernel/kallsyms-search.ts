/**
 * Finds kallsyms in a kernel that has no symbols, by the structure of its arrays. They are one after the other in .rodata, each at a multiple of 8, and since 7.0 of 4:
 *
 *     until 6.4    offsets, relative_base, num_syms, names, markers, [seqs_of_names,] token_table, token_index
 *     until 6.19   num_syms, names, markers, token_table, token_index, offsets, relative_base, seqs_of_names
 *     since 7.0    the same without relative_base
 *
 * A kernel without KALLSYMS_BASE_RELATIVE has addresses of 8 bytes instead of offsets and a base. The search begins with what is like nothing else: 256 strings, and right after them where each begins. From there every array is where
 * the others leave it, and says the same as they do: the markers, the count and the stream of names agree, types are letters, and addresses rise. What agrees only in part is not found.
 *
 * In a new process it takes 40 to 66 ms of processor time for a kernel of 65 MB with 236,000 symbols, and up to 14 ms for one without kallsyms.
 */
import { KERNEL_IMAGE_SIZE } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { viewOf } from '../base/bytes.ts';
import {
  ABSOLUTE,
  MARKER_EVERY,
  NAME_AT_MOST,
  nameOffsets,
  nameTokens,
  nextName,
  readTokens,
  SEQ_SIZE,
  spell,
  symbolPlace,
  TOKENS,
} from './kallsyms.ts';
import type { Addresses, KallsymsArrays } from './kallsyms.ts';
import type { Vmlinux } from './vmlinux.ts';

/** What each array is aligned to: until 6.19, and since 7.0. */
const ALIGNS = [8, 4] as const;
const STEP = 4;
const PTR = 8;
const INDEX_SIZE = TOKENS * 2;
/** Every array of INDEX_SIZE bytes has one of these places in its first half. So many numbers from there on are looked at first: reading every word took 60 ms. */
const SAMPLE = INDEX_SIZE / 2;
const SAMPLED = 8;
/** Distributions' kernels have some 200,000 symbols. */
const MOST_SYMBOLS = 0x20_0000;
/** Of a file that has more token tables than this, none is searched on. Kernels have one. */
const MOST_TABLES = 4;
/** Streams of names that are read before the search is given up. Kernels have one, and a few words near it that could be its count. */
const MOST_STREAMS = 64;

export interface Kallsyms {
  readonly arrays: KallsymsArrays;
  /** Places of the symbols, rising. Absolute ones come first, as ABSOLUTE; the last ones may be after _end: they are not loaded. */
  readonly places: Int32Array;
  /** ASCII codes of the types, as nm prints them. */
  readonly types: Uint8Array;
  /** The name of a symbol, without its type. */
  readonly nameOf: (symbol: number) => string;
  /** The number of the first symbol with that name; undefined without one. */
  readonly find: (name: string) => number | undefined;
}

/** Undefined for a kernel without CONFIG_KALLSYMS, or with arrays that do not agree. */
export function searchKallsyms({ elf: { bytes }, loads, imageStart, imageEnd }: Vmlinux): Kallsyms | undefined {
  const view = viewOf(bytes);
  let tables = 0;
  const budget = { streams: MOST_STREAMS };
  for (const { offset, filesz, paddr } of loads) {
    const end = offset + filesz;
    const shift = paddr - offset;
    for (let sample = offset + ((SAMPLE - (paddr % SAMPLE)) % SAMPLE); sample + SAMPLE <= end; sample += SAMPLE) {
      if (!isRising(view, sample, SAMPLED)) continue;
      const index = findZero(view, sample, Math.max(offset, sample - SAMPLE + STEP));
      if (index + INDEX_SIZE > end || !isIndex(view, index)) continue;
      for (const align of ALIGNS) {
        const range: Range = { bytes, view, start: offset, end, shift, align, imageStart, imageEnd, budget };
        const tokens = findTokens(range, index);
        if (tokens === undefined) continue;
        if (++tables > MOST_TABLES) return undefined;
        const found = readFrom(range, tokens, index);
        if (found !== undefined) return found;
      }
    }
  }
  return undefined;
}

/** Bytes that one segment loads. `shift`: from a file offset to its place. */
interface Range {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly start: FileOffset;
  readonly end: FileOffset;
  readonly shift: number;
  readonly align: 4 | 8;
  readonly imageStart: PhysAddr;
  readonly imageEnd: PhysAddr;
  readonly budget: { streams: number };
}

/** The first place from `at` on at which an array can begin. */
function alignUp({ shift, align }: Range, at: FileOffset): FileOffset {
  return at + ((align - ((at + shift) % align)) % align);
}

/** The last place up to `at` at which an array can begin. */
function alignDown({ shift, align }: Range, at: FileOffset): FileOffset {
  return at - ((at + shift) % align);
}

function isIndex(view: DataView, index: FileOffset): boolean {
  if (view.getUint16(index, true) !== 0 || !isRising(view, index, TOKENS)) return false;
  // Kernels have tables of all bytes, which would be the index of nothing but empty strings.
  return view.getUint16(index + INDEX_SIZE - 2, true) >= TOKENS;
}

/** Whether so many u16 rise, each by no more than a name's length. */
function isRising(view: DataView, start: FileOffset, count: number): boolean {
  let last = view.getUint16(start, true);
  for (let at = start + 2; at < start + count * 2; at += 2) {
    const begin = view.getUint16(at, true);
    if (begin <= last || begin > last + NAME_AT_MOST + 1) return false;
    last = begin;
  }
  return true;
}

/** The last u16 up to `at` that is 0; `lowest` if there is none from there on. */
function findZero(view: DataView, at: FileOffset, lowest: FileOffset): FileOffset {
  let zero = at;
  while (zero > lowest && view.getUint16(zero, true) !== 0) zero -= 2;
  return zero;
}

/** Where the strings begin that `index` is the index of: they end right before it, but for padding. */
function findTokens(range: Range, index: FileOffset): FileOffset | undefined {
  const { view, start, align } = range;
  if (alignUp(range, index) !== index) return undefined;
  const last = view.getUint16(index + INDEX_SIZE - 2, true);
  const lowest = Math.max(start, index - last - NAME_AT_MOST - align);
  for (let tokens = alignDown(range, index - last - 1); tokens >= lowest; tokens -= align)
    if (isTokens(range, tokens, index)) return tokens;
  return undefined;
}

/** Whether each string ends where the next begins, the last right before the index, and all have printable characters. */
function isTokens({ bytes, view, align }: Range, tokens: FileOffset, index: FileOffset): boolean {
  let at = tokens;
  for (let token = 0; token < TOKENS; token++) {
    if (at !== tokens + view.getUint16(index + token * 2, true)) return false;
    for (; at < index && bytes[at] !== 0; at++) if (bytes[at]! <= 0x20 || bytes[at]! >= 0x7f) return false;
    if (at++ === index) return false;
  }
  if (index - at >= align) return false;
  while (at < index) if (bytes[at++] !== 0) return false;
  return true;
}

function isLetter(byte: number): boolean {
  return (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
}

/** Reads the arrays around a token table. Undefined unless all of them agree. */
function readFrom(range: Range, tokens: FileOffset, tokenIndex: FileOffset): Kallsyms | undefined {
  const stream = findStream(range, tokens, firstLetters(range, tokens, tokenIndex));
  if (stream === undefined) return undefined;
  const { bytes, view } = range;
  const { count, names, begins, types } = stream;
  const fitting = [...addressesOf(range, stream, tokenIndex + INDEX_SIZE)].flatMap((addresses) => {
    const places = readPlaces(range, addresses, count);
    return places === undefined ? [] : [{ addresses, places }];
  });
  const [first] = fitting;
  if (first === undefined || fitting.length > 1) return undefined;
  const { addresses, places } = first;
  const strings = readTokens(bytes, view, { tokens, tokenIndex });
  const untyped = strings.map((text) => text.slice(1));
  const nameOf = (symbol: number): string => spell(bytes, strings, begins[symbol]!, begins[symbol + 1]!).slice(1);
  return {
    arrays: { count, addresses, names, tokens, tokenIndex },
    places,
    types,
    nameOf,
    find: (name) => {
      // No name is spelled: nearly all differ in the first token after the type.
      const isStart = Uint8Array.from(untyped, (text) => (name.startsWith(text) ? 1 : 0));
      for (let symbol = 0; symbol < count; symbol++) {
        const begin = nameTokens(bytes, begins[symbol]!);
        if (isStart[bytes[begin]!] === 0) continue;
        const end = begins[symbol + 1]!;
        let at = begin + 1;
        let { length } = untyped[bytes[begin]!]!;
        for (; at < end && name.startsWith(strings[bytes[at]!]!, length); at++) length += strings[bytes[at]!]!.length;
        if (at === end && length === name.length) return symbol;
      }
      return undefined;
    },
  };
}

interface Stream {
  readonly count: number;
  readonly names: FileOffset;
  /** Where each name begins, and where the last one ends. */
  readonly begins: Uint32Array;
  readonly types: Uint8Array;
}

/**
 * The names, which end before the markers; their count, which is right before them; and the markers, which end before the token table, or before 3 bytes a symbol that end there. The markers are
 * looked for from there down: a zero, then rising numbers, as many as there can be between them and the token table.
 */
function findStream(range: Range, tokens: FileOffset, letters: Uint8Array): Stream | undefined {
  const { view, start, align } = range;
  const lowest = Math.max(start, tokens - MOST_SYMBOLS * (SEQ_SIZE + 1));
  for (let markers = alignDown(range, tokens - STEP); markers >= lowest; markers -= align) {
    if (view.getUint32(markers, true) !== 0) continue;
    for (const width of [4, 8] as const) {
      const rising = countRising(view, markers, tokens, width);
      if (rising < 2) continue;
      const end = alignUp(range, markers + rising * width);
      const counts = countsOf(rising, tokens - end, align);
      if (counts.least > counts.most) continue;
      const stream = findNames(range, { at: markers, width, counts }, letters);
      if (stream !== undefined) return stream;
    }
  }
  return undefined;
}

/** Least and most bytes of 256 names. */
const LEAST_STEP = MARKER_EVERY * 2;
const MOST_STEP = MARKER_EVERY * (NAME_AT_MOST + 2);

function countRising(view: DataView, markers: FileOffset, end: FileOffset, width: 4 | 8): number {
  let count = 1;
  if (width === 8 && view.getUint32(markers + 4, true) !== 0) return 0;
  for (let last = 0, at = markers + width; at + width <= end; at += width, count++) {
    const marker = view.getUint32(at, true);
    if (marker < last + LEAST_STEP || marker > last + MOST_STEP) break;
    if (width === 8 && view.getUint32(at + 4, true) !== 0) break;
    last = marker;
  }
  return count;
}

/** How many symbols there can be, with so many markers and so many bytes from them to the token table. Empty if there is no such number. */
function countsOf(markers: number, gap: number, align: number): Markers['counts'] {
  const most = markers * MARKER_EVERY;
  const least = most - MARKER_EVERY + 1;
  if (gap === 0) return { least, most };
  return {
    least: Math.max(least, Math.ceil((gap - align + 1) / SEQ_SIZE)),
    most: Math.min(most, Math.floor(gap / SEQ_SIZE)),
  };
}

interface Markers {
  readonly at: FileOffset;
  readonly width: 4 | 8;
  /** How many symbols there can be. */
  readonly counts: { readonly least: number; readonly most: number };
}

/** The stream that ends where the markers begin, if its count is right before it and all markers are right. */
function findNames(range: Range, markers: Markers, letters: Uint8Array): Stream | undefined {
  const { view, start, align, budget } = range;
  const { at, width, counts } = markers;
  const last = view.getUint32(at + (Math.ceil(counts.most / MARKER_EVERY) - 1) * width, true);
  const lowest = Math.max(start + align, at - last - MOST_STEP - align);
  for (let names = alignDown(range, at - last - 2); names >= lowest; names -= align) {
    const count = view.getUint32(names - align, true);
    if (count < counts.least || count > counts.most || (align === 8 && view.getUint32(names - 4, true) !== 0)) continue;
    if (budget.streams-- <= 0) return undefined;
    if (isStream(range, names, count, markers, letters)) return readStream(range, names, count, letters);
  }
  return undefined;
}

/** Whether so many names end where the markers begin, all markers are right, and each name begins with the letter of a type. */
function isStream(
  { bytes, view, align }: Range,
  names: FileOffset,
  count: number,
  markers: Markers,
  letters: Uint8Array,
): boolean {
  let at = names;
  for (let symbol = 0; symbol < count; symbol++) {
    if (
      symbol % MARKER_EVERY === 0 &&
      view.getUint32(markers.at + (symbol / MARKER_EVERY) * markers.width, true) !== at - names
    )
      return false;
    const first = nameTokens(bytes, at);
    const next = nextName(bytes, at);
    if (next === first || next > markers.at || letters[bytes[first]!] === 0) return false;
    at = next;
  }
  if (markers.at - at >= align) return false;
  while (at < markers.at) if (bytes[at++] !== 0) return false;
  return true;
}

function readStream({ bytes }: Range, names: FileOffset, count: number, letters: Uint8Array): Stream {
  const begins = nameOffsets(bytes, { names, count })!;
  const types = new Uint8Array(count);
  for (let symbol = 0; symbol < count; symbol++) types[symbol] = letters[bytes[nameTokens(bytes, begins[symbol]!)]!]!;
  return { count, names, begins, types };
}

/** For each token the letter that it begins with; 0 for another character. */
function firstLetters({ bytes, view }: Range, tokens: FileOffset, tokenIndex: FileOffset): Uint8Array {
  const letters = new Uint8Array(TOKENS);
  for (let token = 0; token < TOKENS; token++) {
    const byte = bytes[tokens + view.getUint16(tokenIndex + token * 2, true)]!;
    if (isLetter(byte)) letters[token] = byte;
  }
  return letters;
}

/** Where the addresses can be, in each form: before the count and the names, or after the token table's index. Where a base follows them, they are counted from it. */
function* addressesOf(range: Range, { count, names }: Stream, after: FileOffset): Generator<Addresses> {
  const { start, end, shift, align } = range;
  const width = align * Math.ceil((count * 4) / align);
  const before = names - align;
  for (const at of [before - PTR - width, after]) {
    if (at < start || at + width > end) continue;
    const base = at + width + PTR > end ? undefined : readPlace(range, at + width);
    if (base === undefined) {
      if (at === after) yield { form: 'own place', place: at + shift, at };
    } else {
      yield { form: 'below base', base, at };
      yield { form: 'above base', base, at };
    }
  }
  for (const at of [before - count * PTR, after])
    if (at >= start && at + count * PTR <= end) yield { form: 'addresses', at };
}

/** The place that a link address leads to, if that is in the image. */
function readPlace({ view, imageStart, imageEnd }: Range, at: FileOffset): PhysAddr | undefined {
  const place = view.getUint32(at, true) - 0x8000_0000;
  return view.getInt32(at + 4, true) === -1 && place >= imageStart && place <= imageEnd ? place : undefined;
}

/**
 * The places, if they rise, begin with the base, and half of them or more are in the image. Some are not: per-cpu data is linked at 0, and since 6.19 .modinfo, which is not loaded, is linked after _end.
 */
function readPlaces(
  { view, imageStart, imageEnd }: Range,
  addresses: Addresses,
  count: number,
): Int32Array | undefined {
  const places = new Int32Array(count);
  let last: PhysAddr = ABSOLUTE;
  let outside = 0;
  for (let symbol = 0; symbol < count; symbol++) {
    const place = symbolPlace(view, addresses, symbol);
    places[symbol] = place;
    if (place === ABSOLUTE || place > imageEnd) outside++;
    if (place < last || place >= KERNEL_IMAGE_SIZE) return undefined;
    if (last === ABSOLUTE && place !== ABSOLUTE && (place < imageStart || !isFirst(place, addresses))) return undefined;
    last = place;
  }
  return outside * 2 > count ? undefined : places;
}

/** The base is the first symbol's place. What is counted from its own place, in .rodata, leads back to code. */
function isFirst(place: PhysAddr, addresses: Addresses): boolean {
  if (addresses.form === 'own place') return place < addresses.place;
  return addresses.form === 'addresses' || place === addresses.base;
}
