/**
 * All of .text, disassembled before and after, side by side.
 *
 * Each moved range is decoded from its start. What did not move is decoded from each symbol in it. Where that does not decode (code of other modes), its
 * bytes must be the same, and no one or four of them may be a displacement to anything that moved, or to padding that was overwritten, since it may be
 * code that runs into what follows. What is between two sections is no code, and must be the same.
 */
import { refute } from '../../verify/evidence.ts';
import type { Range } from '../ranges.ts';
import type { ClaimedLayout } from './claimed-layout.ts';
import { makeCodeComparer } from './code-pair.ts';
import type { CodeComparer, CodePair, Disassemblers } from './code-pair.ts';

/** All of .text. */
export interface TextPair extends CodePair {
  /** The sections that it consists of, by rising address. */
  readonly extents: readonly Range[];
}

const INT3 = 0xcc;

/** `symbols`: the places of all symbols in .text, rising. `paddingEnds`: the result of checkOverwritten. */
export function checkText(
  pair: TextPair,
  layout: ClaimedLayout,
  symbols: readonly number[],
  paddingEnds: Uint32Array,
  disassemblers: Disassemblers,
): CodeComparer['counts'] {
  const { before, after, origin, offset, extents } = pair;
  const named = new Set(symbols);
  const { compare, compareUndecoded, counts } = makeCodeComparer(pair, layout, disassemblers, (place) =>
    named.has(place),
  );
  const { starts, ends, newStarts, text, taken } = layout;
  for (let range = 0; range < starts.length; range++) {
    const start = starts[range]! - origin;
    const stopped = compare(start, ends[range]! - origin, newStarts[range]! - origin);
    if (stopped < ends[range]! - origin)
      refute('moved code', offset + newStarts[range]! - origin + (stopped - start), {
        found: 'no instruction',
        expected: 'code that decodes',
      });
  }

  const borders = extents.flatMap(({ start, end }) => [start, end]);
  const cuts = [...symbols, ...borders].toSorted((a, b) => a - b);
  let extent = 0;
  for (const [start, end] of fixedRanges(layout, cuts, paddingEnds)) {
    while (extent < extents.length && extents[extent]!.end <= start) extent++;
    const isCode = extent < extents.length && extents[extent]!.start <= start;
    const stopped = isCode ? compare(start - origin, end - origin, start - origin) : start - origin;
    compareUndecoded(stopped, end - origin, isCode);
  }

  // Where code was moved away and none was placed, no old code may be left.
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

/** What is between moved ranges, without padding, cut at symbols and at the borders of sections. */
function fixedRanges(
  { starts, text }: ClaimedLayout,
  cuts: readonly number[],
  paddingEnds: Uint32Array,
): [number, number][] {
  const ranges: [number, number][] = [];
  let cut = 0;
  for (let gap = 0; gap <= starts.length; gap++) {
    let start = paddingEnds[gap]!;
    const end = gap < starts.length ? starts[gap]! : text.end;
    while (cut < cuts.length && cuts[cut]! <= start) cut++;
    for (; cut < cuts.length && cuts[cut]! < end; cut++) {
      if (cuts[cut]! > start) ranges.push([start, cuts[cut]!]);
      start = cuts[cut]!;
    }
    if (start < end) ranges.push([start, end]);
  }
  return ranges;
}
