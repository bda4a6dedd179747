/**
 * Symbol and string tables, read in place. No object is made for a symbol: a kernel has 120,000 of them, and few matter. Names are compared as bytes
 * in the string table, and made into text only to be shown or matched.
 */
import { ascii, cString, viewOf } from '../../base/bytes.ts';
import { SHN_XINDEX } from '../../elf/constants.ts';
import { SYM, SYM_SIZE } from '../../elf/fields.ts';
import type { Field } from '../../elf/fields.ts';
import { KernelImageError } from '../../base/errors.ts';

/** Callers pass symbol numbers less than `count`; `checkSymbol` of a relocation section throws for others. */
export interface SymbolTable {
  readonly count: number;
  /** st_shndx as it is in the file: may be SHN_ABS, SHN_XINDEX and the like. */
  shndx(symbol: number): number;
  /** The section number with SHN_XINDEX resolved. May be SHN_ABS and the like. */
  sectionIndex(symbol: number): number;
  value(symbol: number): bigint;
  size(symbol: number): bigint;
  info(symbol: number): number;
  other(symbol: number): number;
  /** Whether it has a name of its own. */
  isNamed(symbol: number): boolean;
  /** The symbol's name, one character for each byte. Symbols without a name, such as section symbols, have their section's. */
  name(symbol: number): string;
  /** Number of the first symbol with this name, or -1. */
  find(name: string): number;
  /** For each symbol, what `kindOf` returns for its st_shndx. */
  classify(kindOf: (shndx: number) => number): Uint8Array;
}

interface SymbolTableParts {
  readonly bits: 32 | 64;
  readonly bytes: Uint8Array;
  readonly names: () => Uint8Array;
  /** Contents of SHT_SYMTAB_SHNDX: a u32 for each symbol. */
  readonly extendedIndexes: () => Uint8Array;
  readonly sectionTitle: (index: number) => string;
}

export function makeSymbolTable(parts: SymbolTableParts): SymbolTable {
  const { bits, bytes, names, extendedIndexes, sectionTitle } = parts;
  const view = viewOf(bytes);
  const size = SYM_SIZE[bits];
  const layout = SYM[bits];
  // Plain numbers for the loops over all symbols.
  const nameOffset: number = layout.st_name[0];
  const shndxOffset: number = layout.st_shndx[0];
  const count = Math.floor(bytes.length / size);
  const address = (symbol: number, [offset]: Field): bigint =>
    bits === 64
      ? view.getBigUint64(symbol * size + offset, true)
      : BigInt(view.getUint32(symbol * size + offset, true));
  const shndx = (symbol: number): number => view.getUint16(symbol * size + shndxOffset, true);
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
    value: (symbol) => address(symbol, layout.st_value),
    size: (symbol) => address(symbol, layout.st_size),
    info: (symbol) => view.getUint8(symbol * size + layout.st_info[0]),
    other: (symbol) => view.getUint8(symbol * size + layout.st_other[0]),
    isNamed: (symbol) => view.getUint32(symbol * size + nameOffset, true) !== 0,
    name(symbol) {
      const offset = view.getUint32(symbol * size + nameOffset, true);
      if (offset === 0) return sectionTitle(sectionIndex(symbol));
      return nameAt(names(), offset, `st_name of symbol ${symbol}`);
    },
    find(name) {
      // The kernel's tool does not read the names of an empty table, so a broken name table must not be refused here.
      if (count === 0) return -1;
      const wanted = ascii(`${name}\0`);
      const strings = names();
      const end = name.length; // compare this byte first: few names have their NUL here
      for (let symbol = 0, at = nameOffset; symbol < count; symbol++, at += size) {
        const offset = view.getUint32(at, true);
        if (strings[offset + end] === 0 && offset !== 0 && matchesAt(strings, offset, wanted)) return symbol;
      }
      return -1;
    },
    classify(kindOf) {
      const kinds = new Uint8Array(count);
      for (let symbol = 0, at = shndxOffset; symbol < count; symbol++, at += size)
        kinds[symbol] = kindOf(view.getUint16(at, true));
      return kinds;
    },
  };
}

/** Whether `wanted`, a name with its NUL, is at `at`. */
export function matchesAt(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  let index = 0;
  while (index < wanted.length && bytes[at + index] === wanted[index]) index++;
  return index === wanted.length;
}

/** The kernel's own limit, KSYM_NAME_LEN, is 512. Without one, a small file could cause any amount of work by giving every symbol the same long name. */
const NAME_AT_MOST = 4096;

/**
 * The name at `offset`, one character for each byte, up to a NUL or the table's end. Throws if `offset` is not in the table, and for a name of more than
 * NAME_AT_MOST bytes.
 */
export function nameAt(names: Uint8Array, offset: number, what: string): string {
  if (offset < names.length) {
    const name = cString(names, offset, NAME_AT_MOST + 1);
    if (name.length <= NAME_AT_MOST) return name;
    throw new KernelImageError({
      code: 'too-large',
      what: `the name that ${what} leads to`,
      offset,
      expected: `a NUL after at most 0x${NAME_AT_MOST.toString(16)} bytes`,
    });
  }
  throw new KernelImageError({
    code: 'bad-value',
    what,
    found: offset,
    expected: `an offset below 0x${names.length.toString(16)}, the size of its string table`,
  });
}
