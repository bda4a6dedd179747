/**
 * What the kernel's symbols say, where the file has any: .symtab, which the kernel build's own strip leaves, and kallsyms, which is in the image of nearly every kernel. Three things are asked of them: where functions
 * begin, where phys_base is, and whether a place has a symbol. All are compared with what was found without them.
 */
import { virtToPhys } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { cString, viewOf } from '../base/bytes.ts';
import { lastAtOrBelow } from '../base/search.ts';
import { SHT_SYMTAB } from '../elf/constants.ts';
import { searchKallsyms } from '../kernel/kallsyms-search.ts';
import type { Kallsyms } from '../kernel/kallsyms-search.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';

const ENTRY = 24;
const STT_FUNC = 2;
const PHYS_BASE = 'phys_base';

export const SYMBOL_SOURCES = ['.symtab', 'kallsyms'] as const;
export type SymbolSource = (typeof SYMBOL_SOURCES)[number];

export interface Symbols {
  readonly source: SymbolSource;
  /** Where functions begin; of kallsyms, which has no sizes and no types but nm's, all symbols of code. */
  readonly functions: ArrayLike<PhysAddr>;
  readonly physBase: PhysAddr | undefined;
  readonly hasSymbolAt: (place: PhysAddr) => boolean;
  /** `function+0x12`; undefined where there is no symbol right before a place. */
  readonly describe: (place: PhysAddr) => string | undefined;
}

/** Those that the file has, .symtab first. */
export function readSymbols(kernel: Vmlinux): Symbols[] {
  const kallsyms = searchKallsyms(kernel);
  return [readSymtab(kernel), kallsyms === undefined ? undefined : ofKallsyms(kallsyms)].filter(
    (symbols) => symbols !== undefined,
  );
}

/** What is further from a symbol is hardly part of what it names. */
const NEAR = 0x1_0000;
/** Types of symbols of code: local and global, and weak ones. */
const CODE_TYPES = new Set([...'tTwW'].map((letter) => letter.charCodeAt(0)));

function ofKallsyms({ places, types, find, nameOf }: Kallsyms): Symbols {
  const physBase = find(PHYS_BASE);
  return {
    source: 'kallsyms',
    functions: places.filter((place, symbol) => place >= 0 && CODE_TYPES.has(types[symbol]!)),
    physBase: physBase === undefined ? undefined : places[physBase]!,
    hasSymbolAt: (place) => places[lastAtOrBelow(places, place)] === place,
    describe: (place) => {
      const symbol = lastAtOrBelow(places, place);
      const start = places[symbol];
      if (start === undefined || start < 0 || place - start > NEAR) return undefined;
      return `${nameOf(symbol)}+0x${(place - start).toString(16)}`;
    },
  };
}

/** Undefined for a file without .symtab, or with one that is not whole. */
function readSymtab({ elf: { bytes, sections } }: Vmlinux): Symbols | undefined {
  const table = sections.find(({ type }) => type === SHT_SYMTAB);
  const names = table === undefined ? undefined : sections[table.link];
  if (table === undefined || names === undefined || table.offset + table.size > bytes.length) return undefined;
  const view = viewOf(bytes);
  const functions: PhysAddr[] = [];
  const places = new Set<PhysAddr>();
  let physBase: PhysAddr | undefined;
  for (let at = table.offset; at + ENTRY <= table.offset + table.size; at += ENTRY) {
    // The upper half of a link address: most symbols of other kinds end here.
    if (view.getUint32(at + 12, true) !== 0xffff_ffff) continue;
    const place = virtToPhys(view.getBigUint64(at + 8, true));
    if (place === undefined) continue;
    places.add(place);
    if ((view.getUint8(at + 4) & 0xf) === STT_FUNC) functions.push(place);
    else if (isNamed(bytes, names.offset + view.getUint32(at, true), PHYS_BASE)) physBase = place;
  }
  return {
    source: '.symtab',
    functions,
    physBase,
    hasSymbolAt: (place) => places.has(place),
    describe: () => undefined,
  };
}

function isNamed(bytes: Uint8Array, offset: number, name: string): boolean {
  return bytes[offset] === name.charCodeAt(0) && cString(bytes, offset, name.length + 1) === name;
}
