/**
 * A vmlinux with relocation sections, as far as collecting them needs it: section headers, names, symbols, and the per-cpu section.
 *
 * Everything is untrusted, and read only when it is needed: an index is checked when it is followed, not before. So a broken symbol that no
 * relocation names does not matter. The kernel's tool works the same way, except for the checks.
 */
import { ascii } from '../../base/bytes.ts';
import { SHN_ABS, SHN_COMMON, SHT_STRTAB, SHT_SYMTAB, SHT_SYMTAB_SHNDX } from '../../elf/constants.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { expectTotal, readSectionTable, readTable } from './sections.ts';
import type { SectionTable } from './sections.ts';
import { makeSymbolTable, matchesAt, nameAt } from './symbols.ts';
import type { SymbolTable } from './symbols.ts';

/** .data..percpu that is linked at 0, as in SMP kernels up to 6.14. */
export interface PerCpuSection {
  readonly index: number;
  /** __per_cpu_load: the section's address in the loaded image, which is added to offsets in the section. */
  readonly loadAddress: bigint;
}

export interface RelocsImage {
  readonly source: ByteSource;
  readonly sections: SectionTable;
  readonly perCpu: PerCpuSection | undefined;
  /** Number of the first section with this name, or -1. */
  findSection(name: string): number;
  hasSymbol(name: string): boolean;
  /** A section's name. For the section number of a symbol that is in no section, the name that the kernel's tool prints for it. */
  sectionTitle(index: number): string;
  /** The symbol table in section `index`. Errors name the `referrer`, which needs it. */
  symbols(index: number, referrer: string): SymbolTable;
}

/** Throws KernelImageError for headers that the kernel's tool would refuse, and for a per-cpu section at 0 without __per_cpu_load. */
export function openRelocsImage(source: ByteSource): RelocsImage {
  const sections = readSectionTable(source);
  const tables = new Map<number, SymbolTable>();
  let tableBytes = 0;

  const strings = (index: number, what: string): Uint8Array => {
    checkIndex(sections, index, what);
    expectType(sections, index, SHT_STRTAB, `SHT_STRTAB: it is the ${what}`);
    return sectionRange(source, sections, index, what);
  };
  const sectionNames = lazily(() => strings(sections.shstrndx, 'table of section names'));

  const titles = new Map<number, string>();
  // In this order: in a file with more than 65,521 sections, SHN_ABS is also the number of a section.
  const makeTitle = (index: number): string => {
    if (index < sections.count)
      return nameAt(sectionNames(), sections.word(index, 'sh_name'), `name of section ${index}`);
    if (index === SHN_ABS) return 'ABSOLUTE';
    return index === SHN_COMMON ? 'COMMON' : '<noname>';
  };
  const sectionTitle = (index: number): string => {
    const title = titles.get(index) ?? makeTitle(index);
    titles.set(index, title);
    return title;
  };

  // There is one in any real file; the kernel's tool takes the last.
  const extendedIndexes = lazily(() => {
    for (let index = sections.count - 1; index >= 0; index--) {
      if (sections.word(index, 'sh_type') === SHT_SYMTAB_SHNDX)
        return sectionRange(source, sections, index, 'extended section numbers');
    }
    throw new KernelImageError({
      code: 'bad-value',
      what: 'st_shndx',
      found: 'SHN_XINDEX',
      expected: 'a section of type SHT_SYMTAB_SHNDX',
    });
  });

  const symbols = (index: number, referrer: string): SymbolTable => {
    const known = tables.get(index);
    if (known !== undefined) return known;
    checkIndex(sections, index, `symbol table of ${referrer}`);
    expectType(sections, index, SHT_SYMTAB, `SHT_SYMTAB: ${referrer} refers to it`);
    tableBytes += sections.address(index, 'sh_size');
    expectTotal('symbol tables', tableBytes, source);
    const table = makeSymbolTable({
      bits: sections.bits,
      bytes: sectionRange(source, sections, index, 'symbol table'),
      names: lazily(() => strings(sections.word(index, 'sh_link'), 'table of symbol names')),
      extendedIndexes,
      sectionTitle,
    });
    tables.set(index, table);
    return table;
  };

  /** The first symbol with this name in the first symbol table that has one. */
  const findSymbol = (name: string): bigint | undefined => {
    for (let index = 0; index < sections.count; index++) {
      if (sections.word(index, 'sh_type') !== SHT_SYMTAB) continue;
      const table = symbols(index, 'the search for symbols');
      const found = table.find(name);
      if (found >= 0) return table.value(found);
    }
    return undefined;
  };

  const findSection = (name: string): number => {
    const wanted = ascii(`${name}\0`);
    const names = sectionNames();
    for (let index = 0; index < sections.count; index++) {
      if (matchesAt(names, sections.word(index, 'sh_name'), wanted)) return index;
    }
    return -1;
  };

  return {
    source,
    sections,
    perCpu: sections.bits === 64 ? readPerCpu(sections, findSection('.data..percpu'), findSymbol) : undefined,
    findSection,
    hasSymbol: (name) => findSymbol(name) !== undefined,
    sectionTitle,
    symbols,
  };
}

/** Undefined if the section is not at 0: in kernels without SMP and in all since 6.15 it is data like any other. */
function readPerCpu(
  sections: SectionTable,
  index: number,
  findSymbol: (name: string) => bigint | undefined,
): PerCpuSection | undefined {
  if (index < 0 || sections.address(index, 'sh_addr') !== 0) return undefined;
  const loadAddress = findSymbol('__per_cpu_load');
  if (loadAddress !== undefined) return { index, loadAddress };
  throw new KernelImageError({
    code: 'bad-value',
    what: '.data..percpu at address 0',
    expected: 'a symbol __per_cpu_load that says where it is loaded',
  });
}

function sectionRange(source: ByteSource, sections: SectionTable, index: number, what: string): Uint8Array {
  const offset = sections.address(index, 'sh_offset');
  return readTable(source, offset, sections.address(index, 'sh_size'), `${what}, section ${index}`);
}

function checkIndex(sections: SectionTable, index: number, what: string): void {
  if (index < sections.count) return;
  throw new KernelImageError({
    code: 'bad-value',
    what,
    found: index,
    expected: `a section number below 0x${sections.count.toString(16)}`,
  });
}

function expectType(sections: SectionTable, index: number, type: number, expected: string): void {
  const found = sections.word(index, 'sh_type');
  if (found === type) return;
  throw new KernelImageError({ code: 'bad-value', what: `sh_type of section ${index}`, found, expected });
}

function lazily<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
