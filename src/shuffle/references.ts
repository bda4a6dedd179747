/**
 * The references that the relocations of a debug vmlinux name: those of .text, for sweep.ts to find in its instructions, and those elsewhere that
 * aim into .text.
 *
 * Only PC-relative ones. Absolute references are in the kernel's own relocation table, and what they hold says what they aim at.
 *
 * A relocation that names a symbol aims at that symbol, whatever its addend: `_text + 0xfff`, which mark_rodata_ro() rounds down to a page, is not
 * the function that happens to be there. One that names a section, as those of static functions do, aims at `S + A`. In a data table that is the
 * target. In code it is the target less what stands between the field and the end of its instruction: 4 bytes, and an immediate where there is one.
 * Code outside .text is not disassembled (no branch that the assembler resolved leads from one section to another): there all five possible targets
 * count, and where they are not in one piece, those pieces stay.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { viewOf } from '../base/bytes.ts';
import { SHF_EXECINSTR } from '../elf/constants.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { RELOCATION_TYPES, relocationTypeName } from '../relocs/tool/types.ts';
import { REL_SIZE } from '../elf/fields.ts';
import { PIECE, readPieces, relocationSections } from '../relocs/tool/relocation-entries.ts';
import type { RelocationSection } from '../relocs/tool/relocation-entries.ts';
import { hold, STAY } from './code.ts';
import type { Pieces } from './code.ts';
import { NOWHERE } from './debug-kernel.ts';
import type { DebugKernel } from './debug-kernel.ts';
import { AIM, FIXED, FieldList, pieceAt } from './fields.ts';
import type { ImageBytes } from './kernel-image.ts';
import type { CodeRelocations } from './sweep.ts';

const { R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_PC64, R_X86_64_32, R_X86_64_32S, R_X86_64_NONE } =
  RELOCATION_TYPES[64];
const RELA = REL_SIZE[64];
const STT_SECTION = 3;

/** Places whose relocations no longer say what stands there, because the table was sorted after the link. */
export interface SortedRange {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
}

export interface DataReferences {
  /** PC-relative fields outside .text that aim at a piece of code. */
  readonly relative32: FieldList;
  readonly relative64: FieldList;
  /** What they aim at in .text outside of all pieces. */
  readonly strays: readonly number[];
  /** Of absolute fields, those in .text as well, whose relocation names a symbol: the field's place, and what it aims at (AIM.elsewhere included). */
  readonly absoluteAims: ReadonlyMap<number, number>;
}

/** The relocations of .text, by rising place. */
export function readCodeRelocations(debug: DebugKernel, image: ImageBytes): CodeRelocations {
  const entries: { place: number; type: number; good: number; aim: number }[] = [];
  walk(debug, image, (section) => debug.text.sections.has(section.target), {
    entry({ place, type, good, aim }) {
      entries.push({ place, type, good: good ? 1 : 0, aim });
    },
  });
  entries.sort((a, b) => a.place - b.place);
  return {
    places: Uint32Array.from(entries, ({ place }) => place),
    types: Uint8Array.from(entries, ({ type }) => type),
    good: Uint8Array.from(entries, ({ good }) => good),
    aims: Int32Array.from(entries, ({ aim }) => aim),
  };
}

/** The others. Pieces that an uncertain reference may aim at are marked in `pieces.stay`. */
export function readDataReferences(
  debug: DebugKernel,
  image: ImageBytes,
  pieces: Pieces,
  sorted: readonly SortedRange[],
): DataReferences {
  const { starts, ends } = pieces;
  const strays: number[] = [];
  const absoluteAims = new Map<number, number>();
  const references = { relative32: new FieldList(), relative64: new FieldList(), strays, absoluteAims };
  const { text } = debug;
  let executable = false;
  let isText = false;
  walk(debug, image, () => true, {
    section(section) {
      executable = (debug.image.sections.word(section.target, 'sh_flags') & Number(SHF_EXECINSTR)) !== 0;
      isText = debug.text.sections.has(section.target);
    },
    entry({ place, type, target, good, aim }, section) {
      const isAbsolute = type === R_X86_64_64 || type === R_X86_64_32 || type === R_X86_64_32S;
      if (isAbsolute && aim !== AIM.sum) absoluteAims.set(place, aim);
      if (isText || sorted.some(({ start, end }) => place >= start && place < end)) return;
      if (!good) throw changed(debug, section, place, type);
      if (type === R_X86_64_NONE || isAbsolute || target < text.start - 8 || target > text.end) return;
      const wide = type === R_X86_64_PC64;
      if (!wide && type !== R_X86_64_PC32 && type !== R_X86_64_PLT32) {
        throw new KernelImageError({
          code: 'unsupported',
          what: `relocation at ${hex(place)} in ${debug.image.sectionTitle(section.target)}`,
          found: relocationTypeName(64, type) ?? `type ${type}`,
        });
      }
      const list = wide ? references.relative64 : references.relative32;
      if (aim !== AIM.sum || !executable) {
        const at = aim === AIM.sum ? target : aim;
        const piece = at < 0 ? FIXED : pieceAt(starts, ends, at);
        if (piece !== FIXED) list.add(place, FIXED, piece);
        else if (at >= text.start) strays.push(at);
        return;
      }
      const [piece = FIXED, ...others] = new Set([4, 5, 6, 7, 8].map((more) => pieceAt(starts, ends, target + more)));
      if (others.length > 0) {
        for (const held of [piece, ...others]) hold(pieces, held, STAY['tied to fixed code']);
      } else if (piece !== FIXED) list.add(place, FIXED, piece);
    },
  });
  return references;
}

