/**
 * The copies that all LZ77 formats are made of, 16 bytes at a time where that gives the same bytes.
 *
 * They write up to 15 bytes after `stop`, and read as far. Those bytes are overwritten by the next copy, or lie in the arena's slack.
 * Literals and matches are short (of Debian's 6.12 kernel in zstd, 99.8% and 94% have no more than 16 bytes), so most take one round, and speed
 * depends on having few branches that are hard to predict. Measured with zstd and lz4, 57 and 53 MB, without page faults: steps
 * of 8 take 47 and 12 ms, of 16 take 40 and 8; a v128 is no faster than two i64, and memory.copy for long ones no faster than the loop.
 */
import { SLACK } from './arena.ts';
import {
  block,
  fillMemory,
  i32,
  load64,
  load8,
  loop,
  select,
  store64,
  store8,
  when,
  type I32,
  type Local,
  type Statement,
  type Statements,
} from '../wasm/assembler.ts';

export interface Copy {
  /** Destination; equals `stop` afterwards. */
  readonly to: Local<'i32'>;
  /** Source; clobbered. */
  readonly from: Local<'i32'>;
  readonly stop: Local<'i32'>;
}

function copyBy(step: 1 | 16, { to, from, stop }: Copy): Statement {
  return loop((next) => [
    step === 1 ? store8(to, load8(from)) : [store64(to, load64(from)), store64(to, load64(from, 8), 8)],
    to.increase(step),
    from.increase(step),
    next.goIf(to.below(stop)),
  ]);
}

/** Copies from a place that does not overlap: literals. */
export function copyApart(copy: Copy): Statements {
  return [copyBy(16, copy), copy.to.set(copy.stop)];
}

/** Copies a match: from `distance` bytes back, which may be less than its length and then repeats. */
export function copyMatch(copy: Copy, distance: I32): Statements {
  const { to, from, stop } = copy;
  return [
    from.set(to.sub(distance)),
    block((done) => [
      // Two times 8, one after the other: the second may read what the first wrote.
      when(distance.atLeast(8), [copyBy(16, copy), done.go()]),
      when(distance.differs(1), [copyBy(1, copy), done.go()]),
      // One byte, repeated. After the slack the arena holds zeros already, and not touching 20 MB of them saves 7 ms.
      from.set(load8(from)),
      fillMemory(to, from, select(from.isZero().and(stop.sub(to).above(SLACK)), i32(SLACK), stop.sub(to))),
    ]),
    to.set(stop),
  ];
}
