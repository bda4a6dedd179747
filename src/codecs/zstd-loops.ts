/**
 * The inner loops of zstd: entropy tables, Huffman-coded literals, and sequences. Source: RFC 8878; section numbers below.
 *
 * Bitstreams are read backwards, from the last byte to the first (section 4.1). A reader holds the next bits at the top of a 64-bit
 * word and refills with one unaligned load. A stream that is read too far continues in the bytes before it, of the payload or the
 * workspace. That is harmless, and noticed at the end: a stream must have been read to exactly its first bit.
 */
import { SLACK } from './arena.ts';
import { copyApart, copyMatch } from './lz77-copy.ts';
import { alignedArray, array, keep, struct, u16, u32, u64, u8, type Field } from './workspace.ts';
import { XXH64_FIELD, xxh64Loop } from './xxh64.ts';
import {
  FunctionBuilder,
  block,
  i32,
  load16,
  load32,
  load64,
  load8,
  loop,
  repeatWhile,
  select,
  store16,
  store32,
  store64,
  store8,
  when,
  type I32,
  type Local,
  type Statements,
} from '../wasm/assembler.ts';

/** Maximum code length. Lookups always use this many bits, even when a table's longest code is shorter. */
export const HUFFMAN_BITS = 11;

/** Section 3.1.1.2.3: blocks decode to at most this, or the window size when that is smaller. */
export const BLOCK_MAX = 128 << 10;

/** The limits of each FSE table: 2^maxLog states, symbols 0 to maxSymbol. Sections 3.1.1.3.2.1 and 4.2.1.2. */
export const FSE_LIMITS = {
  LITERAL_LENGTHS: { maxLog: 9, maxSymbol: 35 },
  /** A decoder may refuse codes above 31, or fewer; 31 is a window of 2 GiB. */
  OFFSETS: { maxLog: 8, maxSymbol: 31 },
  MATCH_LENGTHS: { maxLog: 9, maxSymbol: 52 },
  WEIGHTS: { maxLog: 6, maxSymbol: HUFFMAN_BITS },
} as const;
const MAX_SYMBOLS = FSE_LIMITS.MATCH_LENGTHS.maxSymbol + 1;

/** An entry of an FSE table: base of the value, base of the next state (as an offset in the table), and how many bits to add to each. */
const ENTRY = struct({ VALUE: u32, NEXT: u16, VALUE_BITS: u8, NEXT_BITS: u8 });
/** log2 of ENTRY.SIZE. */
const ENTRY_SHIFT = 3;

type FseLimits = (typeof FSE_LIMITS)[keyof typeof FSE_LIMITS];
const fseTable = ({ maxLog }: FseLimits): Field => alignedArray(u8, ENTRY.SIZE << maxLog);
/** What each symbol means: the base of its value, and how many bits to add to it; a word each. */
const codeTable = ({ maxSymbol }: FseLimits): Field => alignedArray(u64, maxSymbol + 1);

export const ZSTD_WORKSPACE = struct({
  /** Kept from block to block: the last three offsets, and where the output ends. */
  REPEATS: array(u32, 3),
  OUTPUT_END: u32,
  HASH: XXH64_FIELD,
  /** For buildTable: how often each symbol occurs, and its next state. */
  COUNTS: alignedArray(u32, MAX_SYMBOLS),
  NEXT_STATES: alignedArray(u32, MAX_SYMBOLS),
  LITERAL_LENGTH_CODES: codeTable(FSE_LIMITS.LITERAL_LENGTHS),
  OFFSET_CODES: codeTable(FSE_LIMITS.OFFSETS),
  MATCH_LENGTH_CODES: codeTable(FSE_LIMITS.MATCH_LENGTHS),
  WEIGHT_CODES: codeTable(FSE_LIMITS.WEIGHTS),
  /** For buildHuffman: where the next symbol of each weight goes. */
  HUFFMAN_PLACES: alignedArray(u32, HUFFMAN_BITS + 1),
  /** Weights of Huffman codes: up to 255, and the one that is not written. */
  WEIGHTS: alignedArray(u8, 256),
  LITERAL_LENGTHS: fseTable(FSE_LIMITS.LITERAL_LENGTHS),
  OFFSETS: fseTable(FSE_LIMITS.OFFSETS),
  MATCH_LENGTHS: fseTable(FSE_LIMITS.MATCH_LENGTHS),
  WEIGHT_TABLE: fseTable(FSE_LIMITS.WEIGHTS),
  /** Entries: u8 bits of the code, u8 symbol. */
  HUFFMAN: alignedArray(u16, 1 << HUFFMAN_BITS),
  /** Decoded literals of a block. Copies may read SLACK bytes further. */
  LITERALS: alignedArray(u8, BLOCK_MAX + SLACK),
});

