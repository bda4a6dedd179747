/**
 * kallsyms: the kernel's own symbol table (kernel/kallsyms.c, scripts/kallsyms.c), sorted by address. Four arrays are permuted together:
 *
 *     kallsyms_offsets         s32 a symbol: negative ones count down from kallsyms_relative_base - 1; the others are per-cpu, and absolute.
 *                              Without a kallsyms_relative_base (7.3) each is relative to its own place, and none is absolute
 *     kallsyms_names           a stream: a length of one byte, or two with bit 7 set in the first, then that many bytes of token numbers
 *     kallsyms_markers         u32: where in the stream each 256th symbol begins
 *     kallsyms_seqs_of_names   3 bytes a symbol, big-endian, in the order of names: its number. Since 6.2, and in stable 6.1
 *
 * Only symbols of .text change places, and only with each other. All others are left unchanged. Symbols at one address keep their order.
 *
 * Names are spelled with tokens (scripts/kallsyms.c): each byte of a name stands for a string in kallsyms_token_table, and the first character of the
 * spelled name is the symbol's type.
 */
import { START_KERNEL_MAP } from '../../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import { ascii, copyOf, cString, viewOf } from '../../base/bytes.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { OwnerOf } from '../analyse/units.ts';
import { orderOf } from '../layout/layout.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ImageBytes } from '../read/kernel-image.ts';

const MARKER_EVERY = 256;
const SEQ = 3;
const TOKENS = 256;
/** KSYM_NAME_LEN (512 since 6.1), and the type. */
const NAME_AT_MOST = 513;

export interface KallsymsData {
  /** The place that kallsyms_relative_base holds; 0 for a kernel without one, whose offsets are relative to their own places. */
  readonly base: PhysAddr;
  /** The place of kallsyms_offsets itself. */
  readonly offsetsPlace: PhysAddr;
  readonly count: number;
  readonly offsets: FileOffset;
  readonly names: FileOffset;
  readonly markers: FileOffset;
  /** 0 for a kernel without kallsyms_seqs_of_names. */
  readonly seqs: FileOffset;
  readonly tokens: FileOffset;
  readonly tokenIndex: FileOffset;
  /** Symbols first … first + places.length - 1 lie in .text. */
  readonly first: number;
  readonly places: Uint32Array;
  readonly owners: Uint32Array;
}

/** Undefined for a kernel without CONFIG_KALLSYMS. */
export function readKallsyms(debug: DebugKernel, image: ImageBytes, ownerOf: OwnerOf): KallsymsData | undefined {
  const namesPlace = debug.find('kallsyms_names');
  if (namesPlace === undefined) return undefined;
  const { view } = image;
  const at = (name: string, width: number): FileOffset => image.at(debug.need(name), width, name);
  const count = view.getUint32(at('kallsyms_num_syms', 4), true);
  const offsets = at('kallsyms_offsets', count * 4);
  const hasBase = debug.find('kallsyms_relative_base') !== undefined;
  const base = hasBase ? placeOfLow(view.getUint32(at('kallsyms_relative_base', 8), true)) : 0;
  const seqsPlace = debug.find('kallsyms_seqs_of_names');
  const data = {
    base,
    offsetsPlace: debug.need('kallsyms_offsets'),
    count,
    offsets,
    names: image.at(namesPlace, count * 2, 'kallsyms_names'),
    markers: at('kallsyms_markers', Math.ceil(count / MARKER_EVERY) * 4),
    seqs: seqsPlace === undefined ? 0 : image.at(seqsPlace, count * SEQ, 'kallsyms_seqs_of_names'),
    tokens: at('kallsyms_token_table', 1),
    tokenIndex: at('kallsyms_token_index', 512),
  };
  const { text } = debug;
  const places: number[] = [];
  let first = -1;
  let last = -1;
  for (let symbol = 0; symbol < count; symbol++) {
    const place = symbolPlace(view, data, symbol);
    if (place === ABSOLUTE) continue;
    if (place < last) throw unsupported('kallsyms_offsets', 'symbols by rising address', offsets + symbol * 4);
    last = place;
    if (place < text.start || place > text.end) continue;
    if (first < 0) first = symbol;
    places.push(place);
  }
  if (first < 0) throw unsupported('kallsyms_offsets', 'symbols of .text, relative to the base', offsets);
  return { ...data, first, places: new Uint32Array(places), owners: new Uint32Array(places.map(ownerOf)) };
}

/** The place of a symbol that has none in the image. */
const ABSOLUTE = -1;

