/**
 * Which relocations go into the table: a decision for each relocation type and each kind of symbol.
 *
 * The rules are those of arch/x86/tools/relocs.c, as data. On x86-64 they follow from this:
 *
 *   - The kernel moves as a whole, so PC-relative fields stay right, and fields that hold an address need the slide.
 *   - Per-cpu symbols of kernels up to 6.14 are offsets from 0 and do not move. A field that holds such an offset stays right. But a PC-relative
 *     field that names a per-cpu symbol moves while its target does not: the slide must be subtracted from it.
 *   - Absolute symbols are numbers, not addresses. Using one where an address is expected is a mistake, unless its name is known (CONSTANT).
 */
import { SHN_ABS, SHN_UNDEF, SHN_XINDEX } from '../../elf/constants.ts';
import type { PerCpuSection } from './image.ts';
import type { SymbolTable } from './symbols.ts';
import { RELOCATION_TYPES } from './types.ts';
import type { TypeName32, TypeName64 } from './types.ts';

/** The kinds of symbols that the rules tell apart. 0 means that the kind has not been decided yet. */
export const SYMBOL_KIND = {
  undefined: 1,
  /** Moves with the kernel. */
  relative: 2,
  /** In the per-cpu section that is linked at 0. */
  perCpu: 3,
  /** Absolute, and known to be used as a number. */
  constant: 4,
  /** Absolute otherwise. */
  absolute: 5,
  /** Real-mode code: a linear address; its name begins with `pa_`. */
  linear: 6,
  /** Real-mode code: the segment that it runs in. */
  segment: 7,
} as const;
export type SymbolKind = keyof typeof SYMBOL_KIND;

/** What is done with a relocation: refuse the file, ignore the relocation, or add its site to a list. */
export const ACTION = { refuse: 0, ignore: 1, abs64: 2, inverse32: 3, abs32: 4, segment16: 5 } as const;
export type Action = keyof typeof ACTION;
export type SiteList = Exclude<Action, 'refuse' | 'ignore'>;

type Row = Readonly<Partial<Record<SymbolKind, Action>>>;

export interface Rules {
  /** ACTION by `type * KINDS + kind`. Types from LAST_TYPE on share the last row. */
  readonly actions: Uint8Array;
  /** The SYMBOL_KIND of a symbol with this st_shndx; 0 if st_shndx alone does not decide it. */
  kindByIndex(shndx: number): number;
  /** The SYMBOL_KIND of a symbol by its name and section number. Throws if these are malformed. */
  kindByName(symbols: SymbolTable, symbol: number): number;
}

export const KINDS = 8;
export const LAST_TYPE = 63;

/** A relocation that names an undefined symbol is a weak reference to nothing. On x86-64 it is ignored, whatever its type. */
const UNKNOWN_64: Row = { undefined: 'ignore' };
const IGNORED_64: Row = { ...UNKNOWN_64, relative: 'ignore', perCpu: 'ignore', constant: 'ignore', absolute: 'ignore' };
const address = (list: SiteList): Row => ({ ...UNKNOWN_64, relative: list, perCpu: 'ignore', constant: 'ignore' });

const PC_RELATIVE_64: Row = { ...IGNORED_64, perCpu: 'inverse32' };
const { perCpu: _, ...PC64 } = IGNORED_64;

const X86_64: Readonly<Partial<Record<TypeName64, Row>>> = {
  R_X86_64_NONE: IGNORED_64,
  R_X86_64_PC32: PC_RELATIVE_64,
  R_X86_64_PLT32: PC_RELATIVE_64,
  R_X86_64_PC64: PC64,
  R_X86_64_32: address('abs32'),
  R_X86_64_32S: address('abs32'),
  R_X86_64_64: address('abs64'),
};

/** Since 6.15: loads from a GOT entry that the linker has turned into PC-relative instructions. */
const X86_64_TWO_LISTS: typeof X86_64 = { ...X86_64, R_X86_64_REX_GOTPCRELX: PC_RELATIVE_64 };

const IGNORED_32: Row = {
  relative: 'ignore',
  constant: 'ignore',
  absolute: 'ignore',
  linear: 'ignore',
  segment: 'ignore',
};
const PC_RELATIVE_32: Readonly<Partial<Record<TypeName32, Row>>> = {
  R_386_NONE: IGNORED_32,
  R_386_PC32: IGNORED_32,
  R_386_PLT32: IGNORED_32,
  R_386_PC16: IGNORED_32,
  R_386_PC8: IGNORED_32,
};

const I386: typeof PC_RELATIVE_32 = {
  ...PC_RELATIVE_32,
  R_386_32: { relative: 'abs32', constant: 'ignore' },
};

/** Real-mode code is linked at 0 and moved by whole segments: only fields that name marked symbols have to change. */
const REAL_MODE: typeof PC_RELATIVE_32 = {
  ...PC_RELATIVE_32,
  R_386_16: { relative: 'ignore', segment: 'segment16' },
  R_386_32: { relative: 'ignore', linear: 'abs32' },
};

/**
 * Which version of the kernel's tool to follow: each is built with its kernel and has its own lists of names. A tool that writes two lists (6.15 and newer)
 * no longer has the names of per-cpu data linked at 0 and of a vvar page in the image, but has those of offsets in Xen notes. For i386 the older names
 * are used; newer i386 kernels have none of the symbols in which the two differ.
 */
type Names = '32' | '64, three lists' | '64, two lists';