export function zstdLoops(): FunctionBuilder[] {
  return [buildTable(), readWeights(), buildHuffman(), readLiterals1(), readLiterals4(), runSequences(), xxh64Loop()];
}

/** Section 4.1.1, "From Normalized Distribution to Decoding Tables": from COUNTS and `codes` to `table`. */
function buildTable(): FunctionBuilder {
  const f = new FunctionBuilder('buildTable');
  const { log, symbols, codes, table } = f.parameters('log', 'symbols', 'codes', 'table');
  const { symbol, count, state, high, mask, width, code } = f.locals(
    'i32',
    'symbol',
    'count',
    'state',
    'high',
    'mask',
    'width',
    'code',
  );
  const at = (index: I32): I32 => table.add(index.shl(ENTRY_SHIFT));
  const step = mask.add(1).shr(1).add(mask.add(1).shr(3)).add(3);
  const forEachSymbol = (inner: Statements): Statements => [
    symbol.set(0),
    repeatWhile(symbol.below(symbols), [
      count.set(load32(symbol.shl(2), ZSTD_WORKSPACE.COUNTS)),
      inner,
      symbol.increase(1),
    ]),
  ];

  return f.body([
    mask.set(i32(1).shl(log).sub(1)),
    high.set(mask),
    // Symbols with a count of -1 get one state each, from the top down.
    forEachSymbol([
      when(count.equals(-1), [store32(at(high), symbol, ENTRY.VALUE), high.increase(-1), count.set(1)]),
      store32(symbol.shl(2), count, ZSTD_WORKSPACE.NEXT_STATES),
    ]),
    // The others are spread over the rest.
    forEachSymbol([
      when(count.differs(-1), [
        repeatWhile(count, [
          store32(at(state), symbol, ENTRY.VALUE),
          loop((again) => [state.set(state.add(step).and(mask)), again.goIf(state.above(high))]),
          count.increase(-1),
        ]),
      ]),
    ]),
    state.set(0),
    loop((again) => [
      symbol.set(load32(at(state), ENTRY.VALUE)),
      count.set(load32(symbol.shl(2), ZSTD_WORKSPACE.NEXT_STATES)),
      store32(symbol.shl(2), count.add(1), ZSTD_WORKSPACE.NEXT_STATES),
      width.set(log.add(count.leadingZeros()).sub(31)),
      code.set(codes.add(symbol.shl(3))),
      store32(at(state), load32(code), ENTRY.VALUE),
      store8(at(state), load8(code, 4), ENTRY.VALUE_BITS),
      store16(at(state), count.shl(width).sub(mask).sub(1).shl(ENTRY_SHIFT), ENTRY.NEXT),
      store8(at(state), width, ENTRY.NEXT_BITS),
      state.increase(1),
      again.goIf(state.atMost(mask)),
    ]),
  ]);
}

interface BitReader {
  /** The next bits, from the top down. */
  readonly bits: Local<'i64'>;
  /** How many bits of the word at `at` are used up. */
  readonly used: Local<'i32'>;
  readonly at: Local<'i32'>;
}

function bitReader(f: FunctionBuilder): BitReader {
  return { ...f.locals('i64', 'bits'), ...f.locals('i32', 'used', 'at') };
}

