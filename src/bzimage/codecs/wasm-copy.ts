/**
 * The copies that all LZ77 formats are made of, 16 or 8 bytes at a time where that gives the same bytes.
 *
 * They write up to 15 bytes behind `stop`, and read as far: those bytes are written again by what follows, or lie in the arena's slack.
 * Steps of 16 against 8: zstd 58 ms against 65, lz4 28 against 31 (57 and 53 MB, least of 25); as a v128 they are no faster.
 */
import { SLACK } from './arena.ts';
import {
  block,
  copyMemory,
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
} from './wasm.ts';

export interface Copy {
  /** Destination; equals `stop` afterwards. */
  readonly to: Local<'i32'>;
  /** Source; clobbered. */
  readonly from: Local<'i32'>;
  readonly stop: Local<'i32'>;
}

/** From here on, memory.copy is faster than a loop: it is a call out of the machine code. */
const LONG = 256;

function copyBy(step: 1 | 8 | 16, { to, from, stop }: Copy): Statement {
  return loop((next) => [
    step === 1 ? store8(to, load8(from)) : store64(to, load64(from)),
    step === 16 ? store64(to, load64(from, 8), 8) : [],
    to.increase(step),
    from.increase(step),
    next.goIf(to.below(stop)),
  ]);
}

/** Copies from a place that does not overlap: literals. */
export function copyApart(copy: Copy): Statements {
  const { to, from, stop } = copy;
  return [when(stop.sub(to).above(LONG), [copyMemory(to, from, stop.sub(to))], [copyBy(16, copy)]), to.set(stop)];
}

/** Copies a match: from `distance` bytes back, which may be less than its length and then repeats. */
export function copyMatch(copy: Copy, distance: I32): Statements {
  const { to, from, stop } = copy;
  return [
    from.set(to.sub(distance)),
    block((done) => [
      when(distance.atLeast(16), [copyBy(16, copy), done.go()]),
      when(distance.atLeast(8), [copyBy(8, copy), done.go()]),
      when(distance.differs(1), [copyBy(1, copy), done.go()]),
      // One byte, again and again. Zeros are what the arena holds from the slack on, and not to touch 20 MB saves 7 ms.
      from.set(load8(from)),
      fillMemory(to, from, select(from.isZero().and(stop.sub(to).above(SLACK)), i32(SLACK), stop.sub(to))),
    ]),
    to.set(stop),
  ];
}
