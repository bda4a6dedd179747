/**
 * Code before and after, compared instruction by instruction. The bytes must be the same, except for sites of the relocation table and for displacements
 * relative to the next instruction (near branches, RIP-relative operands), which decoding finds. Those must lead to where their old target is now.
 */
import type { FileOffset, PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { refute } from '../../verify/evidence.ts';
import { FLOW } from '../disassembler.ts';
import type { Disassembler } from '../disassembler.ts';
import type { ClaimedLayout } from './claimed-layout.ts';
import type { PremiseRecord } from './premises.ts';

export interface CodePair {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  readonly origin: PhysAddr;
  /** Where `after` lies in its file. */
  readonly offset: FileOffset;
  /** By byte of `before`: 1 for the sites of the relocation table. */
  readonly sites: Uint8Array;
  /** By place of a field: how far the symbol that its relocation names was shifted. Undefined without relocations. */
  readonly targetShifts: ReadonlyMap<number, number> | undefined;
  /** Told of each field whose meaning only the debug vmlinux tells. */
  readonly premises: PremiseRecord;
}

export interface Disassemblers {
  readonly before: Disassembler;
  readonly after: Disassembler;
}

/** All offsets are from the start of `before`, and of `after`. */
export interface CodeComparer {
  /** Compares what was at `start` … `end` with what is at `to` now, as far as it decodes. Returns where that ends. */
  compare(start: number, end: number, to: number): number;
  /** Compares bytes that did not move and that do not decode, or are no code at all. */
  compareUndecoded(start: number, end: number, mayBeCode: boolean): void;
  readonly counts: { instructions: number; fields: number; opaque: number };
}

/** `isSymbol` says which places have a symbol: without relocations, only those can be what an operand means. */
export function makeCodeComparer(
  { before, after, origin, offset, sites, targetShifts, premises }: CodePair,
  layout: ClaimedLayout,
  disassemblers: Disassemblers,
  isSymbol: (place: PhysAddr) => boolean,
): CodeComparer {
  const { before: one, after: two } = disassemblers;
  const old = viewOf(before);
  const now = viewOf(after);
  const counts = { instructions: 0, fields: 0, opaque: 0 };
  const read = (view: DataView, place: number, width: number): number =>
    width === 1 ? view.getInt8(place) : view.getInt32(place, true);

  /** Compares the instruction that was at `at`, and ended at `next`, with the one at `to`. */
  const compareInstruction = (at: number, to: number, next: number): void => {
    const next2 = two.step();
    if (next2 - to !== next - at)
      refute('instruction', offset + to, { found: `0x${(next2 - to).toString(16)} bytes long`, expected: next - at });
    let field = -1;
    let width = 4;
    const isBranch = one.flow() >= FLOW.branch;
    if (isBranch) {
      width = next - at < 5 ? 1 : 4;
      field = next - at - width;
    } else if (mayBeRipRelative(before, at, next)) field = one.ripOperand();
    const end = field < 0 ? -1 : at + field + width;
    for (let byte = at; byte < next; byte++) {
      if (before[byte] === after[to + byte - at] || sites[byte] === 1) continue;
      if (byte >= at + field && byte < end) continue;
      refute('byte of an instruction', offset + to + byte - at, {
        found: after[to + byte - at]!,
        expected: before[byte]!,
      });
    }
    if (field < 0) return;
    counts.fields++;
    const target = next + read(old, at + field, width) + origin;
    const found = next2 + read(now, to + field, width) + origin;
    if (targetShifts === undefined && !isBranch)
      expectCertain(layout, at + origin, target, isSymbol, offset + to + field);
    const shift = targetShifts?.get(at + field + origin);
    const plain = layout.newPlaceOf(target);
    const expected = shift === undefined ? plain : target + shift;
    if (shift !== undefined && expected !== plain) premises.addNamed(at + field + origin);
    else if (
      targetShifts !== undefined &&
      shift === undefined &&
      !isBranch &&
      isInner(layout, at + origin, target, isSymbol)
    )
      premises.addInner(at + field + origin);
    if (found === expected) return;
    refute('target of a relative field', offset + to + field, {
      found,
      expected: expected < 0 ? `that of padding at ${target.toString(16)}` : expected,
    });
  };

  return {
    counts,
    compare(start, end, to) {
      one.seek(start);
      two.seek(to);
      let at = start;
      while (at < end) {
        const next = one.step();
        if (next < 0 || next > end) return at;
        compareInstruction(at, to + at - start, next);
        counts.instructions++;
        at = next;
      }
      return at;
    },
    compareUndecoded(start, end, mayBeCode) {
      for (let at = start; at < end; at++) {
        counts.opaque++;
        if (before[at] !== after[at] && sites[at] !== 1)
          refute('byte of fixed code', offset + at, { found: after[at]!, expected: before[at]! });
        if (!mayBeCode) continue;
        const possible = [at + 1 + old.getInt8(at)];
        if (at + 4 <= end) for (const more of [4, 5, 6, 8]) possible.push(at + more + old.getInt32(at, true));
        for (const target of possible)
          if (layout.newPlaceOf(target + origin) !== target + origin)
            refute('fixed code that does not decode', offset + at, {
              found: 'what may be a reference to moved code',
              expected: 'none',
            });
      }
    },
  };
}

/**
 * Without relocations: refutes a value that leads into a moved range, not to a symbol, because it may be counted from anywhere. A value inside the same range is
 * allowed.
 */
export function expectCertain(
  layout: ClaimedLayout,
  place: PhysAddr,
  target: PhysAddr,
  isSymbol: (place: PhysAddr) => boolean,
  offset: FileOffset,
): void {
  if (!isInner(layout, place, target, isSymbol)) return;
  refute('reference', offset, {
    found: `one into code that moved, at 0x${target.toString(16)}`,
    expected: 'a symbol there, or a relocation that says what it means',
  });
}

/** Whether a target is in a moved range that `place` is not in, and no symbol is there. */
export function isInner(
  layout: ClaimedLayout,
  place: PhysAddr,
  target: PhysAddr,
  isSymbol: (place: PhysAddr) => boolean,
): boolean {
  const range = layout.rangeOf(target);
  return range >= 0 && !isSymbol(target) && layout.rangeOf(place) !== range;
}

/** A RIP-relative operand has a ModRM byte with mod 0 and r/m 5. Without such a byte there is none. */
function mayBeRipRelative(code: Uint8Array, at: number, next: number): boolean {
  for (let byte = at + 1; byte + 5 <= next; byte++) if ((code[byte]! & 0xc7) === 5) return true;
  return false;
}
