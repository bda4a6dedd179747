/**
 * The copies that all LZ77 formats are made of, eight bytes at a time where that gives the same bytes.
 *
 * They write up to 7 bytes behind `stop`, and read as far: those bytes are written again by what follows, or lie in the arena's slack.
 */
import {
  block,
  copyMemory,
  fillMemory,
  load64,
  load8,
  loop,
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

function copyBy(step: 1 | 8, { to, from, stop }: Copy): Statement {
  return loop((next) => [
    step === 8 ? store64(to, load64(from)) : store8(to, load8(from)),
    to.increase(step),
    from.increase(step),
    next.goIf(to.below(stop)),
  ]);
}

/** Copies from a place that does not overlap: literals. At least one byte, if only into the slack, is always moved. */
export function copyApart(copy: Copy): Statements {
  const { to, from, stop } = copy;
  const count = stop.sub(to);
  return [when(count.above(LONG), [copyMemory(to, from, count)], [copyBy(8, copy)]), to.set(stop)];
}

/** Copies a match: from `distance` bytes back, which may be less than its length and then repeats. */
export function copyMatch(copy: Copy, distance: I32): Statements {
  const { to, from, stop } = copy;
  return [
    from.set(to.sub(distance)),
    block((done) => [
      when(distance.atLeast(8), [copyBy(8, copy), done.go()]),
      // Runs of one byte are long in a kernel: padding between sections.
      when(distance.equals(1), [fillMemory(to, load8(from), stop.sub(to)), done.go()]),
      copyBy(1, copy),
    ]),
    to.set(stop),
  ];
}
