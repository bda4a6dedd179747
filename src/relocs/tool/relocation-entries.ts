/**
 * The relocation sections that matter for the table, and their entries, read piece by piece.
 *
 * A `.rela` (ELF64) or `.rel` (ELF32) section matters if it applies to a section that is loaded (SHF_ALLOC) and is not a note. (Loaders read
 * notes as they are, unrelocated.) In a debug kernel that is 25 MB of 310; the rest is never read.
 */
import { SHF_ALLOC, SHT_NOTE, SHT_REL, SHT_RELA } from '../../elf/constants.ts';
import { REL, REL_SIZE } from '../../elf/fields.ts';
import { KernelImageError } from '../../base/errors.ts';
import type { RelocsImage } from './image.ts';
import { expectTotal } from './sections.ts';
import type { SectionTable } from './sections.ts';
import type { SymbolTable } from './symbols.ts';

/** Where r_info is in an entry. Its low part is the type, its high part the symbol: 32 bits each in ELF64, 8 and 24 in ELF32. */
const INFO = { 32: REL[32].r_info[0], 64: REL[64].r_info[0] } as const;

/** ELF32_R_TYPE, ELF64_R_TYPE of the entry at `at`. */
export function typeOf(view: DataView, at: number, bits: 32 | 64): number {
  return bits === 64 ? view.getUint32(at + INFO[64], true) : view.getUint8(at + INFO[32]);
}

/** ELF32_R_SYM, ELF64_R_SYM of the entry at `at`. */
export function symbolOf(view: DataView, at: number, bits: 32 | 64): number {
  return bits === 64 ? view.getUint32(at + INFO[64] + 4, true) : view.getUint32(at + INFO[32], true) >>> 8;
}

/** The most entries in a piece. Only one piece is in memory at a time. */
export const PIECE = 1 << 13;

export interface RelocationSection {
  readonly index: number;
  /** Number of the section that this one applies to. */
  readonly target: number;
  readonly offset: number;
  /** Number of entries. */
  readonly count: number;
  readonly symbols: SymbolTable;
  /** Returns its argument. Throws KernelImageError if there is no such symbol. */
  checkSymbol(symbol: number): number;
}

/** Whether relocations that apply to this section matter. */
function matters(sections: SectionTable, target: number): boolean {
  return (sections.word(target, 'sh_flags') & Number(SHF_ALLOC)) !== 0 && sections.word(target, 'sh_type') !== SHT_NOTE;
}

/**
 * Whether the file has relocation sections that matter. This looks only at section headers: a vmlinux without such sections may lack its symbols too, and
 * must not be refused for that. A relocation section that applies to a missing section counts as one; reading it will refuse it.
 */
export function hasRelocationSections(sections: SectionTable): boolean {
  const wanted = sections.bits === 64 ? SHT_RELA : SHT_REL;
  for (let index = 0; index < sections.count; index++) {
    if (sections.word(index, 'sh_type') !== wanted) continue;
    const target = sections.word(index, 'sh_info');
    const some = sections.address(index, 'sh_size') >= REL_SIZE[sections.bits];
    if (some && (target >= sections.count || matters(sections, target))) return true;
  }
  return false;
}

/**
 * In file order. Throws KernelImageError for a section that refers to a missing section or symbol table, and if the sections together are larger than
 * the file.
 */
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
    if (!matters(sections, target)) continue;
    const size = sections.address(index, 'sh_size');
    const count = Math.floor(size / REL_SIZE[sections.bits]);
    if (count === 0) continue;
    total += size;
    expectTotal('relocation sections', total, image.source);
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
  /** Number of the piece's first entry in the section. */
  readonly first: number;
  readonly count: number;
  readonly bytes: Uint8Array;
}

/** A section's entries in order. A piece is valid only until the next one is requested: all of them may share `scratch`, which has room for PIECE entries. */
export function* readPieces(image: RelocsImage, section: RelocationSection, scratch: Uint8Array): Generator<Piece> {
  const size = REL_SIZE[image.sections.bits];
  for (let first = 0; first < section.count; first += PIECE) {
    const count = Math.min(PIECE, section.count - first);
    const bytes = image.source.readAt(section.offset + first * size, count * size, scratch);
    yield { first, count, bytes };
  }
}