/** Starts at the end of a stream, below the highest 1 of its last byte. */
function open({ bits, used, at }: BitReader, end: I32): Statements {
  return [
    at.set(end.sub(8)),
    used.set(load8(end.sub(1)).leadingZeros().sub(23)),
    bits.set(load64(at).shl(used.wide())),
  ];
}

/** Makes at least 57 bits available. */
function refill({ bits, used, at }: BitReader): Statements {
  return [at.set(at.sub(used.shr(3))), used.set(used.and(7)), bits.set(load64(at).shl(used.wide()))];
}

/** The next `count` bits, 0 to 31. */
function peek({ bits }: BitReader, count: I32): I32 {
  return bits.shr(1).shr(count.xor(63).wide()).low32();
}

function skip({ bits, used }: BitReader, count: I32): Statements {
  return [bits.set(bits.shl(count.wide())), used.increase(count)];
}

/** How many bits are left of a stream that begins at `start`; negative if it was read too far. */
function bitsLeft({ used, at }: BitReader, start: I32): I32 {
  return at.add(8).sub(start).shl(3).sub(used);
}

const BAD_END = 'a bitstream that does not end with its last symbol';

/** Section 4.2.1.2: weights of Huffman codes, by two states that take turns. Returns how many. */
function readWeights(): FunctionBuilder {
  const f = new FunctionBuilder('readWeights');
  const { start, end, log } = f.parameters('start', 'end', 'log');
  const { state, other, count, bits } = f.locals('i32', 'state', 'other', 'count', 'bits');
  const reader = bitReader(f);
  const take = (): Statements => [
    store8(count, load32(state, ZSTD_WORKSPACE.WEIGHT_TABLE + ENTRY.VALUE), ZSTD_WORKSPACE.WEIGHTS),
    count.increase(1),
  ];
  return f.body(
    [
      open(reader, end),
      state.set(peek(reader, log).shl(ENTRY_SHIFT)),
      skip(reader, log),
      other.set(peek(reader, log).shl(ENTRY_SHIFT)),
      skip(reader, log),
      f.failIf(bitsLeft(reader, start).sar(31), 'Huffman weights of fewer bits than two states need'),
      block((done) => [
        loop((again) => [
          take(),
          f.failIf(count.above(254), 'more than 255 Huffman weights'),
          bits.set(load8(state, ZSTD_WORKSPACE.WEIGHT_TABLE + ENTRY.NEXT_BITS)),
          done.goIf(bitsLeft(reader, start).sub(bits).sar(31)),
          bits.set(other),
          other.set(nextState(reader, state, ZSTD_WORKSPACE.WEIGHT_TABLE)),
          skip(reader, load8(state, ZSTD_WORKSPACE.WEIGHT_TABLE + ENTRY.NEXT_BITS)),
          refill(reader),
          state.set(bits),
          again.go(),
        ]),
      ]),
      // Too few bits for this state to advance. The other one still has a symbol.
      state.set(other),
      take(),
    ],
    count,
  );
}

function nextState(reader: BitReader, state: I32, table: number): I32 {
  const bits = load8(state, table + ENTRY.NEXT_BITS);
  return load16(state, table + ENTRY.NEXT).add(peek(reader, bits).shl(ENTRY_SHIFT));
}

/**
 * Section 4.2.1.3: makes HUFFMAN from WEIGHTS. A symbol of weight w has 2^(w - 1) shares. The last weight is not written, because the sum of all
 * shares must be a power of 2.
 */
