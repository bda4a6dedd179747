/** kallsyms as scripts/kallsyms.c of each release writes it, for kernels that tests make. */
import { ascii, Writer } from '../../src/base/bytes.ts';

export interface TestSymbol {
  /** In the image; of an absolute symbol the value. */
  readonly place: number;
  readonly isAbsolute?: boolean;
  /** As nm prints it. */
  readonly type: string;
  readonly name: string;
}

/** The layouts of the releases. */
export const LAYOUTS = {
  '4.15': { order: 'addresses first', form: 'below base', align: 8, marker: 8, seqs: false },
  '5.10': { order: 'addresses first', form: 'below base', align: 8, marker: 4, seqs: false },
  '5.10 without KALLSYMS_BASE_RELATIVE': {
    order: 'addresses first',
    form: 'addresses',
    align: 8,
    marker: 4,
    seqs: false,
  },
  '6.2': { order: 'addresses first', form: 'below base', align: 8, marker: 4, seqs: true },
  '6.2 without SMP': { order: 'addresses first', form: 'above base', align: 8, marker: 4, seqs: true },
  '6.12': { order: 'addresses last', form: 'below base', align: 8, marker: 4, seqs: true },
  '6.12 without KALLSYMS_BASE_RELATIVE': {
    order: 'addresses last',
    form: 'addresses',
    align: 8,
    marker: 4,
    seqs: true,
  },
  '6.19': { order: 'addresses last', form: 'above base', align: 8, marker: 4, seqs: true },
  '7.3': { order: 'addresses last', form: 'own place', align: 4, marker: 4, seqs: true },
} as const;
export type Layout = (typeof LAYOUTS)[keyof typeof LAYOUTS];

/** Where the arrays begin, from the start of all of them. */
export interface MadeKallsyms {
  readonly bytes: Uint8Array;
  readonly at: Readonly<
    Record<'offsets' | 'base' | 'count' | 'names' | 'markers' | 'seqs' | 'tokens' | 'index', number>
  >;
}

/** Tokens that stand for more than a character. The bytes of printable characters stand for themselves, and all others for nothing. */
const LONG_TOKENS: Readonly<Record<number, string>> = { 0x80: 'tfunc', 0x81: 'tion_', 0x82: 'phys_', 0xff: 'Dp' };

function tokenOf(byte: number): string {
  if (byte > 0x20 && byte < 0x7f) return String.fromCharCode(byte);
  return LONG_TOKENS[byte] ?? '';
}

function compress(text: string): number[] {
  const found: number[] = [];
  for (let at = 0; at < text.length;) {
    const [byte, token] = Object.entries(LONG_TOKENS).find(([, long]) => text.startsWith(long, at)) ?? [
      text.charCodeAt(at),
      text[at]!,
    ];
    found.push(Number(byte));
    at += token.length;
  }
  return found;
}

/** `symbols`, by rising place, the absolute ones first. `place` is where the first array will be. */
export function makeKallsyms(symbols: readonly TestSymbol[], layout: Layout, place: number): MadeKallsyms {
  const { order, form, align, marker, seqs } = layout;
  const writer = new Writer(new Uint8Array(0x10_0000));
  const at = { offsets: 0, base: 0, count: 0, names: 0, markers: 0, seqs: 0, tokens: 0, index: 0 };
  let end = 0;
  const begin = (array: keyof typeof at): void => {
    end = Math.ceil(end / align) * align;
    at[array] = end;
  };
  const base = symbols.find(({ isAbsolute }) => isAbsolute !== true)!.place;
  const link = (value: number): bigint => 0xffff_ffff_8000_0000n + BigInt(value);

  const putAddresses = (): void => {
    begin('offsets');
    for (const { place: value, isAbsolute } of symbols) {
      if (form === 'addresses') writer.u64(end, isAbsolute === true ? value : link(value));
      else if (form === 'above base') writer.u32(end, value - base);
      else if (form === 'own place') writer.u32(end, (value - place - end) >>> 0);
      else writer.u32(end, isAbsolute === true ? value : (base - 1 - value) >>> 0);
      end += form === 'addresses' ? 8 : 4;
    }
    if (form === 'addresses' || form === 'own place') return;
    begin('base');
    writer.u64(end, link(base));
    end += 8;
  };
  const putSeqs = (): void => {
    begin('seqs');
    const byName = [...symbols.keys()].toSorted((a, b) => (symbols[a]!.name < symbols[b]!.name ? -1 : 1));
    for (const symbol of byName) {
      writer.copy(end, Uint8Array.of(symbol >> 16, symbol >> 8, symbol));
      end += 3;
    }
  };
  const putNames = (): void => {
    begin('count');
    writer.u32(end, symbols.length);
    end += 4;
    begin('names');
    const markers: number[] = [];
    symbols.forEach(({ type, name }, symbol) => {
      if (symbol % 256 === 0) markers.push(end - at.names);
      const tokens = compress(type + name);
      const { length } = tokens;
      if (length > 127) writer.u8(end++, 0x80 | (length & 0x7f));
      writer.u8(end++, length > 127 ? length >> 7 : length);
      writer.copy(end, Uint8Array.from(tokens));
      end += length;
    });
    begin('markers');
    for (const value of markers) {
      writer.uint(end, marker, value);
      end += marker;
    }
  };
  const putTokens = (): void => {
    begin('tokens');
    const begins = Array.from({ length: 256 }, (_, byte) => {
      const first = end - at.tokens;
      writer.copy(end, ascii(tokenOf(byte)));
      end += tokenOf(byte).length + 1;
      return first;
    });
    begin('index');
    for (const first of begins) {
      writer.u16(end, first);
      end += 2;
    }
  };

  if (order === 'addresses first') putAddresses();
  putNames();
  if (seqs && order === 'addresses first') putSeqs();
  putTokens();
  if (order === 'addresses last') {
    putAddresses();
    putSeqs();
  }
  return { bytes: writer.bytes.slice(0, end), at };
}
