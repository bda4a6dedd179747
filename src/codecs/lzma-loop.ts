/**
 * LZMA itself: what .lzma files and the LZMA2 chunks of .xz files have in common.
 *
 * LZMA is LZ77 followed by an adaptive binary range coder. A symbol is a literal, a match (length, distance), or a match at one of the last four
 * distances. Each is written as a path of yes/no decisions, and each decision has its own probability, which moves by 1/32 towards what was
 * seen. Every decision depends on the one before, so there is one sequential loop: about 90 million decisions for a kernel of 66 MB.
 *
 * Literals are decoded without branches, since their bits are hard to predict (430 ms with branches, 405 without). Bits of lengths and distances
 * are decoded with branches, since they are easier to predict (the same time either way).
 *
 * Source: lzma-specification.txt in the LZMA SDK, whose names are used here; lib/xz/xz_dec_lzma2.c in the kernel.
 */
import type { Arena } from './arena.ts';
import { copyMatch } from './lz77-copy.ts';
import { alignedArray, array, keep, struct, u16, u32, u8, type Field } from './workspace.ts';
import {
  FunctionBuilder,
  block,
  i32,
  load16,
  load8,
  loop,
  repeatWhile,
  returns,
  select,
  store16,
  store8,
  when,
  type I32,
  type BranchTarget,
  type Local,
  type Statements,
} from '../wasm/assembler.ts';

const NUM_STATES = 12;
const POS_STATES_MAX = 16;
const MATCH_MIN_LEN = 2;
export const MATCH_MAX_LEN = 273;

/** Probabilities have 11 bits, and start in the middle. */
const PROB_TOTAL = 1 << 11;
const PROB_INIT = PROB_TOTAL / 2;
const MOVE_BITS = 5;
/** The range is kept at 24 bits or more. */
const TOP = 1 << 24;

/** Probabilities of a decoder of lengths: two choices, then trees of 3, 3 and 8 bits, the first two for each posState. */
const LENGTH_DECODER = struct({
  CHOICE: u16,
  CHOICE2: u16,
  LOW: array(u16, POS_STATES_MAX << 3),
  MID: array(u16, POS_STATES_MAX << 3),
  HIGH: array(u16, 1 << 8),
});
const LENGTH_DECODER_FIELD: Field = { size: LENGTH_DECODER.SIZE, alignment: u16.alignment };

/** Where each kind of probability is, in bytes from the first one. Literals come last: how many there are depends on the properties. */
const PROBABILITY = struct({
  IS_MATCH: array(u16, NUM_STATES * POS_STATES_MAX),
  IS_REP: array(u16, NUM_STATES),
  IS_REP_G0: array(u16, NUM_STATES),
  IS_REP_G1: array(u16, NUM_STATES),
  IS_REP_G2: array(u16, NUM_STATES),
  IS_REP0_LONG: array(u16, NUM_STATES * POS_STATES_MAX),
  POS_SLOT: array(u16, 4 * 64),
  POS_DECODERS: array(u16, 128),
  ALIGN: array(u16, 16),
  LENGTH: LENGTH_DECODER_FIELD,
  REP_LENGTH: LENGTH_DECODER_FIELD,
  LITERAL: array(u16, 0),
});
/** Bytes of a literal context: 256 probabilities for a literal alone, and 512 for one with a byte to match. */
const LITERAL_CONTEXT = u16.size * 0x300;

/** The loop's state between calls, by the names of its locals; then the probabilities. */
const WORKSPACE = struct({
  AT: u32,
  TO: u32,
  RANGE: u32,
  CODE: u32,
  STATE: u32,
  REPS: array(u32, 4),
  /** The longest distance of a new match so far, less 1. Others repeat one of those. */
  FARTHEST: u32,
  PROBABILITIES: alignedArray(u8, PROBABILITY.SIZE),
});

export interface Properties {
  /** Literal context bits: how many high bits of the previous byte choose a literal's probabilities. */
  readonly lc: number;
  /** Literal position bits: how many low bits of the position do so as well. */
  readonly lp: number;
  /** Position bits: how many low bits of the position choose the other probabilities. */
  readonly pb: number;
}

/** From the properties byte, (pb * 5 + lp) * 9 + lc; undefined above 224. */
export function propertiesOf(byte: number): Properties | undefined {
  if (byte >= 9 * 5 * 5) return undefined;
  return { lc: byte % 9, lp: Math.floor(byte / 9) % 5, pb: Math.floor(byte / 45) };
}

/** Bytes of workspace that a decoder with this `lc + lp` needs. */
export function lzmaWorkspaceSize(contextBits: number): number {
  return WORKSPACE.PROBABILITIES + PROBABILITY.LITERAL + LITERAL_CONTEXT * 2 ** contextBits;
}