function buildHuffman(): FunctionBuilder {
  const f = new FunctionBuilder('buildHuffman');
  const { count } = f.parameters('count');
  const { symbol, weight, sum, left, spread } = f.locals('i32', 'symbol', 'weight', 'sum', 'left', 'spread');
  const { entry, to, stop, place } = f.locals('i32', 'entry', 'to', 'stop', 'place');
  const { pattern } = f.locals('i64', 'pattern');
  const forEachWeight = (inner: Statements): Statements => [
    symbol.set(0),
    repeatWhile(symbol.below(count), [weight.set(load8(symbol, ZSTD_WORKSPACE.WEIGHTS)), inner, symbol.increase(1)]),
  ];
  const slot = weight.shl(2);
  const shares = i32(1).shl(weight).shr(1);

  return f.body([
    weight.set(0),
    repeatWhile(weight.atMost(HUFFMAN_BITS), [
      store32(slot, i32(0), ZSTD_WORKSPACE.HUFFMAN_PLACES),
      weight.increase(1),
    ]),
    forEachWeight([f.failIf(weight.above(HUFFMAN_BITS), 'a Huffman weight above 11'), sum.increase(shares)]),
    f.failIf(sum.isZero(), 'Huffman weights that are all 0'),
    left.set(i32(1).shl(i32(32).sub(sum.leadingZeros())).sub(sum)),
    f.failIf(left.and(left.sub(1)), 'Huffman weights that no last weight completes'),
    store8(count, i32(32).sub(left.leadingZeros()), ZSTD_WORKSPACE.WEIGHTS),
    count.increase(1),
    // log2 of the scale that makes every table as large as if its longest code had 11 bits.
    spread.set(sum.leadingZeros().sub(32 - HUFFMAN_BITS)),
    f.failIf(spread.above(HUFFMAN_BITS), 'a Huffman code of more than 11 bits'),
    forEachWeight([
      store32(
        slot,
        load32(slot, ZSTD_WORKSPACE.HUFFMAN_PLACES).add(shares.shl(spread.add(1))),
        ZSTD_WORKSPACE.HUFFMAN_PLACES,
      ),
    ]),
    // Of the longest codes there are at least two, as they come in pairs. libzstd insists on it.
    f.failIf(load32(i32(4), ZSTD_WORKSPACE.HUFFMAN_PLACES).isZero(), 'Huffman weights of which none is 1'),
    // Turns the number of places of each weight into the address where they begin: the longest codes, with the smallest weights, first.
    weight.set(1),
    place.set(ZSTD_WORKSPACE.HUFFMAN),
    repeatWhile(weight.atMost(HUFFMAN_BITS), [
      to.set(load32(slot, ZSTD_WORKSPACE.HUFFMAN_PLACES)),
      store32(slot, place, ZSTD_WORKSPACE.HUFFMAN_PLACES),
      place.increase(to),
      weight.increase(1),
    ]),
    forEachWeight([
      when(weight, [
        entry.set(
          symbol.shl(8).or(
            i32(HUFFMAN_BITS + 1)
              .sub(spread)
              .sub(weight),
          ),
        ),
        to.set(load32(slot, ZSTD_WORKSPACE.HUFFMAN_PLACES)),
        stop.set(to.add(shares.shl(spread.add(1)))),
        store32(slot, stop, ZSTD_WORKSPACE.HUFFMAN_PLACES),
        when(
          stop.sub(to).below(8),
          [repeatWhile(to.below(stop), [store16(to, entry), to.increase(2)])],
          [
            pattern.set(entry.wide().mul(0x0001_0001_0001_0001n)),
            repeatWhile(to.below(stop), [store64(to, pattern), to.increase(8)]),
          ],
        ),
      ]),
    ]),
  ]);
}

function readLiteral({ bits, used }: BitReader, entry: Local<'i32'>, to: I32, offset: number): Statements {
  return [
    entry.set(
      load16(
        bits
          .shr(64 - HUFFMAN_BITS)
          .low32()
          .shl(1),
        ZSTD_WORKSPACE.HUFFMAN,
      ),
    ),
    store8(to, entry.shr(8), offset),
    // Shifts count modulo 64 and a length is at most 11, so the symbol in the upper byte need not be masked off.
    bits.set(bits.shl(entry.wide())),
    used.increase(entry.and(0xff)),
  ];
}

/** Section 4.2.2: literals in a single stream, which are few. */
function readLiterals1(): FunctionBuilder {
  const f = new FunctionBuilder('readLiterals1');
  const { start, end, to, count } = f.parameters('start', 'end', 'to', 'count');
  const { entry, stop } = f.locals('i32', 'entry', 'stop');
  const reader = bitReader(f);
  return f.body([
    open(reader, end),
    stop.set(to.add(count)),
    repeatWhile(to.below(stop), [readLiteral(reader, entry, to, 0), refill(reader), to.increase(1)]),
    f.failIf(bitsLeft(reader, start), BAD_END),
  ]);
}

