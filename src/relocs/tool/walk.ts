/**
 * The relocation sections that count, and their entries in pieces.
 *
 * Of the `.rela` (ELF64) and `.rel` (ELF32) sections, those count that apply to a section which is loaded (SHF_ALLOC) and is not a note: notes
 * are for loaders, which read them unrelocated. In a debug kernel that is 25 MB of 310; the rest is never read.
 */
import { SHF_ALLOC, SHT_NOTE, SHT_REL, SHT_RELA } from '../../elf/constants.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { RelocsImage } from './image.ts';
import { overlapping } from './sections.ts';
import type { SectionTable } from './sections.ts';
import type { SymbolTable } from './symbols.ts';

/** Elf32_Rel: r_offset, r_info. Elf64_Rela: r_offset, r_info, r_addend. */
export const REL_SIZE = { 32: 8, 64: 24 } as const;

/** The two halves of r_info, of an entry at `at`. */
export function typeOf(view: DataView, at: number, bits: 32 | 64): number {
  return bits === 64 ? view.getUint32(at + 8, true) : view.getUint8(at + 4);
}

export function symbolOf(view: DataView, at: number, bits: 32 | 64): number {
  return bits === 64 ? view.getUint32(at + 12, true) : view.getUint32(at + 4, true) >>> 8;
}

/** Entries in one piece, the most that is in memory at a time. */
export const PIECE = 1 << 13;

export interface RelocationSection {
  readonly index: number;
  /** Number of the section that it applies to. */
  readonly target: number;
  readonly offset: number;
  /** Entries. */
  readonly count: number;
  readonly symbols: SymbolTable;
  /** The number itself, when there is such a symbol. Throws when there is not. */
  checkSymbol(symbol: number): number;
}

/** Whether relocations of this section matter. */
function counts(sections: SectionTable, target: number): boolean {
  return (sections.word(target, 'sh_flags') & Number(SHF_ALLOC)) !== 0 && sections.word(target, 'sh_type') !== SHT_NOTE;
}

/**
 * Whether there are any, by the section headers alone: a vmlinux that was stripped of them lacks what else it takes to read them, its symbols. One
 * that refers to a section that is not there is one, and to be refused when it is read.
 */
export function hasRelocationSections(sections: SectionTable): boolean {
  const wanted = sections.bits === 64 ? SHT_RELA : SHT_REL;
  for (let index = 0; index < sections.count; index++) {
    if (sections.word(index, 'sh_type') !== wanted) continue;
    const target = sections.word(index, 'sh_info');
    const some = sections.address(index, 'sh_size') >= REL_SIZE[sections.bits];
    if (some && (target >= sections.count || counts(sections, target))) return true;
  }
  return false;
}

/** In file order. Throws for one that refers to sections or a symbol table that are not there, and when they are more than the file. */
export function* relocationSections(image: RelocsImage): Generator<RelocationSection> {
  const { sections } = image;
  let total = 0;
  const wanted = sections.bits === 64 ? SHT_RELA : SHT_REL;
  for (let index = 0; index < sections.count; index++) {
    if (sections.word(index, 'sh_type') !== wanted) continue;
    const target = sections.word(index, 'sh_info');
    if (target >= sections.count) {
      throw new KernelImageError({
        code: 'bad-value',
        what: `sh_info of section ${index}`,
        found: target,
        expected: `a section number below 0x${sections.count.toString(16)}`,
      });
    }
    if (!counts(sections, target)) continue;
    const size = sections.address(index, 'sh_size');
    const count = Math.floor(size / REL_SIZE[sections.bits]);
    if (count === 0) continue;
    total += size;
    if (total > image.source.size) throw overlapping('relocation sections', total, image.source.size);
    const symbols = image.symbols(sections.word(index, 'sh_link'), `relocation section ${index}`);
    const offset = sections.address(index, 'sh_offset');
    const checkSymbol = (symbol: number): number => {
      if (symbol < symbols.count) return symbol;
      throw new KernelImageError({
        code: 'bad-value',
        what: `symbol number in relocation section ${index} (${image.sectionTitle(index)})`,
        found: symbol,
        expected: `less than the number of symbols, 0x${symbols.count.toString(16)}`,
      });
    };
    yield { index, target, offset, count, symbols, checkSymbol };
  }
}

export interface Piece {
  /** Number of its first entry in the section. */
  readonly first: number;
  readonly count: number;
  readonly bytes: Uint8Array;
}

/** A section's entries in order. Each piece is good until the next is asked for: `scratch`, of PIECE entries, is used over and over. */
export function* readPieces(image: RelocsImage, section: RelocationSection, scratch: Uint8Array): Generator<Piece> {
  const size = REL_SIZE[image.sections.bits];
  for (let first = 0; first < section.count; first += PIECE) {
    const count = Math.min(PIECE, section.count - first);
    const bytes = image.source.readAt(section.offset + first * size, count * size, scratch);
    yield { first, count, bytes };
  }
}