/** Absolute symbols that are used as numbers: they stay the same when the kernel moves. */
const CONSTANT = ['xen_irq_disable_direct_reloc$', 'xen_save_fl_direct_reloc$', 'VDSO', '__kcfi_typeid_', '__crc_'];
const starting = (names: readonly string[]): RegExp => new RegExp(`^(?:${names.join('|')})`);
const CONSTANT_NAME: Readonly<Record<Names, RegExp>> = {
  '32': starting(CONSTANT),
  '64, three lists': starting(CONSTANT),
  '64, two lists': starting([...CONSTANT, 'xen_elfnote_[^]+_offset$']),
};

/** Symbols that move with the kernel. The linker makes them absolute because they are defined outside all sections. */
const RELATIVE = [
  '__init_(?:begin|end)',
  '__x86_cpu_dev_(?:start|end)',
  '__alt_instructions(?:_end)?',
  '(?:__iommu_table|__apicdrivers|__smp_locks)(?:_end)?',
  '__(?:start|end)_pci_[^]*',
  '__(?:start|stop)___ksymtab(?:_gpl)?',
  '__(?:start|stop)___kcrctab(?:_gpl)?',
  '__(?:start|stop)___(?:param|modver|bug_table)',
  '__tracedata_(?:start|end)',
  '__(?:start|stop)_notes',
  '__end_rodata(?:_aligned)?',
  '__initramfs_start',
  'jiffies(?:_64)?',
  '_end',
];
const whole = (names: readonly string[]): RegExp => new RegExp(`^(?:${names.join('|')})$`);
const RELATIVE_NAME: Readonly<Record<Names, RegExp>> = {
  '32': whole([...RELATIVE, '__vvar_page']),
  '64, three lists': whole([
    ...RELATIVE,
    '__vvar_page',
    '__per_cpu_load',
    'init_per_cpu__[^]*',
    '__end_rodata_hpage_align',
  ]),
  '64, two lists': whole([...RELATIVE, '__end_rodata_hpage_align']),
};
const REAL_MODE_LINEAR = /^pa_/;
const REAL_MODE_SEGMENT = 'real_mode_seg';

/** Names of symbols that linkers assign to .data..percpu although they are not in it. */
const NOT_PER_CPU = /^(?:__init_begin$|__per_cpu_load$|init_per_cpu_)/;

/** Whether `--abs-relocs` leaves out relocations that name an absolute symbol with this name. `lists`: of an x86-64 kernel; undefined for i386. */
export function isKnownAbsolute(name: string, lists: 2 | 3 | undefined, realMode: boolean): boolean {
  if (realMode) return REAL_MODE_LINEAR.test(name);
  const names = namesFor(lists);
  return CONSTANT_NAME[names].test(name) || RELATIVE_NAME[names].test(name);
}

function namesFor(lists: 2 | 3 | undefined): Names {
  if (lists === undefined) return '32';
  return lists === 3 ? '64, three lists' : '64, two lists';
}

export function rules64(perCpu: PerCpuSection | undefined, lists: 2 | 3): Rules {
  return {
    actions: tabulate(RELOCATION_TYPES[64], lists === 3 ? X86_64 : X86_64_TWO_LISTS, UNKNOWN_64),
    kindByIndex(shndx) {
      if (shndx === SHN_UNDEF) return SYMBOL_KIND.undefined;
      return shndx === perCpu?.index || shndx === SHN_ABS || shndx === SHN_XINDEX ? 0 : SYMBOL_KIND.relative;
    },
    kindByName(symbols, symbol) {
      if (symbols.sectionIndex(symbol) === perCpu?.index && !NOT_PER_CPU.test(symbols.name(symbol)))
        return SYMBOL_KIND.perCpu;
      return symbols.shndx(symbol) === SHN_ABS
        ? kindOfAbsolute(symbols.name(symbol), namesFor(lists))
        : SYMBOL_KIND.relative;
    },
  };
}

/** On i386 a weak undefined symbol counts as one that moves, as in the kernel's tool. */
export function rules32(): Rules {
  return {
    actions: tabulate(RELOCATION_TYPES[32], I386),
    kindByIndex: (shndx) => (shndx === SHN_ABS ? 0 : SYMBOL_KIND.relative),
    kindByName: (symbols, symbol) => kindOfAbsolute(symbols.name(symbol), '32'),
  };
}

export function rulesRealMode(): Rules {
  return {
    actions: tabulate(RELOCATION_TYPES[32], REAL_MODE),
    kindByIndex: () => 0,
    kindByName(symbols, symbol) {
      const name = symbols.name(symbol);
      if (REAL_MODE_LINEAR.test(name)) return SYMBOL_KIND.linear;
      if (symbols.shndx(symbol) !== SHN_ABS) return SYMBOL_KIND.relative;
      return name === REAL_MODE_SEGMENT ? SYMBOL_KIND.segment : SYMBOL_KIND.absolute;
    },
  };
}

function kindOfAbsolute(name: string, names: Names): number {
  if (RELATIVE_NAME[names].test(name)) return SYMBOL_KIND.relative;
  return CONSTANT_NAME[names].test(name) ? SYMBOL_KIND.constant : SYMBOL_KIND.absolute;
}

/** What no row mentions is refused. */
function tabulate(
  types: Readonly<Record<string, number>>,
  rows: Readonly<Partial<Record<string, Row>>>,
  others: Row = {},
): Uint8Array {
  const actions = new Uint8Array((LAST_TYPE + 1) * KINDS);
  const fill = (type: number, row: Row): void => {
    for (const [kind, action] of Object.entries(row) as [SymbolKind, Action][])
      actions[type * KINDS + SYMBOL_KIND[kind]] = ACTION[action];
  };
  for (let type = 0; type <= LAST_TYPE; type++) fill(type, others);
  for (const [name, row] of Object.entries(rows)) fill(types[name]!, row!);
  return actions;
}
