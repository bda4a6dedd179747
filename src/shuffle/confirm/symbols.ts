/**
 * The symbols of the debug vmlinux, held against kallsyms: the kernel carries its own list of names and addresses, made from the same symbols before the last link
 * (scripts/kallsyms.c). Each entry of kallsyms must be a symbol of that name at that address, and each symbol of .text must be in kallsyms, save those that
 * kallsyms leaves out by their names. Debian's 6.1 and 6.12: 87,182 and 154,686 entries, not one exception.
 *
 * Where kallsyms lies, only symbols say. So it is read strictly: a wrong place would be no kallsyms.
 *
 * kallsyms tells neither sizes nor types. A size or a type decides what is moved; it does not decide what the proof compares. But a type STT_SECTION does: those
 * symbols are held against section headers.
 */
import type { FileOffset } from '../../base/addresses.ts';
import { ascii, indexOfBytes } from '../../base/bytes.ts';
import { KernelImageError } from '../../base/errors.ts';
import { SHN_LORESERVE, SHN_XINDEX } from '../../elf/constants.ts';
import { NOWHERE, STT } from '../read/debug-kernel.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ImageBytes } from '../read/kernel-image.ts';
import type { Contradictions } from './contradictions.ts';

/** Symbol types and bindings (ELF, st_info) that only matter here. */
const STT_FILE = 4;
const [STB_LOCAL, STB_WEAK] = [0, 2];

/**
 * Names that kallsyms may leave out, by the kernels from 5.4 to 7.3 (scripts/mksysmap, is_ignored_symbol() in scripts/kallsyms.c), and names that are longer than
 * it has room for: KSYM_NAME_LEN was 128 until 6.1.
 */
const LEFT_OUT =
  /^(?:[.$]|L0|_{3}kallsyms|kallsyms_|__(?:pfx|cfi|kcfi_typeid|crc|kstrtab|kstrtabns|ksymtab|efistub|pi|tmp|sda|sda2)_|_SDA2?_BASE_)|^[^]{128}/;
const TOKENS = 256;
const NAME_AT_MOST = 512; // KSYM_NAME_LEN
const MARKER_EVERY = 256;
/** The tokens of ten characters that occur in every kernel's names stand for themselves: part of any kallsyms_token_table. */
const DIGIT_TOKENS = ascii('0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0');

/** Returns how many symbols kallsyms confirms; 0 for a kernel without it. */
export function confirmSymbols(debug: DebugKernel, image: ImageBytes, contradictions: Contradictions): number {
  confirmSections(debug, contradictions);
  if (debug.find('kallsyms_names') !== undefined) return confirmKallsyms(debug, image, contradictions);
  if (indexOfBytes(image.bytes, DIGIT_TOKENS) < 0) return 0;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'debug vmlinux: symbol kallsyms_names',
    found: 'missing, though the kernel has kallsyms',
    expected: 'one in the image',
  });
}

/** What symbols say of their sections. */
function confirmSections(debug: DebugKernel, contradictions: Contradictions): void {
  const { symbols, places, text } = debug;
  for (let symbol = 1; symbol < symbols.count; symbol++) {
    const place = places[symbol]!;
    if (place === NOWHERE) continue;
    const type = symbols.info(symbol) & 15;
    const index = symbols.shndx(symbol);
    const section = index < SHN_LORESERVE || index === SHN_XINDEX ? symbols.sectionIndex(symbol) : -1;
    if ((type === STT.section) === symbols.isNamed(symbol)) {
      contradictions.add(place, () => `symbol ${symbol} of type ${type} and name ${symbols.name(symbol)}`);
      continue;
    }
    const isInside = place >= text.start && place < text.end;
    const wrong =
      type === STT.section
        ? section < 0 || place !== debug.placeOfSection(section)
        : isInside !== text.sections.has(section) && place !== text.end;
    if (wrong) contradictions.add(place, () => `${symbols.name(symbol)} in section ${section}`);
    else if (type === STT.func && isInside && place + Number(symbols.size(symbol)) > text.end)
      contradictions.add(place, () => `${symbols.name(symbol)} with size 0x${symbols.size(symbol).toString(16)}`);
  }
  contradictions.refuse('symbols and sections', 'symbols inside the sections that they name');
}

