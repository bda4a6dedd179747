/**
 * The debug vmlinux of a kernel: what the kernel that boots no longer carries, its symbols and its `.rela` sections. All addresses are places in the image
 * (ranges.ts). What lies outside the image (per-cpu symbols, absolute ones) does not move with it, and is NOWHERE.
 */
import { KERNEL_IMAGE_SIZE, START_KERNEL_MAP } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS, SHT_NOTE, SHT_SYMTAB } from '../../elf/constants.ts';
import { EHDR_SIZE, SHDR_SIZE } from '../../elf/fields.ts';
import { Reader } from '../../base/bytes.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { openRelocsImage } from '../../relocs/tool/image.ts';
import type { RelocsImage } from '../../relocs/tool/image.ts';
import { readTable } from '../../relocs/tool/sections.ts';
import type { SymbolTable } from '../../relocs/tool/symbols.ts';
import { relocationSections } from '../../relocs/tool/relocation-entries.ts';
import type { Range } from '../ranges.ts';
import { findBuildId } from './identity.ts';

export const NOWHERE = -1;

/** Symbol types (ELF, st_info): what a symbol names. */
export const STT = { notype: 0, func: 2, section: 3 } as const;

/**
 * The kernel's code: section .text, and the .text.… sections after it. There may be one for each function, where -ffunction-sections was used and the
 * linker script does not merge them.
 */
export interface TextSections extends Range {
  /** Their section numbers. */
  readonly sections: ReadonlySet<number>;
  /** Where each lies, by rising address. There is nothing between them. */
  readonly extents: readonly Range[];
  /** Where each starts. */
  readonly starts: Uint32Array;
}

export interface LoadedSection extends Range {
  readonly index: number;
  readonly name: string;
  readonly executable: boolean;
  /** Holds nothing but code. Since 6.14 some executable code is in .data: that of kexec, which is copied elsewhere before it runs. */
  readonly isCode: boolean;
}

export interface DebugKernel {
  readonly image: RelocsImage;
  readonly symbols: SymbolTable;
  /** By symbol number: its place in the image, or NOWHERE. */
  readonly places: Int32Array;
  /** GNU build-id, in hex. */
  readonly buildId: string;
  readonly text: TextSections;
  /** Where a section is loaded, or NOWHERE. */
  placeOfSection(index: number): PhysAddr;
  /** The place of a symbol that must exist. */
  need(name: string): PhysAddr;
  find(name: string): PhysAddr | undefined;
  /** The loaded sections that have bytes in the file, by rising address. Collected on the first call. */
  loadedSections(): readonly LoadedSection[];
}

export interface DebugKernelOptions {
  /** Refuse a file without the relocations of its code. */
  readonly needsRelocations: boolean;
  /** What that refusal adds for the user. */
  readonly hint?: string | undefined;
}

/** Throws KernelImageError for a file that is not an unstripped vmlinux, or that lacks relocations which are needed. */
export function openDebugKernel(source: ByteSource, { needsRelocations, hint }: DebugKernelOptions): DebugKernel {
  const image = openRelocsImage(source);
  if (image.sections.bits !== 64)
    throw new KernelImageError({ code: 'wrong-architecture', what: 'debug vmlinux: EI_CLASS', offset: 4, expected: 2 });
  const symbols = openSymbols(image);
  const textIndex = image.findSection('.text');
  if (textIndex < 0) throw unusable('section .text', 'missing', 'a vmlinux');

  const perCpu = image.perCpu;
  const placeOfSection = (index: number): PhysAddr => {
    if (index === perCpu?.index) return placeOf(perCpu.loadAddress);
    return placeOf(exactAddress(image, index));
  };
  const places = new Int32Array(symbols.count);
  for (let symbol = 0; symbol < symbols.count; symbol++) places[symbol] = placeOf(symbols.value(symbol));
  const text = findText(image, textIndex, placeOfSection);
  if (needsRelocations && !hasRelocations(image, text)) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'debug vmlinux: .rela section of .text',
      found: 'missing',
      expected: 'all that --emit-relocs leaves, as up to Linux 6.4',
      hint,
    });
  }
  const byName = new Map<string, number>();
  const find = (name: string): PhysAddr | undefined => {
    let symbol = byName.get(name);
    if (symbol === undefined) byName.set(name, (symbol = symbols.find(name)));
    return symbol < 0 || places[symbol] === NOWHERE ? undefined : places[symbol];
  };
  let loaded: readonly LoadedSection[] | undefined;
  return {
    image,
    symbols,
    places,
    buildId: readBuildId(image),
    text,
    placeOfSection,
    find,
    need(name) {
      const place = find(name);
      if (place !== undefined) return place;
      throw unusable(`symbol ${name}`, 'missing', 'one in the image');
    },
    loadedSections: () => (loaded ??= findLoadedSections(image, placeOfSection)),
  };
}

