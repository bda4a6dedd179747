/**
 * kallsyms: the kernel's own symbol table (kernel/kallsyms.c, scripts/kallsyms.c), sorted by address. It is in the image itself, so a strip leaves it. This file knows the format of its
 * arrays; who reads it knows where they are: by their symbols (shuffle/tables/kallsyms.ts), or by their structure alone (kallsyms-search.ts).
 *
 *     kallsyms_offsets         s32 a symbol, in one of the forms of `Addresses`
 *     kallsyms_names           a stream: a length of one byte, or two with bit 7 set in the first, then that many bytes of token numbers
 *     kallsyms_markers         u32 (u64 until 4.19): where in the stream each 256th symbol begins
 *     kallsyms_token_table     256 strings, each ended by a zero
 *     kallsyms_token_index     u16: where each of them begins
 *     kallsyms_seqs_of_names   3 bytes a symbol, big-endian, in the order of names: its number. Since 6.2, and in stable 6.1
 *
 * Names are spelled with tokens: each byte of a name stands for a string in kallsyms_token_table, and the first character of the spelled name is the symbol's type, as nm prints it.
 */
import { physToTableEntry } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { cString } from '../base/bytes.ts';

export const MARKER_EVERY = 256;
export const SEQ_SIZE = 3;
export const TOKENS = 256;
/** KSYM_NAME_LEN (512 since 6.1), and the type. */
export const NAME_AT_MOST = 513;

/** How kallsyms_offsets, or kallsyms_addresses, holds an address. */
export type Addresses =
  /** Negative ones count down from kallsyms_relative_base - 1; the others are absolute: per-cpu data that is linked at 0 (KALLSYMS_ABSOLUTE_PERCPU, until 6.14). */
  | { readonly form: 'below base'; readonly base: PhysAddr; readonly at: FileOffset }
  /** u32, counted from kallsyms_relative_base. */
  | { readonly form: 'above base'; readonly base: PhysAddr; readonly at: FileOffset }
  /** Counted from the field's own place, which for the first one is `place` (7.3). */
  | { readonly form: 'own place'; readonly place: PhysAddr; readonly at: FileOffset }
  /** Addresses of 8 bytes: a kernel without KALLSYMS_BASE_RELATIVE. */
  | { readonly form: 'addresses'; readonly at: FileOffset };

export interface KallsymsArrays {
  readonly count: number;
  readonly addresses: Addresses;
  readonly names: FileOffset;
  readonly tokens: FileOffset;
  readonly tokenIndex: FileOffset;
}

/** The place of a symbol that has none in the image. */
export const ABSOLUTE = -1;

/** The place of a symbol, or ABSOLUTE. */
export function symbolPlace(view: DataView, addresses: Addresses, symbol: number): PhysAddr {
  const { form, at } = addresses;
  if (form === 'addresses') {
    const place = view.getUint32(at + symbol * 8, true) - 0x8000_0000;
    return view.getInt32(at + symbol * 8 + 4, true) === -1 && place >= 0 ? place : ABSOLUTE;
  }
  const value = view.getInt32(at + symbol * 4, true);
  if (form === 'own place') return addresses.place + symbol * 4 + value;
  if (form === 'above base') return addresses.base + (value >>> 0);
  return value >= 0 ? ABSOLUTE : addresses.base - 1 - value;
}

/** Gives a symbol another place. It must have one already. */
export function setSymbolPlace(view: DataView, addresses: Addresses, symbol: number, place: PhysAddr): void {
  const { form, at } = addresses;
  if (form === 'addresses') view.setUint32(at + symbol * 8, physToTableEntry(place), true);
  else if (form === 'own place') view.setInt32(at + symbol * 4, place - (addresses.place + symbol * 4), true);
  else
    view.setInt32(at + symbol * 4, form === 'above base' ? place - addresses.base : addresses.base - 1 - place, true);
}

/** Where each symbol's name begins in the file, and after the last of them where the stream ends; undefined if that is after `end`. */
export function nameOffsets(
  bytes: Uint8Array,
  { names, count }: Pick<KallsymsArrays, 'names' | 'count'>,
  end = bytes.length,
): Uint32Array | undefined {
  const begins = new Uint32Array(count + 1);
  let at = names;
  for (let symbol = 0; symbol < count; symbol++) {
    begins[symbol] = at;
    at = nextName(bytes, at);
  }
  begins[count] = at;
  return at > end ? undefined : begins;
}

/** Where the name after the one at `at` begins. */
export function nextName(bytes: Uint8Array, at: FileOffset): FileOffset {
  const length = bytes[at] ?? 0;
  return length & 0x80 ? at + 2 + ((length & 0x7f) | ((bytes[at + 1] ?? 0) << 7)) : at + 1 + length;
}

/** The first byte of the name at `begin`, after its length. */
export function nameTokens(bytes: Uint8Array, begin: FileOffset): FileOffset {
  return begin + (bytes[begin]! & 0x80 ? 2 : 1);
}

export function readTokens(
  bytes: Uint8Array,
  view: DataView,
  { tokens, tokenIndex }: Pick<KallsymsArrays, 'tokens' | 'tokenIndex'>,
): string[] {
  return Array.from({ length: TOKENS }, (_, token) =>
    cString(bytes, tokens + view.getUint16(tokenIndex + token * 2, true), NAME_AT_MOST),
  );
}

/** The type and the name of the symbol whose name begins at `begin`; longer than NAME_AT_MOST, and not whole, for one that is no name. */
export function spell(bytes: Uint8Array, tokens: readonly string[], begin: FileOffset, end: FileOffset): string {
  let name = '';
  for (let at = nameTokens(bytes, begin); at < end && name.length <= NAME_AT_MOST; at++) name += tokens[bytes[at]!]!;
  return name;
}