/** How many codes a refill is sure to cover: five times 11 bits. */
const PER_REFILL = 5;

/**
 * Section 4.2.2: literals in four streams of a quarter each, the last a little less. They are decoded side by side, since each is a chain of
 * dependent loads. `count` is 6 or more.
 */
function readLiterals4(): FunctionBuilder {
  const f = new FunctionBuilder('readLiterals4');
  const { start, end1, end2, end3, end4, to, count } = f.parameters(
    'start',
    'end1',
    'end2',
    'end3',
    'end4',
    'to',
    'count',
  );
  const { quarter, stop, entry } = f.locals('i32', 'quarter', 'stop', 'entry');
  const ends = [end1, end2, end3, end4];
  const streams = [start, end1, end2, end3].map((first, i) => {
    const { next } = f.locals('i32', 'next');
    return { first, end: ends[i]!, reader: bitReader(f), next };
  });
  const { next: lastNext } = streams[3]!;

  return f.body([
    quarter.set(count.add(3).shr(2)),
    streams.map(({ end, reader, next }, i) => [open(reader, end), next.set(to.add(quarter.mul(i)))]),
    // While the last stream, which is the shortest, has five left.
    stop.set(to.add(count)),
    repeatWhile(stop.sub(lastNext).atLeast(PER_REFILL), [
      Array.from({ length: PER_REFILL }, (_, i) =>
        streams.map(({ reader, next }) => readLiteral(reader, entry, next, i)),
      ),
      streams.map(({ reader, next }) => [refill(reader), next.increase(PER_REFILL)]),
    ]),
    streams.map(({ first, reader, next }, i) => [
      stop.set(to.add(i < 3 ? quarter.mul(i + 1) : count)),
      repeatWhile(next.below(stop), [readLiteral(reader, entry, next, 0), refill(reader), next.increase(1)]),
      f.failIf(bitsLeft(reader, first), BAD_END),
    ]),
  ]);
}

/**
 * Sections 3.1.1.4 and 3.1.1.5: decodes `count` sequences (1 or more) and executes each at once. `logs`: of the tables of literal
 * lengths, of offsets << 8, of match lengths << 16.
 */
