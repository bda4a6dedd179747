/**
 * The debug vmlinux of a kernel: what the kernel that boots does not carry any more, its symbols and its `.rela` sections.
 *
 * Here and everywhere under src/shuffle, an address in the image is a number: the physical link address, `virtual - __START_KERNEL_map`.
 * A kernel linked at 16 MiB has its `_text` at 0x1000000. What lies outside the image (per-cpu symbols, absolute ones) does not move with it, and is
 * NOWHERE.
 */
import { KERNEL_IMAGE_SIZE } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { SHF_ALLOC, SHF_EXECINSTR, SHT_NOTE, SHT_SYMTAB } from '../elf/constants.ts';
import { EHDR_SIZE, SHDR_SIZE } from '../elf/fields.ts';
import { Reader } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import type { ByteSource } from '../relocs/tool/byte-source.ts';
import { openRelocsImage } from '../relocs/tool/image.ts';
import type { RelocsImage } from '../relocs/tool/image.ts';
import { readTable } from '../relocs/tool/sections.ts';
import type { SymbolTable } from '../relocs/tool/symbols.ts';
import { relocationSections } from '../relocs/tool/relocation-entries.ts';
import { findBuildId } from './build-id.ts';

export const NOWHERE = -1;

/**
 * The kernel's code: section .text, and the .text.… sections behind it. Of those there are as many as functions where -ffunction-sections was used and
 * the linker script does not put them together.
 */
export interface TextSections {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
  /** By number. */
  readonly sections: ReadonlySet<number>;
  /** By rising address. What is between them is nothing. */
  readonly extents: readonly { readonly start: PhysAddr; readonly end: PhysAddr }[];
  /** Their starts. */
  readonly starts: Uint32Array;
}

export interface DebugKernel {
  readonly image: RelocsImage;
  readonly symbols: SymbolTable;
  /** By symbol number: where it is in the image, or NOWHERE. */
  readonly places: Int32Array;
  /** GNU build-id, in hex. */
  readonly buildId: string;
  readonly text: TextSections;
  /** Where a section is loaded, or NOWHERE. */
  placeOfSection(index: number): PhysAddr;
  /** The place of a symbol that must be there. */
  need(name: string): PhysAddr;
  find(name: string): PhysAddr | undefined;
}

export interface DebugKernelOptions {
  /** Whether it has to have the relocations of its code. */
  readonly needsRelocations: boolean;
  /** What to say when it has not. */
  readonly hint?: string | undefined;
}

/** Throws KernelImageError for a file that is not an unstripped vmlinux, with its relocations if they are needed. */
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
      expected: 'all that --emit-relocs leaves, as up to Linux 6.7',
      hint,
    });
  }
  const byName = new Map<string, number>();
  const find = (name: string): PhysAddr | undefined => {
    let symbol = byName.get(name);
    if (symbol === undefined) byName.set(name, (symbol = symbols.find(name)));
    return symbol < 0 || places[symbol] === NOWHERE ? undefined : places[symbol];
  };
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
  };
}

/** Of the code: newer kernels' files still have those of a few small sections, whose names were forgotten where the others are removed. */
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

/** `virtual` as a place in the image; the image's end counts, symbols name it. */
function placeOf(virtual: bigint): number {
  const place = virtual - 0xffff_ffff_8000_0000n;
  return place >= 0n && place <= BigInt(KERNEL_IMAGE_SIZE) ? Number(place) : NOWHERE;
}

/** sh_addr, all 64 bits of it: a double would lose the low ones of a kernel address. */
function exactAddress({ source, sections }: RelocsImage, index: number): bigint {
  const header = new Reader(source.readAt(0, EHDR_SIZE[64]));
  const at = header.u64AsNumber(40, 'e_shoff') + index * SHDR_SIZE[64] + 16;
  if (index >= sections.count) throw new RangeError(`no section ${index}`);
  return new Reader(source.readAt(at, 8)).u64(0, 'sh_addr');
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