interface Entry {
  readonly place: PhysAddr;
  readonly type: number;
  /** The place of S + A, or less than any place when that is none. */
  readonly target: number;
  /** A place of .text, or one of AIM. */
  readonly aim: number;
  /** Whether the field holds what its relocation says. */
  readonly good: boolean;
}

interface Visitor {
  section?(section: RelocationSection): void;
  entry(entry: Entry, section: RelocationSection): void;
}

function walk(
  debug: DebugKernel,
  image: ImageBytes,
  wanted: (section: RelocationSection) => boolean,
  visitor: Visitor,
): void {
  const { places } = debug;
  const scratch = new Uint8Array(PIECE * RELA);
  const { view: bytes } = image;
  // Once, for there may be as many sections as functions.
  const aims = aimsOf(debug);
  for (const section of relocationSections(debug.image)) {
    if (!wanted(section)) continue;
    visitor.section?.(section);
    const { symbols } = section;
    const perCpu = section.target === debug.image.perCpu?.index;
    const shift = perCpu ? debug.placeOfSection(section.target) : -0x8000_0000;
    for (const piece of readPieces(debug.image, section, scratch)) {
      const view = viewOf(piece.bytes);
      for (let entry = 0, at = 0; entry < piece.count; entry++, at += RELA) {
        const virtual = view.getUint32(at, true); // the low half: all sections are in the upper 2 GiB, or per-cpu
        const type = view.getUint32(at + 8, true);
        const symbol = view.getUint32(at + 12, true);
        const addend = view.getInt32(at + 16, true);
        const place = virtual + shift;
        if (symbol >= places.length) section.checkSymbol(symbol);
        const base = places[symbol]!;
        const target = base === NOWHERE ? -0x8000_0000 : base + addend;
        const aim = aims[symbol]!;
        if (type === R_X86_64_NONE) {
          visitor.entry({ place, type, target, aim, good: true }, section);
          continue;
        }
        const wide = type === R_X86_64_64 || type === R_X86_64_PC64;
        const field = image.at(place, wide ? 8 : 4, `relocation at ${hex(virtual)}`);
        // Modulo 2^32, which is enough to tell.
        const says = (base === NOWHERE ? Number(symbols.value(symbol) & 0xffff_ffffn) : base + 0x8000_0000) + addend;
        const relative = type === R_X86_64_PC32 || type === R_X86_64_PLT32 || type === R_X86_64_PC64;
        const good = (bytes.getUint32(field, true) + (relative ? virtual : 0) - says) % 0x1_0000_0000 === 0;
        visitor.entry({ place, type, target, aim, good }, section);
      }
    }
  }
}

/** By symbol number. */
function aimsOf({ symbols, places, text }: DebugKernel): Int32Array {
  return places.map((place, symbol) => {
    if ((symbols.info(symbol) & 15) === STT_SECTION) return AIM.sum;
    return place >= text.start && place <= text.end ? place : AIM.elsewhere;
  });
}

function changed(debug: DebugKernel, section: RelocationSection, place: PhysAddr, type: number): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: `field at ${hex(place)} in ${debug.image.sectionTitle(section.target)}`,
    found: `not what its ${relocationTypeName(64, type) ?? 'relocation'} says`,
    expected: 'that only tables which are sorted by address were changed after the link',
  });
}
