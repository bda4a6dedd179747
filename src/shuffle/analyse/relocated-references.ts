/**
 * The references that the relocations of a debug vmlinux name: those in .text, for linear-sweep.ts to find in its instructions, and those elsewhere that
 * lead into .text.
 *
 * Only PC-relative ones are collected. Absolute references are in the kernel's own relocation table, and their values say where they lead.
 *
 * A relocation that names a symbol refers to that symbol, whatever its addend: `_text + 0xfff`, which mark_rodata_ro() rounds down to a page, does not
 * mean the function that happens to be there. A relocation that names a section, as those of static functions do, refers to `S + A`. In a data table
 * that is the target. In code it is the target minus what lies between the field and the end of its instruction: 4 bytes, and an immediate where there is one.
 * Code outside .text is not disassembled here, since no branch that the assembler resolved leads from one section to another. So there all five possible targets
 * count, and where they are not in one piece, all those pieces are pinned.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { SHF_EXECINSTR } from '../../elf/constants.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import { RELOCATION_TYPES, relocationTypeName } from '../../relocs/tool/types.ts';
import { REL_SIZE } from '../../elf/fields.ts';
import { PIECE, readPieces, relocationSections } from '../../relocs/tool/relocation-entries.ts';
import type { RelocationSection } from '../../relocs/tool/relocation-entries.ts';
import { rangeAt } from '../ranges.ts';
import type { Range } from '../ranges.ts';
import { NOWHERE, STT } from '../read/debug-kernel.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import type { ImageBytes } from '../read/kernel-image.ts';
import { FieldList, FIXED, SYMBOL_TARGET } from './fields.ts';
import type { CodeRelocations } from './linear-sweep.ts';
import { pin, STAY } from './pieces.ts';
import type { Pieces } from './pieces.ts';

const { R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_PC64, R_X86_64_32, R_X86_64_32S, R_X86_64_NONE } =
  RELOCATION_TYPES[64];
const RELA = REL_SIZE[64];

export interface DataReferences {
  /** PC-relative fields outside .text that refer to a piece of code. */
  readonly relative32: FieldList;
  readonly relative64: FieldList;
  /** Targets in .text outside of all pieces. */
  readonly paddingTargets: readonly number[];
  /** For absolute fields whose relocation names a symbol, those in .text included: by the field's place, its target (SYMBOL_TARGET.outside included). */
  readonly absoluteTargets: ReadonlyMap<number, number>;
}

/** The relocations of .text, by rising place. */
export function readCodeRelocations(debug: DebugKernel, image: ImageBytes): CodeRelocations {
  const entries: { place: number; type: number; intact: number; symbolTarget: number }[] = [];
  visitRelocations(debug, image, (section) => debug.text.sections.has(section.target), {
    entry({ place, type, intact, symbolTarget }) {
      entries.push({ place, type, intact: intact ? 1 : 0, symbolTarget });
    },
  });
  entries.sort((a, b) => a.place - b.place);
  return {
    places: Uint32Array.from(entries, ({ place }) => place),
    types: Uint8Array.from(entries, ({ type }) => type),
    intact: Uint8Array.from(entries, ({ intact }) => intact),
    symbolTargets: Int32Array.from(entries, ({ symbolTarget }) => symbolTarget),
  };
}

/**
 * The references outside .text, except those in `sorted`: tables that were sorted after the link, where relocations belong to other entries. Pieces that an
 * uncertain reference may lead to are pinned.
 */