/** The place of a symbol, or ABSOLUTE. */
function symbolPlace(
  view: DataView,
  { base, offsetsPlace, offsets }: Pick<KallsymsData, 'base' | 'offsetsPlace' | 'offsets'>,
  symbol: number,
): PhysAddr {
  const value = view.getInt32(offsets + symbol * 4, true);
  if (base === 0) return offsetsPlace + symbol * 4 + value;
  return value >= 0 ? ABSOLUTE : base - 1 - value;
}

/** Where each symbol's name begins in the file, and after the last of them where the stream ends. Throws when that is outside `bytes`. */
function nameOffsets(bytes: Uint8Array, { names, count }: Pick<KallsymsData, 'names' | 'count'>): Uint32Array {
  const begins = new Uint32Array(count + 1);
  let at = names;
  for (let symbol = 0; symbol < count; symbol++) {
    begins[symbol] = at;
    const length = bytes[at] ?? 0;
    at += length & 0x80 ? 2 + ((length & 0x7f) | ((bytes[at + 1] ?? 0) << 7)) : 1 + length;
  }
  if (at > bytes.length) throw unsupported('kallsyms_names', 'a stream that ends inside the file', names);
  begins[count] = at;
  return begins;
}

export function writeKallsyms(bytes: Uint8Array, view: DataView, table: KallsymsData, shifts: Int32Array): void {
  const { base, offsetsPlace, count, offsets, names, markers, seqs, first, places, owners } = table;
  const placed = places.map((place, index) => place + shifts[owners[index]!]!);
  const order = orderOf(placed);
  const begins = nameOffsets(bytes, table);
  const stream = copyOf(bytes.subarray(names, begins[count]));
  let at = begins[first]!;
  for (let index = 0; index < order.length; index++) {
    const old = order[index]!;
    const symbol = first + index;
    const place = placed[old]!;
    view.setInt32(offsets + symbol * 4, base === 0 ? place - (offsetsPlace + symbol * 4) : base - 1 - place, true);
    if (symbol % MARKER_EVERY === 0) view.setUint32(markers + (symbol / MARKER_EVERY) * 4, at - names, true);
    for (let from = begins[first + old]! - names, end = begins[first + old + 1]! - names; from < end; from++)
      bytes[at++] = stream[from]!;
  }
  if (seqs === 0) return;
  const numbers = new Uint32Array(order.length);
  for (let index = 0; index < order.length; index++) numbers[order[index]!] = first + index;
  for (let rank = 0, field = seqs; rank < count; rank++, field += SEQ) {
    const symbol = (bytes[field]! << 16) | (bytes[field + 1]! << 8) | bytes[field + 2]!;
    if (symbol < first || symbol - first >= numbers.length) continue;
    const number = numbers[symbol - first]!;
    bytes[field] = number >> 16;
    bytes[field + 1] = number >> 8;
    bytes[field + 2] = number;
  }
}

/** The kernel's System.map, as `nm -n` would print it: one line a symbol, with address, type and name. `bytes` is the kernel's ELF file. */
export function systemMap(bytes: Uint8Array, table: KallsymsData): Uint8Array {
  const view = viewOf(bytes);
  const tokens = Array.from({ length: TOKENS }, (_, token) =>
    cString(bytes, table.tokens + view.getUint16(table.tokenIndex + token * 2, true), NAME_AT_MOST),
  );
  const begins = nameOffsets(bytes, table);
  const lines: string[] = [];
  let length = 0;
  for (let symbol = 0; symbol < table.count; symbol++) {
    const begin = begins[symbol]!;
    const first = begin + (bytes[begin]! & 0x80 ? 2 : 1);
    let name = '';
    for (let at = first; at < begins[symbol + 1]! && name.length <= NAME_AT_MOST; at++) name += tokens[bytes[at]!]!;
    // A name of a byte may stand for a string of any length: the text must not be larger than what it is made from.
    length += name.length;
    if (name.length > NAME_AT_MOST || length > bytes.length)
      throw unsupported('kallsyms_names', `names of up to ${NAME_AT_MOST} characters`, begin);
    const place = symbolPlace(view, table, symbol);
    const address =
      place === ABSOLUTE ? BigInt(view.getInt32(table.offsets + symbol * 4, true)) : START_KERNEL_MAP + BigInt(place);
    lines.push(`${address.toString(16).padStart(16, '0')} ${name.slice(0, 1)} ${name.slice(1)}\n`);
  }
  return ascii(lines.join(''));
}

function unsupported(what: string, expected: string, offset: FileOffset): KernelImageError {
  return new KernelImageError({ code: 'unsupported', what, offset, expected });
}