interface Kallsyms {
  readonly count: number;
  /** By number; NOWHERE for one that is absolute. */
  readonly places: Int32Array;
  /** Type and name, as nm prints them. */
  name(symbol: number): string;
}

function confirmKallsyms(debug: DebugKernel, image: ImageBytes, contradictions: Contradictions): number {
  const kallsyms = openKallsyms(debug, image);
  const { symbols, places, text } = debug;
  const order = symbolsByPlace(debug);
  let next = 0;
  let confirmed = 0;
  const expectLeftOut = (from: number, to: number): void => {
    for (let index = from; index < to; index++) {
      const symbol = order[index]!;
      const place = places[symbol]!;
      if (place < text.start || place >= text.end || LEFT_OUT.test(symbols.name(symbol))) continue;
      contradictions.add(place, () => `${symbols.name(symbol)}, which kallsyms does not have,`);
    }
  };
  for (let first = 0; first < kallsyms.count;) {
    const place = kallsyms.places[first]!;
    let end = first + 1;
    while (end < kallsyms.count && kallsyms.places[end] === place) end++;
    if (place !== NOWHERE) {
      let until = next;
      while (until < order.length && places[order[until]!]! < place) until++;
      expectLeftOut(next, until);
      next = until;
      while (until < order.length && places[order[until]!] === place) until++;
      const here = [...order.subarray(next, until)];
      for (let entry = first; entry < end; entry++) {
        const name = kallsyms.name(entry);
        const found = here.findIndex((symbol) => symbols.name(symbol) === name.slice(1));
        const [symbol] = found < 0 ? [] : here.splice(found, 1);
        if (symbol === undefined) contradictions.add(place, () => `no symbol ${name.slice(1)}, which kallsyms has,`);
        else if (!isBoundAs(name.charCodeAt(0), symbols.info(symbol) >> 4))
          contradictions.add(place, () => `${name.slice(1)}, which kallsyms has as ${name.slice(0, 1)},`);
        else confirmed++;
      }
      for (const symbol of here)
        if (place >= text.start && place < text.end && !LEFT_OUT.test(symbols.name(symbol)))
          contradictions.add(place, () => `${symbols.name(symbol)}, which kallsyms does not have,`);
      next = until;
    }
    first = end;
  }
  expectLeftOut(next, order.length);
  contradictions.refuse('symbols', 'the names and addresses that kallsyms has in the kernel');
  return confirmed;
}

/** Whether a symbol of this binding has this letter in nm's listing: capitals are global, save those of weak ones. */
function isBoundAs(letter: number, binding: number): boolean {
  const lower = letter | 0x20;
  if (lower === 0x77 || lower === 0x76) return binding === STB_WEAK; // w, v
  if (lower === 0x75 || lower === 0x69) return true; // u, i: unique, indirect
  return (letter === lower) === (binding === STB_LOCAL);
}

/** The symbols with names in the image, by rising place; not those of sections and files. */
function symbolsByPlace({ symbols, places }: DebugKernel): Uint32Array {
  const packed = new Float64Array(symbols.count);
  let count = 0;
  for (let symbol = 1; symbol < symbols.count; symbol++) {
    const type = symbols.info(symbol) & 15;
    if (places[symbol] !== NOWHERE && type !== STT.section && type !== STT_FILE)
      packed[count++] = places[symbol]! * 2 ** 22 + symbol; // places are below 2^30 + 1, symbol numbers below 2^22
  }
  if (symbols.count > 2 ** 22)
    throw new KernelImageError({
      code: 'too-large',
      what: 'debug vmlinux: .symtab',
      found: symbols.count,
      expected: 2 ** 22,
    });
  return Uint32Array.from(packed.subarray(0, count).toSorted(), (key) => key % 2 ** 22);
}