function runSequences(): FunctionBuilder {
  const f = new FunctionBuilder('runSequences');
  const { start, end, count, logs } = f.parameters('start', 'end', 'count', 'logs');
  const { literals, literalsEnd } = f.parameters('literals', 'literalsEnd');
  const { to, limit, dictionary } = f.parameters('to', 'limit', 'dictionary');
  const reader = bitReader(f);
  const { literalState, offsetState, matchState } = f.locals('i32', 'literalState', 'offsetState', 'matchState');
  const { literalBits, offsetBits, matchBits } = f.locals('i32', 'literalBits', 'offsetBits', 'matchBits');
  const { literalLength, offset, matchLength } = f.locals('i32', 'literalLength', 'offset', 'matchLength');
  const { repeat1, repeat2, repeat3 } = f.locals('i32', 'repeat1', 'repeat2', 'repeat3');
  const { bits, isNew, place } = f.locals('i32', 'bits', 'isNew', 'place');
  const copy = { to, ...f.locals('i32', 'from', 'stop') };
  const kept = keep([
    [repeat1, ZSTD_WORKSPACE.REPEATS],
    [repeat2, ZSTD_WORKSPACE.REPEATS + 4],
    [repeat3, ZSTD_WORKSPACE.REPEATS + 8],
  ]);

  const firstState = (state: Local<'i32'>, shift: number): Statements => [
    bits.set(logs.shr(shift).and(0xff)),
    state.set(peek(reader, bits).shl(ENTRY_SHIFT)),
    skip(reader, bits),
  ];
  const advance = (state: Local<'i32'>, table: number): Statements => [
    bits.set(load8(state, table + ENTRY.NEXT_BITS)),
    state.set(load16(state, table + ENTRY.NEXT).add(peek(reader, bits).shl(ENTRY_SHIFT))),
    skip(reader, bits),
  ];
  const takeMore = (value: Local<'i32'>, extra: I32): Statements => [
    value.increase(peek(reader, extra)),
    skip(reader, extra),
  ];

  /**
   * Section 3.1.1.5: an offset of 1 to 3 means one of the last three; without literals, the second, the third, or the last less 1. `place` says which
   * of these four it is, and is 4 for a new offset too, as both push out the third. There are no branches, because 43% are repeats: saves 3 ms.
   */
  const resolveOffset: Statements = [
    isNew.set(offset.above(3)),
    place.set(select(isNew, i32(4), offset.add(literalLength.isZero()))),
    offset.set(
      select(
        isNew,
        offset.sub(3),
        select(
          place.equals(1),
          repeat1,
          select(place.equals(2), repeat2, select(place.equals(3), repeat3, repeat1.sub(1))),
        ),
      ),
    ),
    repeat3.set(select(place.below(3), repeat3, repeat2)),
    repeat2.set(select(place.below(2), repeat2, repeat1)),
    repeat1.set(offset),
  ];

  const copyLiterals: Statements = [
    copy.from.set(literals),
    copy.stop.set(to.add(literalLength)),
    literals.increase(literalLength),
    copyApart(copy),
  ];

  return f.body([
    kept.load,
    open(reader, end),
    firstState(literalState, 0),
    firstState(offsetState, 8),
    firstState(matchState, 16),
    refill(reader),
    loop((again) => [
      offsetBits.set(load8(offsetState, ZSTD_WORKSPACE.OFFSETS + ENTRY.VALUE_BITS)),
      matchBits.set(load8(matchState, ZSTD_WORKSPACE.MATCH_LENGTHS + ENTRY.VALUE_BITS)),
      literalBits.set(load8(literalState, ZSTD_WORKSPACE.LITERAL_LENGTHS + ENTRY.VALUE_BITS)),
      offset.set(load32(offsetState, ZSTD_WORKSPACE.OFFSETS + ENTRY.VALUE)),
      matchLength.set(load32(matchState, ZSTD_WORKSPACE.MATCH_LENGTHS + ENTRY.VALUE)),
      literalLength.set(load32(literalState, ZSTD_WORKSPACE.LITERAL_LENGTHS + ENTRY.VALUE)),
      takeMore(offset, offsetBits),
      // Lengths up to 34 and 15 have no more bits.
      when(matchBits.or(literalBits), [
        takeMore(matchLength, matchBits),
        // Of the 57 bits, the next states take 26.
        when(
          offsetBits
            .add(matchBits)
            .add(literalBits)
            .above(57 - 26),
          [refill(reader)],
        ),
        takeMore(literalLength, literalBits),
      ]),
      resolveOffset,
      count.increase(-1),
      when(count, [
        advance(literalState, ZSTD_WORKSPACE.LITERAL_LENGTHS),
        advance(matchState, ZSTD_WORKSPACE.MATCH_LENGTHS),
        advance(offsetState, ZSTD_WORKSPACE.OFFSETS),
        refill(reader),
      ]),

      f.failIf(literalLength.above(literalsEnd.sub(literals)), 'more literals than there are'),
      f.failIf(literalLength.add(matchLength).above(limit.sub(to)), 'more bytes than a block or the payload may have'),
      copyLiterals,
      f.failIf(offset.sub(1).atLeast(to.sub(dictionary)), 'an offset to before the output'),
      copy.stop.set(to.add(matchLength)),
      copyMatch(copy, offset),
      again.goIf(count),
    ]),
    f.failIf(bitsLeft(reader, start), BAD_END),
    // Literals after the last match.
    literalLength.set(literalsEnd.sub(literals)),
    f.failIf(literalLength.above(limit.sub(to)), 'more bytes than a block or the payload may have'),
    copyLiterals,
    kept.save,
    store32(i32(0), to, ZSTD_WORKSPACE.OUTPUT_END),
  ]);
}
