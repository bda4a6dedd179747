/**
 * All of .text, disassembled before and after, side by side.
 *
 * Moved ranges are walked from their start. What did not move is walked from each symbol in it; where that does not decode (code of other modes), its bytes
 * must be the same, and no four of them, nor one, may be a displacement to anything that moved, or to padding that is
 * overwritten: it may be code that runs into what is behind it. What is between two sections is no code, and is the same.
 */
import { refute } from '../../verify/evidence.ts';
import type { Moves } from './claimed-layout.ts';
import type { Range } from './image-pair.ts';
import { makeWalker } from './code-pair.ts';
import type { CodePair, Disassemblers, Walker } from './code-pair.ts';

/** All of .text. */
export interface TextPair extends CodePair {
  /** The sections that it is made of, by rising address. */
  readonly extents: readonly Range[];
}

const INT3 = 0xcc;

/** `symbols`: places of all symbols in .text, rising. `paddingEnds`: what checkOverwritten gave. */
export function checkCode(
  pair: TextPair,
  moves: Moves,
  symbols: readonly number[],
  paddingEnds: Uint32Array,
  disassemblers: Disassemblers,
): Walker['counts'] {
  const { before, after, origin, offset, extents } = pair;
  const named = new Set(symbols);
  const { walk, checkOpaque, counts } = makeWalker(pair, moves, disassemblers, (place) => named.has(place));
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
    checkOpaque(stopped, end - origin, isCode);
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
  return counts;
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
