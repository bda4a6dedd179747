/**
 * Symbol and string tables, read in place: no object a symbol, for a kernel has 120,000 of them and few matter. Names are bytes, compared where
 * they stand and made into text only to be shown or matched.
 */
import { ascii, cString, viewOf } from '../../base/bytes.ts';
import { SHN_XINDEX } from '../../elf/constants.ts';
import { KernelImageError } from '../../base/errors.ts';

/** Offsets in Elf32_Sym and Elf64_Sym. */
const SYM = {
  32: { st_name: 0, st_value: 4, st_size: 8, st_info: 12, st_other: 13, st_shndx: 14 },
  64: { st_name: 0, st_value: 8, st_size: 16, st_info: 4, st_other: 5, st_shndx: 6 },
} as const;
export const SYM_SIZE = { 32: 16, 64: 24 } as const;

/** Symbols are named by their number, which must be less than `count`; `checkSymbol` says so in words. */
export interface SymbolTable {
  readonly count: number;
  /** st_shndx as it stands there, SHN_ABS and SHN_XINDEX among others. */
  shndx(symbol: number): number;
  /** The real section number after SHN_XINDEX; SHN_ABS and the like as they are. */
  sectionIndex(symbol: number): number;
  value(symbol: number): bigint;
  size(symbol: number): bigint;
  info(symbol: number): number;
  other(symbol: number): number;
  /** Its own, or its section's when it has none, as section symbols; each byte one character. */
  name(symbol: number): string;
  /** Number of the first symbol with this name, or -1. */
  find(name: string): number;
  /** `kindOf` each symbol's st_shndx. */
  classify(kindOf: (shndx: number) => number): Uint8Array;
}

interface SymbolTableParts {
  readonly bits: 32 | 64;
  readonly bytes: Uint8Array;
  readonly names: () => Uint8Array;
  /** Contents of SHT_SYMTAB_SHNDX: a u32 a symbol. */
  readonly extendedIndexes: () => Uint8Array;
  readonly sectionTitle: (index: number) => string;
}

export function makeSymbolTable(parts: SymbolTableParts): SymbolTable {
  const { bits, bytes, names, extendedIndexes, sectionTitle } = parts;
  const view = viewOf(bytes);
  const size = SYM_SIZE[bits];
  const offsets = SYM[bits];
  const count = Math.floor(bytes.length / size);
  const wide = (symbol: number, offset: number): bigint =>
    bits === 64
      ? view.getBigUint64(symbol * size + offset, true)
      : BigInt(view.getUint32(symbol * size + offset, true));
  const shndx = (symbol: number): number => view.getUint16(symbol * size + offsets.st_shndx, true);
  const sectionIndex = (symbol: number): number => {
    const index = shndx(symbol);
    if (index !== SHN_XINDEX) return index;
    const extended = extendedIndexes();
    if (symbol * 4 + 4 <= extended.length) return viewOf(extended).getUint32(symbol * 4, true);
    throw new KernelImageError({
      code: 'truncated',
      what: `extended section number of symbol ${symbol}`,
      offset: symbol * 4,
      expected: `4 bytes before the section's end at 0x${extended.length.toString(16)}`,
    });
  };
  return {
    count,
    shndx,
    sectionIndex,
    value: (symbol) => wide(symbol, offsets.st_value),
    size: (symbol) => wide(symbol, offsets.st_size),
    info: (symbol) => view.getUint8(symbol * size + offsets.st_info),
    other: (symbol) => view.getUint8(symbol * size + offsets.st_other),
    name(symbol) {
      const offset = view.getUint32(symbol * size + offsets.st_name, true);
      if (offset === 0) return sectionTitle(sectionIndex(symbol));
      return nameAt(names(), offset, `st_name of symbol ${symbol}`);
    },
    find(name) {
      // An empty table needs no names, and the kernel's tool looks for none.
      if (count === 0) return -1;
      const wanted = ascii(`${name}\0`);
      const strings = names();
      const end = name.length; // few names have their NUL where this one has it
      for (let symbol = 0, at: number = offsets.st_name; symbol < count; symbol++, at += size) {
        const offset = view.getUint32(at, true);
        if (strings[offset + end] === 0 && offset !== 0 && matchesAt(strings, offset, wanted)) return symbol;
      }
      return -1;
    },
    classify(kindOf) {
      const kinds = new Uint8Array(count);
      for (let symbol = 0, at: number = offsets.st_shndx; symbol < count; symbol++, at += size)
        kinds[symbol] = kindOf(view.getUint16(at, true));
      return kinds;
    },
  };
}

/** Whether `wanted`, a name with its NUL, stands at `at`. */
export function matchesAt(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  let index = 0;
  while (index < wanted.length && bytes[at + index] === wanted[index]) index++;
  return index === wanted.length;
}

/** The name at `offset`, each byte one character. Throws when it is not in the table; the table's end ends a name as well. */
export function nameAt(names: Uint8Array, offset: number, what: string): string {
  if (offset < names.length) return cString(names, offset, names.length);
  throw new KernelImageError({
    code: 'bad-value',
    what,
    found: offset,
    expected: `an offset below 0x${names.length.toString(16)}, the size of its string table`,
  });
}
