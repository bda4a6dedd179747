/**
 * Finds the references that relocated-references.ts takes from `.rela` sections, for a debug vmlinux that has none, as since Linux 6.5.
 *
 * - Absolute references are in the kernel's own relocation table.
 * - PC-relative references in code are displacements of instructions, so all code is disassembled: .text by linear-sweep.ts as always, the rest by
 *   other-code.ts.
 * - PC-relative references in data are in tables of known formats (known-tables.ts).
 * - Anything in data that could be an unknown reference is searched for (uncertain-references.ts).
 *
 * What is lost is the symbol. A value says where it leads, not what is meant: `_text + 0xfff` looks like the inside of some function, and the end of one
 * function may be the start of the next. So a piece is pinned when an absolute value or a RIP-relative operand leads into it, not to its start (a branch may,
 * because that is control flow), and when a symbol without a type is at its start or end.
 *
 * Debian's 6.1 judges this, since it has relocations: test/boot/shuffle.test.ts plans both ways and compares the plans.
 */
import type { PhysAddr } from '../../../base/addresses.ts';
import type { RelocationTable } from '../../../relocs/tables/kernel-table.ts';
import { RELOCATION_TYPES } from '../../../relocs/tool/types.ts';
import type { Disassembler } from '../../disassembler.ts';
import { inAnyRange, rangeAt } from '../../ranges.ts';
import type { Range } from '../../ranges.ts';
import { STT } from '../../read/debug-kernel.ts';
import type { DebugKernel } from '../../read/debug-kernel.ts';
import { placeOfLow } from '../../read/kernel-image.ts';
import type { ImageBytes } from '../../read/kernel-image.ts';
import { FieldList, FIXED, SYMBOL_TARGET } from '../fields.ts';
import type { CodeRelocations } from '../linear-sweep.ts';
import { pin, STAY } from '../pieces.ts';
import type { Pieces } from '../pieces.ts';
import type { DataReferences } from '../relocated-references.ts';
import { readKnownTables } from '../../read/known-tables.ts';
import { sweepOtherCode } from '../../read/other-code.ts';
import { findUncertainReferences } from './uncertain-references.ts';

const { R_X86_64_64, R_X86_64_32S, R_X86_64_PC32 } = RELOCATION_TYPES[64];

/** The sites of the relocation table in .text, as relocations. PC-relative fields need none: the linear sweep finds them. */
export function recoverCodeRelocations({ text }: DebugKernel, table: RelocationTable): CodeRelocations {
  const sites: { place: number; type: number; symbolTarget: number }[] = [];
  const add = (list: Uint32Array, type: number, symbolTarget: number): void => {
    for (const entry of list) {
      const place = placeOfLow(entry);
      if (place >= text.start && place < text.end) sites.push({ place, type, symbolTarget });
    }
  };
  add(table.abs64, R_X86_64_64, SYMBOL_TARGET.sum);
  add(table.abs32, R_X86_64_32S, SYMBOL_TARGET.sum);
  add(table.inverse32, R_X86_64_PC32, SYMBOL_TARGET.outside); // per-cpu symbols
  sites.sort((a, b) => a.place - b.place);
  return {
    places: Uint32Array.from(sites, ({ place }) => place),
    types: Uint8Array.from(sites, ({ type }) => type),
    intact: new Uint8Array(sites.length).fill(1),
    symbolTargets: Int32Array.from(sites, ({ symbolTarget }) => symbolTarget),
  };
}

export interface RecoverInput {
  readonly debug: DebugKernel;
  readonly image: ImageBytes;
  readonly table: RelocationTable;
  /** Tables that are read elsewhere: __ex_table, .orc_unwind_ip, __mcount_loc. */
  readonly sorted: readonly Range[];
  readonly makeDisassembler: (code: Uint8Array) => Disassembler;
}

/** The PC-relative references outside .text. Pieces that an uncertain reference may lead to are pinned. */
export function recoverDataReferences(
  { debug, image, table, sorted, makeDisassembler }: RecoverInput,
  pieces: Pieces,
): DataReferences {
  const { text } = debug;
  const { starts, ends } = pieces;
  const relative32 = new FieldList();
  const paddingTargets: PhysAddr[] = [];
  const tables = readKnownTables(debug, image);
  const isReplacement = inAnyRange(debug.loadedSections().filter(({ name }) => name === '.altinstr_replacement'));
  const replacements = tables.fields.map(({ target }) => target).filter(isReplacement);
  const code = sweepOtherCode(debug, image, replacements, makeDisassembler);
  for (const fields of [tables.fields, code.fields]) {
    for (const { place, target } of fields) {
      if (target < text.start || target >= text.end || (place >= text.start && place < text.end)) continue;
      const piece = rangeAt(starts, ends, target);
      if (piece === FIXED) paddingTargets.push(target);
      else relative32.add(place, FIXED, piece);
    }
  }
  for (const target of code.pinned) pin(pieces, rangeAt(starts, ends, target), STAY['doubtful reference']);
  for (const piece of findUncertainReferences(debug, image, table, pieces, [...tables.extents, ...sorted]))
    pin(pieces, piece, STAY['doubtful reference']);
  return { relative32, relative64: new FieldList(), paddingTargets, absoluteTargets: new Map() };
}

/** Pins code that begins or ends where a label is: a reference to that place may mean the label or the code. */
export function pinAtLabels({ symbols, places, text }: DebugKernel, pieces: Pieces): void {
  const { starts, ends } = pieces;
  for (let symbol = 0; symbol < symbols.count; symbol++) {
    const place = places[symbol]!;
    if (place < text.start || place > text.end || (symbols.info(symbol) & 15) !== STT.notype) continue;
    if (!text.sections.has(symbols.sectionIndex(symbol))) continue;
    for (const piece of [rangeAt(starts, ends, place), rangeAt(starts, ends, place - 1)])
      if (piece !== FIXED && (starts[piece] === place || ends[piece] === place))
        pin(pieces, piece, STAY['linker symbol']);
  }
}