/** Asks for those of the code: newer kernels' files still have `.rela` sections for a few small sections, which the removal of the others does not name. */
function hasRelocations(image: RelocsImage, text: TextSections): boolean {
  for (const { target } of relocationSections(image)) if (text.sections.has(target)) return true;
  return false;
}

function findText(image: RelocsImage, textIndex: number, placeOfSection: (index: number) => PhysAddr): TextSections {
  const { sections } = image;
  const first = placeOfSection(textIndex);
  if (first === NOWHERE) throw unusable('sh_addr of .text', 'outside the image', 'a kernel');
  const loaded: { index: number; start: PhysAddr; end: PhysAddr }[] = [];
  for (let index = 0; index < sections.count; index++) {
    const start = placeOfSection(index);
    const size = sections.address(index, 'sh_size');
    if ((sections.word(index, 'sh_flags') & Number(SHF_ALLOC)) === 0 || size === 0 || start < first) continue;
    loaded.push({ index, start, end: start + size });
  }
  loaded.sort((a, b) => a.start - b.start);
  const isText = (index: number): boolean =>
    (sections.word(index, 'sh_flags') & Number(SHF_EXECINSTR)) !== 0 &&
    /^\.text(?:\.|$)/.test(image.sectionTitle(index));
  const last = loaded.findIndex(({ index }) => !isText(index));
  const extents = last < 0 ? loaded : loaded.slice(0, last);
  const end = extents.at(-1)?.end;
  if (end === undefined) throw unusable('section .text', 'not code', 'a section that is executable');
  return {
    start: first,
    end,
    sections: new Set(extents.map(({ index }) => index)),
    extents,
    starts: Uint32Array.from(extents, ({ start }) => start),
  };
}

/** `virtual` as a place in the image, the image's end included, because symbols name it. */
function placeOf(virtual: bigint): number {
  const place = virtual - START_KERNEL_MAP;
  return place >= 0n && place <= BigInt(KERNEL_IMAGE_SIZE) ? Number(place) : NOWHERE;
}

/** sh_addr with all its 64 bits: a double would lose the low bits of a kernel address. */
function exactAddress({ source, sections }: RelocsImage, index: number): bigint {
  const header = new Reader(source.readAt(0, EHDR_SIZE[64]));
  const at = header.u64AsNumber(40, 'e_shoff') + index * SHDR_SIZE[64] + 16;
  if (index >= sections.count) throw new RangeError(`no section ${index}`);
  return new Reader(source.readAt(at, 8)).u64(0, 'sh_addr');
}

function findLoadedSections(image: RelocsImage, placeOfSection: DebugKernel['placeOfSection']): LoadedSection[] {
  const { sections } = image;
  const found: LoadedSection[] = [];
  for (let index = 0; index < sections.count; index++) {
    const flags = sections.word(index, 'sh_flags');
    const size = sections.address(index, 'sh_size');
    if ((flags & Number(SHF_ALLOC)) === 0 || sections.word(index, 'sh_type') === SHT_NOBITS || size === 0) continue;
    const start = placeOfSection(index);
    if (start === NOWHERE) continue;
    const executable = (flags & Number(SHF_EXECINSTR)) !== 0;
    const isCode = executable && (flags & Number(SHF_WRITE)) === 0;
    found.push({ index, name: image.sectionTitle(index), start, end: start + size, executable, isCode });
  }
  return found.toSorted((a, b) => a.start - b.start);
}

/** The places of all symbols, by number of their section. */
export function symbolsBySection({ symbols, places }: DebugKernel): ReadonlyMap<number, readonly PhysAddr[]> {
  const found = new Map<number, PhysAddr[]>();
  for (let symbol = 0; symbol < symbols.count; symbol++) {
    const section = symbols.sectionIndex(symbol);
    const members = found.get(section);
    if (members === undefined) found.set(section, [places[symbol]!]);
    else members.push(places[symbol]!);
  }
  return found;
}

function openSymbols(image: RelocsImage): SymbolTable {
  for (let index = 0; index < image.sections.count; index++) {
    if (image.sections.word(index, 'sh_type') === SHT_SYMTAB) return image.symbols(index, 'shuffle');
  }
  throw unusable('.symtab', 'missing', 'an unstripped vmlinux');
}

function readBuildId(image: RelocsImage): string {
  for (let index = 0; index < image.sections.count; index++) {
    if (image.sections.word(index, 'sh_type') !== SHT_NOTE) continue;
    const size = image.sections.address(index, 'sh_size');
    const offset = image.sections.address(index, 'sh_offset');
    const id = findBuildId(readTable(image.source, offset, size, `section ${index}`));
    if (id !== undefined) return id;
  }
  throw unusable('GNU build-id', 'missing', 'a note that says which build this is');
}

function unusable(what: string, found: string, expected: string): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what: `debug vmlinux: ${what}`, found, expected });
}