/** Throws KernelImageError for anything that scripts/kallsyms.c does not write. */
function openKallsyms(debug: DebugKernel, image: ImageBytes): Kallsyms {
  const { bytes, view } = image;
  const at = (name: string, length: number): FileOffset => image.at(debug.need(name), length, name);
  const count = view.getUint32(at('kallsyms_num_syms', 4), true);
  const offsets = at('kallsyms_offsets', count * 4);
  const markers = at('kallsyms_markers', Math.ceil(count / MARKER_EVERY) * 4);
  const names = at('kallsyms_names', count);
  const basePlace = debug.find('kallsyms_relative_base');
  const base = basePlace === undefined ? 0 : placeOfLow(view.getUint32(at('kallsyms_relative_base', 8), true));

  const begins = new Uint32Array(count + 1);
  let end = names;
  for (let symbol = 0; symbol < count; symbol++) {
    begins[symbol] = end;
    if (symbol % MARKER_EVERY === 0) {
      const marker = markers + (symbol / MARKER_EVERY) * 4;
      if (view.getUint32(marker, true) !== end - names) throw noKallsyms('kallsyms_markers', marker);
    }
    const head = bytes[end] ?? 0;
    const length = head & 0x80 ? (head & 0x7f) + (bytes[end + 1] ?? 0) * 128 : head;
    end += length + (head & 0x80 ? 2 : 1);
    if (length === 0 || length > NAME_AT_MOST || end > bytes.length)
      throw noKallsyms('kallsyms_names', begins[symbol]!);
  }
  begins[count] = end;

  const tokens = readTokens(bytes, view, at('kallsyms_token_table', 1), at('kallsyms_token_index', TOKENS * 2));
  const places = new Int32Array(count);
  let last = 0;
  for (let symbol = 0; symbol < count; symbol++) {
    const value = view.getInt32(offsets + symbol * 4, true);
    const isAbsolute = basePlace !== undefined && value >= 0;
    const place = basePlace === undefined ? debug.need('kallsyms_offsets') + symbol * 4 + value : base - 1 - value;
    places[symbol] = isAbsolute ? NOWHERE : place;
    if (isAbsolute) continue;
    if (place < last) throw noKallsyms('kallsyms_offsets', offsets + symbol * 4);
    last = place;
  }
  const seqs = debug.find('kallsyms_seqs_of_names');
  if (seqs !== undefined) expectPermutation(bytes, image.at(seqs, count * 3, 'kallsyms_seqs_of_names'), count);
  return {
    count,
    places,
    name(symbol) {
      const begin = begins[symbol]!;
      let name = '';
      for (let byte = begin + (bytes[begin]! & 0x80 ? 2 : 1); byte < begins[symbol + 1]!; byte++)
        name += tokens[bytes[byte]!]!;
      if (name.length > NAME_AT_MOST + 1) throw noKallsyms('kallsyms_names', begin);
      return name;
    },
  };
}

/** 256 strings that end in NUL, one after the other, and the offset of each. */
function readTokens(bytes: Uint8Array, view: DataView, table: FileOffset, index: FileOffset): string[] {
  const tokens: string[] = [];
  let at = table;
  for (let token = 0; token < TOKENS; token++) {
    const entry = index + token * 2;
    if (view.getUint16(entry, true) !== at - table) throw noKallsyms('kallsyms_token_index', entry);
    let text = '';
    for (; bytes[at] !== 0; at++) {
      if (at >= bytes.length || text.length > NAME_AT_MOST) throw noKallsyms('kallsyms_token_table', at);
      text += String.fromCharCode(bytes[at]!);
    }
    tokens.push(text);
    at++;
  }
  return tokens;
}

function expectPermutation(bytes: Uint8Array, at: FileOffset, count: number): void {
  const seen = new Uint8Array(count);
  for (let rank = 0, field = at; rank < count; rank++, field += 3) {
    const symbol = (bytes[field]! << 16) | (bytes[field + 1]! << 8) | bytes[field + 2]!;
    if (symbol >= count || seen[symbol] === 1) throw noKallsyms('kallsyms_seqs_of_names', field);
    seen[symbol] = 1;
  }
}

function noKallsyms(what: string, offset: FileOffset): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: `debug vmlinux: what its symbol ${what} names in the kernel`,
    offset,
    expected: 'what scripts/kallsyms.c writes there',
  });
}