/** Results of `decodeLzma`. */
const REACHED = 0;
const END_MARKER = 1;

/** The state of one decoder, in an arena whose program has `lzmaLoop`. */
export class LzmaState {
  readonly #arena: Arena;
  #properties: Properties = { lc: 0, lp: 0, pb: 0 };

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  setProperties(properties: Properties): void {
    this.#properties = properties;
  }

  reset(): void {
    const { lc, lp } = this.#properties;
    const count = (lzmaWorkspaceSize(lc + lp) - WORKSPACE.PROBABILITIES) / u16.size;
    new Uint16Array(this.#arena.bytes.buffer, WORKSPACE.PROBABILITIES, count).fill(PROB_INIT);
    this.#arena.set(WORKSPACE.STATE, 0);
    for (let rep = 0; rep < 4; rep++) this.#arena.set(WORKSPACE.REPS + 4 * rep, 0);
  }

  /** Starts the range coder with the five bytes at address `at`. The first of them must be 0; returns whether it is. */
  start(at: number): boolean {
    const { bytes } = this.#arena;
    const code = (bytes[at + 1]! << 24) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!;
    this.#arena.set(WORKSPACE.RANGE, -1);
    this.#arena.set(WORKSPACE.CODE, code);
    this.#arena.set(WORKSPACE.AT, at + 5);
    return bytes[at] === 0;
  }

  /** Address of the next byte to read. */
  get at(): number {
    return this.#arena.get(WORKSPACE.AT);
  }

  /** The longest distance of a match since `reach` was set to 0, if that is 5 or more. */
  get reach(): number {
    return this.#arena.get(WORKSPACE.FARTHEST) + 1;
  }

  forgetReach(): void {
    this.#arena.set(WORKSPACE.FARTHEST, 0);
  }

  /** Whether the range coder is used up, as it is at the end of a stream. */
  get finished(): boolean {
    return this.#arena.get(WORKSPACE.CODE) === 0;
  }

  /**
   * Decodes symbols until the output has reached `stopAt`, and moves the arena's end there. Returns whether the end marker came first. All are
   * addresses: the payload ends at `end`, nothing is written at `limit` or above, and nothing is copied from below `dictionary`.
   */
  decode(bounds: { end: number; stopAt: number; limit: number; dictionary: number }): boolean {
    const { lc, lp, pb } = this.#properties;
    const arena = this.#arena;
    arena.set(WORKSPACE.TO, arena.end);
    const masks = { lc, lpMask: 2 ** lp - 1, pbMask: 2 ** pb - 1 };
    const result = arena.call('decodeLzma', { ...bounds, ...masks }, this.at);
    arena.end = arena.get(WORKSPACE.TO);
    return result === END_MARKER;
  }
}

/**
 * The loop. Offsets of probabilities are in bytes, and so is `symbol`, which walks a tree: 2 for the root, then 2 * node.
 */
export function lzmaLoop(): FunctionBuilder {
  const f = new FunctionBuilder('decodeLzma');
  const bounds = f.parameters('end', 'stopAt', 'limit', 'dictionary');
  const { lc, lpMask, pbMask } = f.parameters('lc', 'lpMask', 'pbMask');
  const { at, to, range, code, state } = f.locals('i32', 'at', 'to', 'range', 'code', 'state');
  const { rep0, rep1, rep2, rep3, farthest } = f.locals('i32', 'rep0', 'rep1', 'rep2', 'rep3', 'farthest');
  const { prob, bound, zero } = f.locals('i32', 'prob', 'bound', 'zero');
  const { symbol, tree, bit, count, lengths } = f.locals('i32', 'symbol', 'tree', 'bit', 'count', 'lengths');
  const { posState, matched, offset, length, isRep } = f.locals(
    'i32',
    'posState',
    'matched',
    'offset',
    'length',
    'isRep',
  );
  const copy = { to, ...f.locals('i32', 'from', 'stop') };

  const normalize = when(range.below(TOP), [
    range.set(range.shl(8)),
    code.set(code.shl(8).or(load8(at))),
    at.increase(1),
  ]);

  const { load, save } = keep([
    [at, WORKSPACE.AT],
    [to, WORKSPACE.TO],
    [range, WORKSPACE.RANGE],
    [code, WORKSPACE.CODE],
    [state, WORKSPACE.STATE],
    [rep0, WORKSPACE.REPS],
    [rep1, WORKSPACE.REPS + 4],
    [rep2, WORKSPACE.REPS + 8],
    [rep3, WORKSPACE.REPS + 12],
    [farthest, WORKSPACE.FARTHEST],
  ]);

  const addressOf = (kind: number): number => WORKSPACE.PROBABILITIES + kind;
  /** Loads a probability, `base` bytes after the first of its `kind`, and computes the part of the range that it gives to 0. */
  const split = (base: I32, kind: number): Statements => [
    prob.set(load16(base, addressOf(kind))),
    bound.set(range.shr(11).mul(prob)),
  ];
  const takeZero = (base: I32, kind: number): Statements => [
    range.set(bound),
    store16(base, prob.add(i32(PROB_TOTAL).sub(prob).shr(MOVE_BITS)), addressOf(kind)),
    normalize,
  ];
  const takeOne = (base: I32, kind: number): Statements => [
    range.set(range.sub(bound)),
    code.set(code.sub(bound)),
    store16(base, prob.sub(prob.shr(MOVE_BITS)), addressOf(kind)),
    normalize,
  ];
  const decide = (base: I32, kind: number, ifZero: Statements, ifOne: Statements): Statements => [
    split(base, kind),
    when(code.below(bound), [takeZero(base, kind), ifZero], [takeOne(base, kind), ifOne]),
  ];
  /** The same without a branch: sets `zero` to 1 if the bit is 0. */
  const decideFlat = (base: I32, kind: number): Statements => [
    split(base, kind),
    zero.set(code.below(bound)),
    range.set(select(zero, bound, range.sub(bound))),
    code.set(select(zero, code, code.sub(bound))),
    // p + ((2048 - p) >> 5) is p - ((p - 2048 + 31) >> 5).
    store16(
      base,
      prob.sub(prob.add(select(zero, i32(2 ** MOVE_BITS - 1 - PROB_TOTAL), i32(0))).sar(MOVE_BITS)),
      addressOf(kind),
    ),
    normalize,
  ];
  const left = symbol.set(symbol.shl(1));
  const right = symbol.set(symbol.shl(1).add(2));
  const descend = symbol.set(symbol.shl(1).add(2).sub(zero.shl(1)));

  /** Reads a symbol of `bits` bits, highest first; `symbol` is then 2 * (2^bits + value). */
  const readTree = (bits: number, kind: number): Statements => [
    symbol.set(2),
    loop((again) => [decide(tree.add(symbol), kind, [left], [right]), again.goIf(symbol.below(2 << bits))]),
  ];
  const readLength = (kind: number, bits: number, least: number): Statements => [
    readTree(bits, kind),
    length.set(symbol.shr(1).add(least - 2 ** bits)),
  ];

  const readLiteral: Statements = [
    f.failIf(to.atLeast(bounds.limit), 'more bytes than were announced'),
    // Before the first byte, the previous byte counts as 0.
    symbol.set(select(to.equals(bounds.dictionary), i32(0), load8(to.sub(1)))),
    tree.set(to.sub(bounds.dictionary).and(lpMask).shl(lc)),
    tree.set(tree.add(symbol.shr(i32(8).sub(lc))).mul(LITERAL_CONTEXT)),
    symbol.set(2),
    when(
      state.below(7),
      [
        loop((again) => [decideFlat(tree.add(symbol), PROBABILITY.LITERAL), descend, again.goIf(symbol.below(0x200))]),
        state.set(select(state.below(4), i32(0), state.sub(3))),
      ],
      [
        // After a match, the byte that would have continued it chooses the probabilities too, for as long as the bits agree with it.
        matched.set(load8(to.sub(rep0).sub(1)).shl(1)),
        offset.set(0x200),
        loop((again) => [
          matched.set(matched.shl(1)),
          bit.set(matched.and(offset)),
          decideFlat(tree.add(offset).add(bit).add(symbol), PROBABILITY.LITERAL),
          descend,
          offset.set(offset.and(bit.xor(i32(0).sub(zero)))),
          again.goIf(symbol.below(0x200)),
        ]),
        state.set(select(state.below(10), state.sub(3), state.sub(6))),
      ],
    ),
    store8(to, symbol.shr(1)),
    to.increase(1),
  ];

  const useRep = (distance: Local<'i32'>, shift: Statements): Statements => [
    bit.set(distance),
    shift,
    rep1.set(rep0),
    rep0.set(bit),
  ];

  /** Sets rep0 to the distance less 1. Branches to `done` if the distance has no further bits. */
  const readDistance = (done: BranchTarget): Statements => [
    tree.set(select(length.below(MATCH_MIN_LEN + 3), length.sub(MATCH_MIN_LEN), i32(3)).shl(7)),
    readTree(6, PROBABILITY.POS_SLOT),
    symbol.set(symbol.shr(1).sub(64)),
    rep0.set(symbol),
    done.goIf(symbol.below(4)),
    // The slot says what the two highest bits are, and how many bits follow.
    count.set(symbol.shr(1).sub(1)),
    rep0.set(symbol.and(1).or(2)),
    when(
      symbol.below(14),
      [
        // The lowest bit first, each with its own probability.
        rep0.set(rep0.shl(count)),
        tree.set(rep0.sub(symbol).shl(1)),
        symbol.set(2),
        bit.set(1),
        loop((again) => [
          decide(tree.add(symbol), PROBABILITY.POS_DECODERS, [left], [right, rep0.increase(bit)]),
          bit.set(bit.shl(1)),
          count.increase(-1),
          again.goIf(count),
        ]),
      ],
      [
        // All but the last four bits are equally likely 0 or 1: each gets half of the range.
        count.increase(-4),
        loop((again) => [
          range.set(range.shr(1)),
          code.set(code.sub(range)),
          bit.set(code.sar(31)),
          code.set(code.add(range.and(bit))),
          rep0.set(rep0.shl(1).add(bit).add(1)),
          normalize,
          count.increase(-1),
          again.goIf(count),
        ]),
        rep0.set(rep0.shl(4)),
        symbol.set(2),
        [1, 2, 4, 8].map((value) => decide(symbol, PROBABILITY.ALIGN, [left], [right, rep0.increase(value)])),
        when(rep0.equals(-1), [save, returns(i32(END_MARKER))]),
      ],
    ),
  ];

  return f.body(
    [
      load,
      repeatWhile(to.below(bounds.stopAt), [
        // Once a symbol is enough: one symbol reads less than the slack after the payload.
        f.failIf(at.above(bounds.end), 'a stream that ends too early'),
        posState.set(to.sub(bounds.dictionary).and(pbMask)),
        block((symbolDone) => [
          tree.set(state.shl(4).add(posState).shl(1)),
          decide(tree, PROBABILITY.IS_MATCH, [readLiteral, symbolDone.go()], []),
          block((matchKnown) => [
            tree.set(state.shl(1)),
            isRep.set(0),
            lengths.set(PROBABILITY.LENGTH),
            decide(
              tree,
              PROBABILITY.IS_REP,
              [rep3.set(rep2), rep2.set(rep1), rep1.set(rep0), state.set(select(state.below(7), i32(7), i32(10)))],
              [
                isRep.set(1),
                lengths.set(PROBABILITY.REP_LENGTH),
                decide(
                  tree,
                  PROBABILITY.IS_REP_G0,
                  [
                    tree.set(state.shl(4).add(posState).shl(1)),
                    decide(
                      tree,
                      PROBABILITY.IS_REP0_LONG,
                      [length.set(1), state.set(select(state.below(7), i32(9), i32(11))), matchKnown.go()],
                      [],
                    ),
                  ],
                  [
                    decide(
                      tree,
                      PROBABILITY.IS_REP_G1,
                      [useRep(rep1, [])],
                      [
                        decide(
                          tree,
                          PROBABILITY.IS_REP_G2,
                          [useRep(rep2, [rep2.set(rep1)])],
                          [useRep(rep3, [rep3.set(rep2), rep2.set(rep1)])],
                        ),
                      ],
                    ),
                  ],
                ),
                state.set(select(state.below(7), i32(8), i32(11))),
              ],
            ),
            tree.set(lengths.add(posState.shl(4))),
            decide(
              lengths,
              LENGTH_DECODER.CHOICE,
              [readLength(LENGTH_DECODER.LOW, 3, MATCH_MIN_LEN)],
              [
                decide(
                  lengths,
                  LENGTH_DECODER.CHOICE2,
                  [readLength(LENGTH_DECODER.MID, 3, MATCH_MIN_LEN + 8)],
                  [tree.set(lengths), readLength(LENGTH_DECODER.HIGH, 8, MATCH_MIN_LEN + 16)],
                ),
              ],
            ),
            when(isRep.isZero(), [
              readDistance(matchKnown),
              // Short distances, which leave before here, are never the longest that matter.
              when(rep0.above(farthest), [farthest.set(rep0)]),
            ]),
          ]),
          f.failIf(rep0.atLeast(to.sub(bounds.dictionary)), 'a distance to before the dictionary'),
          f.failIf(length.above(bounds.limit.sub(to)), 'more bytes than were announced'),
          copy.stop.set(to.add(length)),
          copyMatch(copy, rep0.add(1)),
        ]),
      ]),
      save,
    ],
    i32(REACHED),
  );
}
