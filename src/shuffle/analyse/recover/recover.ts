/**
 * The references that references.ts has from `.rela` sections, for a debug vmlinux that has none, as those since Linux 6.8.
 *
 * Absolute ones are in the kernel's own relocation table. PC-relative ones in code are its instructions' displacements, so all code is disassembled: .text by
 * sweep.ts as ever, the rest by code.ts. PC-relative ones in data are in tables whose formats are known (tables.ts). What nobody knows of is looked
 * for (doubts.ts).
 *
 * What is lost is the symbol. A value says where it leads, not what is meant: `_text + 0xfff` looks like some function's inside, and the end of one function may
 * be the start of the next. So code stays where it is when an absolute value or a RIP-relative operand leads into it, not to its start (a branch may: that is
 * flow), and when a symbol without a type is at its start or end.
 *
 * Judged by Debian's 6.1, where relocations tell: test/boot/shuffle.test.ts plans both ways, and compares the plans.
 */
import type { PhysAddr } from '../../../base/addresses.ts';
import type { RelocationTable } from '../../../relocs/tables/kernel-table.ts';
import { RELOCATION_TYPES } from '../../../relocs/tool/types.ts';
import { hold, STAY } from '../pieces.ts';
import type { Pieces } from '../pieces.ts';
import { sectionsOf } from '../../debug-kernel-sections.ts';
import type { DebugKernel } from '../../read/debug-kernel.ts';
import type { Disassembler } from '../../disassembler.ts';
import { makeExtents } from '../../ranges.ts';
import type { Extent } from '../../ranges.ts';
import { AIM, FIXED, FieldList, pieceAt } from '../fields.ts';
import { placeOfLow } from '../../read/kernel-image.ts';
import type { ImageBytes } from '../../read/kernel-image.ts';
import type { DataReferences } from '../relocated-references.ts';
import type { CodeRelocations } from '../linear-sweep.ts';
import { sweepOtherCode } from './other-code.ts';
import { findDoubts } from './uncertain-references.ts';
import { readKnownTables } from './known-tables.ts';

const { R_X86_64_64, R_X86_64_32S, R_X86_64_PC32 } = RELOCATION_TYPES[64];

/** The sites of the relocation table in .text, as relocations: the sweep finds its PC-relative fields without any. */
export function recoverCodeRelocations({ text }: DebugKernel, table: RelocationTable): CodeRelocations {
  const sites: { place: number; type: number; aim: number }[] = [];
  const add = (list: Uint32Array, type: number, aim: number): void => {
    for (const entry of list) {
      const place = placeOfLow(entry);
      if (place >= text.start && place < text.end) sites.push({ place, type, aim });
    }
  };
  add(table.abs64, R_X86_64_64, AIM.sum);
  add(table.abs32, R_X86_64_32S, AIM.sum);
  add(table.inverse32, R_X86_64_PC32, AIM.elsewhere); // per-cpu symbols
  sites.sort((a, b) => a.place - b.place);
  return {
    places: Uint32Array.from(sites, ({ place }) => place),
    types: Uint8Array.from(sites, ({ type }) => type),
    good: new Uint8Array(sites.length).fill(1),
    aims: Int32Array.from(sites, ({ aim }) => aim),
  };
}

export interface Known {
  readonly debug: DebugKernel;
  readonly image: ImageBytes;
  readonly table: RelocationTable;
  /** Tables that are read elsewhere: __ex_table, .orc_unwind_ip, __mcount_loc. */
  readonly sorted: readonly Extent[];
  readonly makeDisassembler: (code: Uint8Array) => Disassembler;
}

/** The PC-relative ones outside .text. Pieces of which there is any doubt are marked in `pieces.stay`. */
export function recoverDataReferences(
  { debug, image, table, sorted, makeDisassembler }: Known,
  pieces: Pieces,
): DataReferences {
  const { text } = debug;
  const { starts, ends } = pieces;
  const relative32 = new FieldList();
  const strays: PhysAddr[] = [];
  const tables = readKnownTables(debug, image);
  const isReplacement = makeExtents(sectionsOf(debug).filter(({ name }) => name === '.altinstr_replacement'));
  const begins = tables.fields.map(({ target }) => target).filter(isReplacement);
  const code = sweepOtherCode(debug, image, begins, makeDisassembler);
  for (const fields of [tables.fields, code.fields]) {
    for (const { place, target } of fields) {
      if (target < text.start || target >= text.end || (place >= text.start && place < text.end)) continue;
      const piece = pieceAt(starts, ends, target);
      if (piece === FIXED) strays.push(target);
      else relative32.add(place, FIXED, piece);
    }
  }
  for (const target of code.held) hold(pieces, pieceAt(starts, ends, target), STAY['doubtful reference']);
  for (const piece of findDoubts(debug, image, table, pieces, [...tables.extents, ...sorted]))
    hold(pieces, piece, STAY['doubtful reference']);
  return { relative32, relative64: new FieldList(), strays, absoluteAims: new Map() };
}

const STT_NOTYPE = 0;

/** Code that begins or ends where a label is: a reference to that may mean the one or the other. */
export function holdAtLabels({ symbols, places, text }: DebugKernel, pieces: Pieces): void {
  const { starts, ends } = pieces;
  for (let symbol = 0; symbol < symbols.count; symbol++) {
    const place = places[symbol]!;
    if (place < text.start || place > text.end || (symbols.info(symbol) & 15) !== STT_NOTYPE) continue;
    if (!text.sections.has(symbols.sectionIndex(symbol))) continue;
    for (const piece of [pieceAt(starts, ends, place), pieceAt(starts, ends, place - 1)])
      if (piece !== FIXED && (starts[piece] === place || ends[piece] === place))
        hold(pieces, piece, STAY['linker symbol']);
  }
}