export function readDataReferences(
  debug: DebugKernel,
  image: ImageBytes,
  pieces: Pieces,
  sorted: readonly Range[],
): DataReferences {
  const { starts, ends } = pieces;
  const paddingTargets: number[] = [];
  const absoluteTargets = new Map<number, number>();
  const references = { relative32: new FieldList(), relative64: new FieldList(), paddingTargets, absoluteTargets };
  const { text } = debug;
  let executable = false;
  let isText = false;
  visitRelocations(debug, image, () => true, {
    section(section) {
      executable = (debug.image.sections.word(section.target, 'sh_flags') & Number(SHF_EXECINSTR)) !== 0;
      isText = debug.text.sections.has(section.target);
    },
    entry({ place, type, target, intact, symbolTarget }, section) {
      const isAbsolute = type === R_X86_64_64 || type === R_X86_64_32 || type === R_X86_64_32S;
      if (isAbsolute && symbolTarget !== SYMBOL_TARGET.sum) absoluteTargets.set(place, symbolTarget);
      if (isText || sorted.some(({ start, end }) => place >= start && place < end)) return;
      if (!intact) throw changed(debug, section, place, type);
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
      if (symbolTarget !== SYMBOL_TARGET.sum || !executable) {
        const at = symbolTarget === SYMBOL_TARGET.sum ? target : symbolTarget;
        const piece = at < 0 ? FIXED : rangeAt(starts, ends, at);
        if (piece !== FIXED) list.add(place, FIXED, piece);
        else if (at >= text.start) paddingTargets.push(at);
        return;
      }
      const [piece = FIXED, ...others] = new Set([4, 5, 6, 7, 8].map((more) => rangeAt(starts, ends, target + more)));
      if (others.length > 0) {
        for (const possible of [piece, ...others]) pin(pieces, possible, STAY['tied to fixed code']);
      } else if (piece !== FIXED) list.add(place, FIXED, piece);
    },
  });
  return references;
}

interface Entry {
  readonly place: PhysAddr;
  readonly type: number;
  /** The place of S + A; less than any place when S is not in the image. */
  readonly target: number;
  /** A place in .text, or one of SYMBOL_TARGET. */
  readonly symbolTarget: number;
  /** Whether the field holds what its relocation says. */
  readonly intact: boolean;
}

interface Visitor {
  section?(section: RelocationSection): void;
  entry(entry: Entry, section: RelocationSection): void;
}

function visitRelocations(
  debug: DebugKernel,
  image: ImageBytes,
  wanted: (section: RelocationSection) => boolean,
  visitor: Visitor,
): void {
  const { places } = debug;
  const scratch = new Uint8Array(PIECE * RELA);
  const { view: bytes } = image;
  // Computed once, because there may be as many sections as functions.
  const targets = symbolTargetsOf(debug);
  for (const section of relocationSections(debug.image)) {
    if (!wanted(section)) continue;
    visitor.section?.(section);
    const { symbols } = section;
    const perCpu = section.target === debug.image.perCpu?.index;
    const shift = perCpu ? debug.placeOfSection(section.target) : -0x8000_0000;
    for (const piece of readPieces(debug.image, section, scratch)) {
      const view = viewOf(piece.bytes);
      for (let entry = 0, at = 0; entry < piece.count; entry++, at += RELA) {
        const virtual = view.getUint32(at, true); // the low half: every section is in the upper 2 GiB, or per-cpu
        const type = view.getUint32(at + 8, true);
        const symbol = view.getUint32(at + 12, true);
        const addend = view.getInt32(at + 16, true);
        const place = virtual + shift;
        if (symbol >= places.length) section.checkSymbol(symbol);
        const base = places[symbol]!;
        const target = base === NOWHERE ? -0x8000_0000 : base + addend;
        const symbolTarget = targets[symbol]!;
        if (type === R_X86_64_NONE) {
          visitor.entry({ place, type, target, symbolTarget, intact: true }, section);
          continue;
        }
        const wide = type === R_X86_64_64 || type === R_X86_64_PC64;
        const field = image.at(place, wide ? 8 : 4, `relocation at ${hex(virtual)}`);
        // Compared modulo 2^32, which is enough.
        const says = (base === NOWHERE ? Number(symbols.value(symbol) & 0xffff_ffffn) : base + 0x8000_0000) + addend;
        const relative = type === R_X86_64_PC32 || type === R_X86_64_PLT32 || type === R_X86_64_PC64;
        const intact = (bytes.getUint32(field, true) + (relative ? virtual : 0) - says) % 0x1_0000_0000 === 0;
        visitor.entry({ place, type, target, symbolTarget, intact }, section);
      }
    }
  }
}

/** By symbol number. */
function symbolTargetsOf({ symbols, places, text }: DebugKernel): Int32Array {
  return places.map((place, symbol) => {
    if ((symbols.info(symbol) & 15) === STT.section) return SYMBOL_TARGET.sum;
    return place >= text.start && place <= text.end ? place : SYMBOL_TARGET.outside;
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
