/**
 * All of .text, disassembled before and after, side by side. Instruction for instruction the bytes are the same, but for two kinds of field: displacements
 * relative to the next instruction (near branches, RIP-relative operands), found by decoding and by nothing else; and the sites of the relocation table.
 * Of the first kind it is asked here that they aim at where their old target is now.
 *
 * Moved ranges are walked from their start. What did not move is walked from each symbol in it; where that does not decode (code of other modes), its bytes
 * must be the same, and no four of them, nor one, may be a displacement to anything that moved, or to padding that is
 * overwritten: it may be code that runs into what is behind it. What is between two sections is no code, and is the same.
 */
import type { FileOffset, PhysAddr } from '../addresses.ts';
import { viewOf } from '../bytes.ts';
import { FLOW } from '../shuffle/disassembler.ts';
import type { Disassembler } from '../shuffle/disassembler.ts';
import { refute } from '../verify/evidence.ts';
import type { Moves } from './moves.ts';
import type { Range } from './sides.ts';

export interface CodePair {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  readonly origin: PhysAddr;
  /** Where `after` lies in its file. */
  readonly offset: FileOffset;
  /** By byte of `before`: 1 for the sites of the relocation table. */
  readonly sites: Uint8Array;
  /** By place of a field: how far what its relocation's symbol names moved. */
  readonly aims: ReadonlyMap<number, number>;
  /** The sections that .text is made of, by rising address. */
  readonly extents: readonly Range[];
}

export interface CodeResult {
  readonly instructions: number;
  readonly fields: number;
  /** Bytes of fixed code that do not decode. */
  readonly opaque: number;
}

const INT3 = 0xcc;

/** `symbols`: places of all symbols in .text, rising. `paddingEnds`: what checkOverwritten gave. */
export function checkCode(
  pair: CodePair,
  moves: Moves,
  symbols: readonly number[],
  paddingEnds: Uint32Array,
  disassemblers: { readonly before: Disassembler; readonly after: Disassembler },
): CodeResult {
  const { before, after, origin, offset, sites, aims, extents } = pair;
  const old = viewOf(before);
  const now = viewOf(after);
  let instructions = 0;
  let fields = 0;
  let opaque = 0;

  /** One instruction at `at`, now at `to`. */
  const compare = (at: number, to: number, next: number): void => {
    const { before: one, after: two } = disassemblers;
    const next2 = two.step();
    if (next2 - to !== next - at)
      refute('instruction', offset + to, { found: `0x${(next2 - to).toString(16)} bytes long`, expected: next - at });
    let field = -1;
    let width = 4;
    if (one.flow() >= FLOW.branch) {
      width = next - at < 5 ? 1 : 4;
      field = next - at - width;
    } else if (mayHaveModRm(before, at, next)) field = one.ripOperand();
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
    fields++;
    const read = (view: DataView, place: number): number =>
      width === 1 ? view.getInt8(place) : view.getInt32(place, true);
    const target = next + read(old, at + field) + origin;
    const found = next2 + read(now, to + field) + origin;
    const named = aims.get(at + field + origin);
    const expected = named === undefined ? moves.imageOf(target) : target + named;
    if (found === expected) return;
    refute('target of a relative field', offset + to + field, {
      found,
      expected: expected < 0 ? `that of padding at ${target.toString(16)}` : expected,
    });
  };

  /** Gives where it stopped decoding. */
  const walk = (start: number, end: number, to: number): number => {
    disassemblers.before.seek(start);
    disassemblers.after.seek(to);
    let at = start;
    while (at < end) {
      const next = disassemblers.before.step();
      if (next < 0 || next > end) return at;
      compare(at, to + at - start, next);
      instructions++;
      at = next;
    }
    return at;
  };

  const { starts, ends, news, text, taken } = moves;
  for (let range = 0; range < starts.length; range++) {
    const start = starts[range]! - origin;
    const stopped = walk(start, ends[range]! - origin, news[range]! - origin);
    if (stopped < ends[range]! - origin)
      refute('moved code', offset + news[range]! - origin + (stopped - start), {
        found: 'no instruction',
        expected: 'code that decodes',
      });
  }

  const borders = extents.flatMap(({ start, end }) => [start, end]);
  const cuts = [...symbols, ...borders].toSorted((a, b) => a - b);
  let extent = 0;
  for (const [start, end] of fixedStretches(moves, cuts, paddingEnds)) {
    while (extent < extents.length && extents[extent]!.end <= start) extent++;
    const isCode = extent < extents.length && extents[extent]!.start <= start;
    const stopped = isCode ? walk(start - origin, end - origin, start - origin) : start - origin;
    for (let at = stopped; at < end - origin; at++) {
      opaque++;
      if (before[at] !== after[at] && sites[at] !== 1)
        refute('byte of fixed code', offset + at, { found: after[at]!, expected: before[at]! });
      if (!isCode) continue;
      const near = [at + 1 + old.getInt8(at)];
      if (at + 4 <= end - origin) for (const more of [4, 5, 6, 8]) near.push(at + more + old.getInt32(at, true));
      for (const target of near)
        if (moves.imageOf(target + origin) !== target + origin)
          refute('fixed code that does not decode', offset + at, {
            found: 'what may be a reference to moved code',
            expected: 'none',
          });
    }
  }

  // What code was moved away from and none came to: no old code may be left there.
  const expectFiller = (from: number, to: number, mayKeep: boolean): void => {
    for (let at = from - text.start; at < to - text.start; at++) {
      if (taken[at] === 1 || after[at] === INT3 || (mayKeep && after[at] === before[at])) continue;
      refute('byte where no code is', offset + at, { found: after[at]!, expected: INT3 });
    }
  };
  for (let range = 0; range < starts.length; range++) {
    expectFiller(starts[range]!, ends[range]!, false);
    expectFiller(ends[range]!, paddingEnds[range + 1]!, true);
  }
  expectFiller(text.start, paddingEnds[0]!, true);
  return { instructions, fields, opaque };
}

/** What is between moved ranges, padding aside, cut at symbols and at the borders of sections. */
function fixedStretches(
  { starts, text }: Moves,
  cuts: readonly number[],
  paddingEnds: Uint32Array,
): [number, number][] {
  const stretches: [number, number][] = [];
  let cut = 0;
  for (let gap = 0; gap <= starts.length; gap++) {
    let start = paddingEnds[gap]!;
    const end = gap < starts.length ? starts[gap]! : text.end;
    while (cut < cuts.length && cuts[cut]! <= start) cut++;
    for (; cut < cuts.length && cuts[cut]! < end; cut++) {
      if (cuts[cut]! > start) stretches.push([start, cuts[cut]!]);
      start = cuts[cut]!;
    }
    if (start < end) stretches.push([start, end]);
  }
  return stretches;
}

/** ModRM with mod 0 and r/m 5 is what makes an operand RIP-relative; without such a byte there is none. */
function mayHaveModRm(code: Uint8Array, at: number, next: number): boolean {
  for (let byte = at + 1; byte + 5 <= next; byte++) if ((code[byte]! & 0xc7) === 5) return true;
  return false;
}
