/**
 * Finds the references that the code of .text makes: a linear sweep disassembles each piece from its start to its end.
 *
 * Relocations name most references, but not the branches that the assembler resolved itself, inside one section of one object file. Debian's 6.1 has
 * 392,006 of those, and 24,108 of them lead from one function into another. Only their instructions show it. Decoding serves the relocated fields as
 * well: what a PC-relative field refers to depends on where its instruction ends, and a relocation outside any instruction would show that the code is not what
 * it seems.
 *
 * A branch of two bytes reaches 127 bytes. Where one leads from one piece into another, those two and all pieces between them are tied together. So are a
 * piece and the next one when the first does not end in a jump or return and runs into the second.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { RELOCATION_TYPES } from '../../relocs/tool/types.ts';
import { FLOW } from '../disassembler.ts';
import type { Disassembler } from '../disassembler.ts';
import { rangeAt } from '../ranges.ts';
import { FieldList, FIXED, SYMBOL_TARGET } from './fields.ts';
import { pin, pinIfInside, STAY } from './pieces.ts';
import type { Pieces } from './pieces.ts';

const { R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_32, R_X86_64_32S, R_X86_64_64, R_X86_64_NONE } = RELOCATION_TYPES[64];

/** Relocations of the code, by rising place. */
export interface CodeRelocations {
  readonly places: ArrayLike<number>;
  readonly types: ArrayLike<number>;
  /** 1 when the field holds what its relocation says, 0 when something changed it after the link. */
  readonly intact: ArrayLike<number>;
  /** The target that the symbol names: a place, or one of SYMBOL_TARGET. */
  readonly symbolTargets: ArrayLike<number>;
}

export interface TextSweep {
  /** PC-relative 32-bit fields whose site and target are not in the same piece. */
  readonly fields: FieldList;
  /** By piece: 1 when it is tied to the next. */
  readonly tied: Uint8Array;
  /** Targets in .text outside of all pieces. */
  readonly paddingTargets: readonly number[];
  readonly counts: SweepCounts;
}

export interface SweepCounts {
  instructions: number;
  /** Direct branches without a relocation. */
  resolvedBranches: number;
  /** Of those, the ones that lead into another piece. */
  crossing: number;
  /** Of those, the ones that are too short to be changed to lead elsewhere. */
  short: number;
}

/** Marks pieces that do not decode in `pieces.stay`. `code` is all of .text, and `origin` its place. */
export function sweepText(
  code: Uint8Array,
  origin: PhysAddr,
  pieces: Pieces,
  relocations: CodeRelocations,
  disassembler: Disassembler,
): TextSweep {
  const { starts, ends, stay } = pieces;
  const view = viewOf(code);
  const fields = new FieldList();
  const tied = new Uint8Array(starts.length);
  const counts: SweepCounts = { instructions: 0, resolvedBranches: 0, crossing: 0, short: 0 };
  const { places, types, intact, symbolTargets } = relocations;
  let relocation = 0;

  const paddingTargets: number[] = [];
  const pieceAtTarget = (target: number): number => {
    const piece = rangeAt(starts, ends, target + origin);
    if (piece === FIXED && target >= 0 && target <= code.length) paddingTargets.push(target + origin);
    return piece;
  };

  /** A short branch ties all pieces from one end to the other. */
  const tie = (from: number, to: number): void => {
    for (let piece = Math.min(from, to); piece < Math.max(from, to); piece++) tied[piece] = 1;
  };

  /** False for a piece that is not the code that it should be. */
  const sweepPiece = (piece: number): boolean => {
    const start = starts[piece]! - origin;
    const end = ends[piece]! - origin;
    disassembler.seek(start);
    let flow: number = FLOW.next;
    for (let at = start; at < end;) {
      const next = disassembler.step();
      if (next < 0 || next > end) return false;
      counts.instructions++;
      flow = disassembler.flow();
      let relative = false; // has a PC-relative field with a relocation
      for (; relocation < places.length && places[relocation]! - origin < next; relocation++) {
        const place = places[relocation]! - origin;
        const type = types[relocation]!;
        if (type === R_X86_64_NONE) continue;
        const width = type === R_X86_64_64 ? 8 : 4;
        if (place <= at || !isOperandEnd(next - (place + width)) || intact[relocation] === 0) return false;
        if (type === R_X86_64_PC32 || type === R_X86_64_PLT32) {
          const symbolTarget = symbolTargets[relocation]!;
          relative = true;
          if (symbolTarget === SYMBOL_TARGET.outside) fields.add(place + origin, piece, FIXED);
          else {
            const isSum = symbolTarget === SYMBOL_TARGET.sum;
            const target = isSum ? next + view.getInt32(place, true) : symbolTarget - origin;
            if (target < start || target >= end) fields.add(place + origin, piece, pieceAtTarget(target));
          }
        } else if (type !== R_X86_64_32 && type !== R_X86_64_32S && type !== R_X86_64_64) return false;
      }
      if (!relative && flow >= FLOW.branch) {
        counts.resolvedBranches++;
        const short = next - at < 5;
        const target = next + (short ? view.getInt8(next - 1) : view.getInt32(next - 4, true));
        if (target < start || target >= end) {
          const to = pieceAtTarget(target);
          counts.crossing++;
          if (short) {
            counts.short++;
            if (to === FIXED) return false; // into padding: there is no piece that could be tied
            tie(piece, to);
          } else fields.add(next - 4 + origin, piece, to);
        }
      } else if (!relative && mayBeRipRelative(code, at, next)) {
        const operand = disassembler.ripOperand();
        if (operand > 0) {
          const target = next + view.getInt32(at + operand, true);
          if (target < start || target >= end) {
            const to = pieceAtTarget(target);
            fields.add(at + operand + origin, piece, to);
            pinIfInside(pieces, target + origin, to);
          }
        }
      }
      at = next;
    }
    // A call at the very end is one that does not return.
    if ((flow === FLOW.next || flow === FLOW.branch) && piece + 1 < starts.length) tied[piece] = 1;
    return true;
  };

  for (let piece = 0; piece < starts.length; piece++) {
    while (relocation < places.length && places[relocation]! < starts[piece]!) relocation++; // those in no piece
    if (sweepPiece(piece)) continue;
    stay[piece] = STAY.undecodable;
    // Targets in padding count as well: there may be code that runs into what follows.
    visitPossibleTargets(view, starts[piece]! - origin, ends[piece]! - origin, (target) =>
      pin(pieces, pieceAtTarget(target), STAY['tied to fixed code']),
    );
  }
  return { fields, tied, paddingTargets, counts };
}

/** In code that does not decode, any byte may begin a displacement: visits everything that one could lead to. */
function visitPossibleTargets(view: DataView, start: number, end: number, visit: (target: number) => void): void {
  for (let at = start; at < end; at++) {
    visit(at + 1 + view.getInt8(at));
    if (at + 4 > end) continue;
    const target = at + 4 + view.getInt32(at, true);
    for (const immediate of [0, 1, 2, 4]) visit(target + immediate);
  }
}

/** Only an immediate may follow a displacement or an immediate. */
function isOperandEnd(rest: number): boolean {
  return rest === 0 || rest === 1 || rest === 2 || rest === 4;
}

/** Whether some byte after the first could be a ModRM byte with mod 0 and r/m 5, followed by 4 bytes. Asking the disassembler costs more. */
function mayBeRipRelative(code: Uint8Array, at: number, next: number): boolean {
  for (let byte = at + 1; byte + 4 < next; byte++) if ((code[byte]! & 0xc7) === 5) return true;
  return false;
}
