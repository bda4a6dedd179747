/**
 * kallsyms when functions move. Its format is in kernel/kallsyms.ts; here its arrays are found by their symbols, and written for a new layout. Four of them are permuted together: kallsyms_offsets, kallsyms_names,
 * kallsyms_markers, and kallsyms_seqs_of_names.
 *
 * Only symbols of .text change places, and only with each other. All others are left unchanged. Symbols at one address keep their order.
 */
import { START_KERNEL_MAP } from '../../base/addresses.ts';
import type { FileOffset } from '../../base/addresses.ts';
import { ascii, copyOf, viewOf } from '../../base/bytes.ts';
import { KernelImageError } from '../../base/errors.ts';
import {
  ABSOLUTE,
  MARKER_EVERY,
  NAME_AT_MOST,
  nameOffsets,
  readTokens,
  SEQ_SIZE,
  setSymbolPlace,
  spell,
  symbolPlace,
} from '../../kernel/kallsyms.ts';
import type { KallsymsArrays } from '../../kernel/kallsyms.ts';
import type { OwnerOf } from '../analyse/units.ts';
import { orderOf } from '../layout/layout.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ImageBytes } from '../read/kernel-image.ts';

export interface KallsymsData extends KallsymsArrays {
  readonly markers: FileOffset;
  /** 0 for a kernel without kallsyms_seqs_of_names. */
  readonly seqs: FileOffset;
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
  const seqsPlace = debug.find('kallsyms_seqs_of_names');
  const data = {
    count,
    addresses: hasBase
      ? ({
          form: 'below base',
          base: placeOfLow(view.getUint32(at('kallsyms_relative_base', 8), true)),
          at: offsets,
        } as const)
      : ({ form: 'own place', place: debug.need('kallsyms_offsets'), at: offsets } as const),
    names: image.at(namesPlace, count * 2, 'kallsyms_names'),
    markers: at('kallsyms_markers', Math.ceil(count / MARKER_EVERY) * 4),
    seqs: seqsPlace === undefined ? 0 : image.at(seqsPlace, count * SEQ_SIZE, 'kallsyms_seqs_of_names'),
    tokens: at('kallsyms_token_table', 1),
    tokenIndex: at('kallsyms_token_index', 512),
  };
  const { text } = debug;
  const places: number[] = [];
  let first = -1;
  let last = -1;
  for (let symbol = 0; symbol < count; symbol++) {
    const place = symbolPlace(view, data.addresses, symbol);
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

/** Throws when the stream of names ends outside `bytes`. */
function needNameOffsets(bytes: Uint8Array, arrays: KallsymsArrays): Uint32Array {
  const begins = nameOffsets(bytes, arrays);
  if (begins === undefined) throw unsupported('kallsyms_names', 'a stream that ends inside the file', arrays.names);
  return begins;
}

export function writeKallsyms(bytes: Uint8Array, view: DataView, table: KallsymsData, shifts: Int32Array): void {
  const { addresses, count, names, markers, seqs, first, places, owners } = table;
  const placed = places.map((place, index) => place + shifts[owners[index]!]!);
  const order = orderOf(placed);
  const begins = needNameOffsets(bytes, table);
  const stream = copyOf(bytes.subarray(names, begins[count]));
  let at = begins[first]!;
  for (let index = 0; index < order.length; index++) {
    const old = order[index]!;
    const symbol = first + index;
    const place = placed[old]!;
    setSymbolPlace(view, addresses, symbol, place);
    if (symbol % MARKER_EVERY === 0) view.setUint32(markers + (symbol / MARKER_EVERY) * 4, at - names, true);
    for (let from = begins[first + old]! - names, end = begins[first + old + 1]! - names; from < end; from++)
      bytes[at++] = stream[from]!;
  }
  if (seqs === 0) return;
  const numbers = new Uint32Array(order.length);
  for (let index = 0; index < order.length; index++) numbers[order[index]!] = first + index;
  for (let rank = 0, field = seqs; rank < count; rank++, field += SEQ_SIZE) {
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
  const tokens = readTokens(bytes, view, table);
  const begins = needNameOffsets(bytes, table);
  const lines: string[] = [];
  let length = 0;
  for (let symbol = 0; symbol < table.count; symbol++) {
    const begin = begins[symbol]!;
    const name = spell(bytes, tokens, begin, begins[symbol + 1]!);
    // A name of a byte may stand for a string of any length: the text must not be larger than what it is made from.
    length += name.length;
    if (name.length > NAME_AT_MOST || length > bytes.length)
      throw unsupported('kallsyms_names', `names of up to ${NAME_AT_MOST} characters`, begin);
    const place = symbolPlace(view, table.addresses, symbol);
    const address =
      place === ABSOLUTE
        ? BigInt(view.getInt32(table.addresses.at + symbol * 4, true))
        : START_KERNEL_MAP + BigInt(place);
    lines.push(`${address.toString(16).padStart(16, '0')} ${name.slice(0, 1)} ${name.slice(1)}\n`);
  }
  return ascii(lines.join(''));
}

function unsupported(what: string, expected: string, offset: FileOffset): KernelImageError {
  return new KernelImageError({ code: 'unsupported', what, offset, expected });
}
