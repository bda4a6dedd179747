/**
 * Reads all code of .text, instruction by instruction, for the references that it makes.
 *
 * The relocations name most of them, but not the branches that the assembler resolved itself, inside one section of one object file: Debian's 6.1 has
 * 392,006 of those, of which 24,108 lead from one function into another. Nothing but their instructions tells of them. Decoding serves the relocated
 * fields as well: what a PC-relative field aims at depends on where its instruction ends, and a relocation that is not inside an instruction would
 * show that the code is not what it seems.
 *
 * A branch of two bytes reaches 127 bytes. Where one leads from one piece into another, those two and all between them stay together; so do a
 * piece and the next when the first has no end of its own and runs into the second.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { RELOCATION_TYPES } from '../../relocs/tool/types.ts';
import { hold, holdIfInside, STAY } from './pieces.ts';
import type { Pieces } from './pieces.ts';
import { FLOW } from '../disassembler.ts';
import type { Disassembler } from '../disassembler.ts';
import { AIM, FIXED, FieldList, pieceAt } from './fields.ts';

const { R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_32, R_X86_64_32S, R_X86_64_64, R_X86_64_NONE } = RELOCATION_TYPES[64];

/** Relocations of the code, by rising place. */
export interface CodeRelocations {
  readonly places: ArrayLike<number>;
  readonly types: ArrayLike<number>;
  /** Whether the field holds what its relocation says; `false` where something changed it after the link. */
  readonly good: ArrayLike<number>;
  /** What the symbol says of the target: a place, or one of AIM in references.ts. */
  readonly aims: ArrayLike<number>;
}

export interface Sweep {
  /** PC-relative 32-bit fields, of which at least one end may move. */
  readonly fields: FieldList;
  /** By piece: 1 when it cannot be parted from the next. */
  readonly tied: Uint8Array;
  /** What references aim at in .text outside of all pieces. */
  readonly strays: readonly number[];
  readonly counts: SweepCounts;
}

export interface SweepCounts {
  instructions: number;
  /** Direct branches without a relocation, and those of them that lead into another piece. */
  resolvedBranches: number;
  crossing: number;
  /** Those that are too short to lead elsewhere. */
  short: number;
  /** RIP-relative operands without a relocation that lead out of their piece. */
  resolvedOperands: number;
  /** Relocations that lie in no piece. */
  strayRelocations: number;
}

/** Marks pieces that do not decode in `pieces.stay`. `code` is all of .text, and `origin` its place. */
export function sweepCode(
  code: Uint8Array,
  origin: PhysAddr,
  pieces: Pieces,
  relocations: CodeRelocations,
  disassembler: Disassembler,
): Sweep {
  const { starts, ends, stay } = pieces;
  const view = viewOf(code);
  const fields = new FieldList();
  const tied = new Uint8Array(starts.length);
  const counts: SweepCounts = {
    instructions: 0,
    resolvedBranches: 0,
    crossing: 0,
    short: 0,
    resolvedOperands: 0,
    strayRelocations: 0,
  };
  const { places, types, good, aims } = relocations;
  let relocation = 0;

  const strays: number[] = [];
  const aimAt = (target: number): number => {
    const piece = pieceAt(starts, ends, target + origin);
    if (piece === FIXED && target >= 0 && target <= code.length) strays.push(target + origin);
    return piece;
  };

  /** A short branch ties all pieces from one end to the other. */
  const tie = (from: number, to: number): void => {
    for (let piece = Math.min(from, to); piece < Math.max(from, to); piece++) tied[piece] = 1;
  };

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
        if (place <= at || !isOperandEnd(next - (place + width)) || good[relocation] === 0) return false;
        if (type === R_X86_64_PC32 || type === R_X86_64_PLT32) {
          const aim = aims[relocation]!;
          relative = true;
          if (aim === AIM.elsewhere) fields.add(place + origin, piece, FIXED);
          else {
            const target = aim === AIM.sum ? next + view.getInt32(place, true) : aim - origin;
            if (target < start || target >= end) fields.add(place + origin, piece, aimAt(target));
          }
        } else if (type !== R_X86_64_32 && type !== R_X86_64_32S && type !== R_X86_64_64) return false;
      }
      if (!relative && flow >= FLOW.branch) {
        counts.resolvedBranches++;
        const short = next - at < 5;
        const target = next + (short ? view.getInt8(next - 1) : view.getInt32(next - 4, true));
        if (target < start || target >= end) {
          const to = aimAt(target);
          counts.crossing++;
          if (short) {
            counts.short++;
            if (to === FIXED) return false; // into padding: there is nothing that could be held
            tie(piece, to);
          } else fields.add(next - 4 + origin, piece, to);
        }
      } else if (!relative && mayBeRipRelative(code, at, next)) {
        const operand = disassembler.ripOperand();
        if (operand > 0) {
          const target = next + view.getInt32(at + operand, true);
          if (target < start || target >= end) {
            counts.resolvedOperands++;
            const to = aimAt(target);
            fields.add(at + operand + origin, piece, to);
            holdIfInside(pieces, target + origin, to);
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
    for (; relocation < places.length && places[relocation]! < starts[piece]!; relocation++) counts.strayRelocations++;
    if (sweepPiece(piece)) continue;
    stay[piece] = STAY.undecodable;
    // In padding as well: it may be code that runs into what is behind it.
    holdTargets(view, starts[piece]! - origin, ends[piece]! - origin, (target) =>
      hold(pieces, aimAt(target), STAY['tied to fixed code']),
    );
  }
  counts.strayRelocations += places.length - relocation;
  return { fields, tied, strays, counts };
}

/** Of code that could not be read, any byte may be the start of a displacement: whatever one could aim at is held. */
function holdTargets(view: DataView, start: number, end: number, visit: (target: number) => void): void {
  for (let at = start; at < end; at++) {
    visit(at + 1 + view.getInt8(at));
    if (at + 4 > end) continue;
    const target = at + 4 + view.getInt32(at, true);
    for (const immediate of [0, 1, 2, 4]) visit(target + immediate);
  }
}

/** Behind a displacement or an immediate there may only be an immediate. */
function isOperandEnd(rest: number): boolean {
  return rest === 0 || rest === 1 || rest === 2 || rest === 4;
}

/** Some byte behind the opcode's first could be a ModRM byte with mod 0 and r/m 5, and 4 bytes follow. Asking the disassembler costs more. */
function mayBeRipRelative(code: Uint8Array, at: number, next: number): boolean {
  for (let byte = at + 1; byte + 4 < next; byte++) if ((code[byte]! & 0xc7) === 5) return true;
  return false;
}
