/**
 * The inner loops of DEFLATE (RFC 1951): the bitstream, Huffman codes, and the symbols of a block.
 *
 * Bits are read from the bottom of each byte up. Between calls the bit reader is kept in the workspace, so that gzip.ts can read headers with it.
 * Codes are packed from their highest bit on, against the order of the stream, so the lookup is by reversed codes.
 */
import {
  FunctionBuilder,
  block,
  i32,
  load16,
  load64,
  load8,
  loop,
  repeatWhile,
  returns,
  store16,
  store64,
  store8,
  when,
  type I32,
  type Local,
  type Statements,
} from '../wasm/assembler.ts';
import { CRC_FIELD } from './checksums.ts';
import { copyMatch } from './lz77-copy.ts';
import { alignedArray, keep, struct, u16, u32, u64, u8, type Kept } from './workspace.ts';

/** Section 3.2.5: literals, the end of the block, and lengths; 286 and 287 have codes in the fixed table only. Distances: 30 and 31 likewise. */
export const LITERAL_SYMBOLS = 288;
export const DISTANCE_SYMBOLS = 32;
export const END_OF_BLOCK = 256;
export const MAX_CODE_BITS = 15;
/** Codes up to this long are looked up at once. */
const LOOKUP_BITS = 10;

/** A Huffman code. */
const CODE = struct({
  /** For the next LOOKUP_BITS bits: symbol << 4 | length of its code, or 0 for longer codes and for none. */
  LOOKUP: alignedArray(u16, 1 << LOOKUP_BITS),
  /** How many codes there are of each length, and their symbols, sorted by code. */
  COUNTS: alignedArray(u16, MAX_CODE_BITS + 1),
  SYMBOLS: alignedArray(u16, LITERAL_SYMBOLS),
});

export const INFLATE_WORKSPACE = struct({
  /** The bitstream: the next bits at the bottom of BITS, HAVE of them; AT is the address of the byte after those. */
  AT: u32,
  HAVE: u32,
  BITS: u64,
  /** Address of the next byte of output. */
  TO: u32,
  CRC32: CRC_FIELD,
  /** For buildCode: the length of each symbol's code; and places in SYMBOLS by length. */
  LENGTHS: alignedArray(u8, LITERAL_SYMBOLS + DISTANCE_SYMBOLS),
  PLACES: alignedArray(u16, MAX_CODE_BITS + 2),
  /** By length or distance symbol: the base of the value, and how many bits to add. */
  LENGTH_BASES: alignedArray(u16, 32),
  LENGTH_BITS: alignedArray(u8, 32),
  DISTANCE_BASES: alignedArray(u16, 32),
  DISTANCE_BITS: alignedArray(u8, 32),
  LITERALS: alignedArray(u8, CODE.SIZE),
  DISTANCES: alignedArray(u8, CODE.SIZE),
});

/** Results of buildCode. */
export const CODE_COMPLETE = 0;
export const CODE_INCOMPLETE = 1;
export const CODE_TOO_MANY = 2;

/** Results of readSymbols. */
export const BLOCK_ENDS = 1;

export function inflateLoops(): FunctionBuilder[] {
  return [takeBits(), buildCode(), readSymbol(), readSymbols()];
}

interface Bits extends Kept {
  readonly at: Local<'i32'>;
  readonly have: Local<'i32'>;
  /** Makes at least 56 bits available. */
  readonly refill: Statements;
  /** The next `count` bits, up to 31. */
  peek(count: number | I32): I32;
  skip(count: number | I32): Statements;
}

function bitReader(f: FunctionBuilder): Bits {
  const { at, have } = f.locals('i32', 'at', 'have');
  const { bits } = f.locals('i64', 'bits');
  const words = keep([
    [at, INFLATE_WORKSPACE.AT],
    [have, INFLATE_WORKSPACE.HAVE],
  ]);
  const maskOf = (count: number | I32): I32 =>
    (typeof count === 'number' ? i32(1).shl(count) : i32(1).shl(count)).sub(1);
  return {
    at,
    have,
    load: [words.load, bits.set(load64(i32(0), INFLATE_WORKSPACE.BITS))],
    save: [words.save, store64(i32(0), bits, INFLATE_WORKSPACE.BITS)],
    // Bits above `have` are loaded as well, and loaded again later: the same ones.
    refill: [
      bits.set(bits.or(load64(at).shl(have.wide()))),
      at.increase(i32(63).sub(have).shr(3)),
      have.set(have.or(56)),
    ],
    peek: (count) => bits.low32().and(maskOf(count)),
    skip: (count) => [bits.set(bits.shr(typeof count === 'number' ? count : count.wide())), have.set(have.sub(count))],
  };
}

/** For headers: the next 0 to 16 bits. */
function takeBits(): FunctionBuilder {
  const f = new FunctionBuilder('takeBits');
  const { count } = f.parameters('count');
  const { value } = f.locals('i32', 'value');
  const reader = bitReader(f);
  return f.body([reader.load, reader.refill, value.set(reader.peek(count)), reader.skip(count), reader.save], value);
}

/**
 * Section 3.2.2: canonical codes, by length, and among equals by symbol. Fills the tables at `to` from the lengths at `lengths`, and returns whether the
 * lengths are those of a code.
 */
function buildCode(): FunctionBuilder {
  const f = new FunctionBuilder('buildCode');
  const { lengths, symbols, to } = f.parameters('lengths', 'symbols', 'to');
  const { symbol, length, place, left, code } = f.locals('i32', 'symbol', 'length', 'place', 'left', 'code');
  const { at, stop, bit, reversed, count } = f.locals('i32', 'at', 'stop', 'bit', 'reversed', 'count');
  const slot = (index: I32): I32 => index.shl(1);
  const forEachLength = (inner: Statements): Statements => [
    length.set(1),
    loop((next) => [inner, length.increase(1), next.goIf(length.atMost(MAX_CODE_BITS))]),
  ];

  return f.body(
    [
      at.set(to),
      stop.set(to.add(CODE.SIZE)),
      repeatWhile(at.below(stop), [store64(at, i32(0).wide()), at.increase(8)]),
      repeatWhile(symbol.below(symbols), [
        length.set(load8(lengths.add(symbol))),
        at.set(to.add(slot(length))),
        store16(at, load16(at, CODE.COUNTS).add(1), CODE.COUNTS),
        symbol.increase(1),
      ]),
      store16(to, i32(0), CODE.COUNTS),

      left.set(1),
      forEachLength([
        count.set(load16(to.add(slot(length)), CODE.COUNTS)),
        left.set(left.shl(1)),
        when(count.above(left), [returns(i32(CODE_TOO_MANY))]),
        left.set(left.sub(count)),
        store16(slot(length), place, INFLATE_WORKSPACE.PLACES),
        place.increase(count),
      ]),
      symbol.set(0),
      repeatWhile(symbol.below(symbols), [
        length.set(load8(lengths.add(symbol))),
        when(length, [
          place.set(load16(slot(length), INFLATE_WORKSPACE.PLACES)),
          store16(slot(length), place.add(1), INFLATE_WORKSPACE.PLACES),
          store16(to.add(slot(place)), symbol, CODE.SYMBOLS),
        ]),
        symbol.increase(1),
      ]),

      // The lookup, in the order of the codes.
      place.set(0),
      length.set(1),
      loop((nextLength) => [
        code.set(code.shl(1)),
        count.set(load16(to.add(slot(length)), CODE.COUNTS)),
        repeatWhile(count, [
          reversed.set(0),
          bit.set(0),
          repeatWhile(bit.below(length), [reversed.set(reversed.shl(1).or(code.shr(bit).and(1))), bit.increase(1)]),
          symbol.set(load16(to.add(slot(place)), CODE.SYMBOLS)),
          repeatWhile(reversed.below(1 << LOOKUP_BITS), [
            store16(to.add(slot(reversed)), symbol.shl(4).or(length)),
            reversed.increase(i32(1).shl(length)),
          ]),
          place.increase(1),
          code.increase(1),
          count.increase(-1),
        ]),
        length.increase(1),
        nextLength.goIf(length.atMost(LOOKUP_BITS)),
      ]),
      when(left, [returns(i32(CODE_INCOMPLETE))]),
    ],
    i32(CODE_COMPLETE),
  );
}

/** Decodes a symbol of the code at `table`, and skips its bits. */
function decodeSymbol(
  f: FunctionBuilder,
  { peek, skip }: Bits,
  table: I32,
  { symbol, length }: { symbol: Local<'i32'>; length: Local<'i32'> },
): Statements {
  const { code, count, place } = f.locals('i32', 'code', 'count', 'place');
  return [
    symbol.set(load16(table.add(peek(LOOKUP_BITS).shl(1)), CODE.LOOKUP)),
    when(
      symbol,
      [length.set(symbol.and(15)), symbol.set(symbol.shr(4))],
      [
        // Few symbols have longer codes: bit by bit, as the code is defined.
        length.set(1),
        code.set(peek(1)),
        place.set(0),
        count.set(load16(table, CODE.COUNTS + u16.size)),
        repeatWhile(code.atLeast(count), [
          f.failIf(length.equals(MAX_CODE_BITS), 'a code without a symbol'),
          code.set(code.sub(count)),
          place.increase(count),
          code.set(code.shl(1).or(peek(MAX_CODE_BITS).shr(length).and(1))),
          length.increase(1),
          count.set(load16(table.add(length.shl(1)), CODE.COUNTS)),
        ]),
        symbol.set(load16(table.add(place.add(code).shl(1)), CODE.SYMBOLS)),
      ],
    ),
    skip(length),
  ];
}

/** For headers: one symbol of the code at `table`. */
function readSymbol(): FunctionBuilder {
  const f = new FunctionBuilder('readSymbol');
  const { table } = f.parameters('table');
  const { symbol, length } = f.locals('i32', 'symbol', 'length');
  const reader = bitReader(f);
  return f.body([reader.load, reader.refill, decodeSymbol(f, reader, table, { symbol, length }), reader.save], symbol);
}

/**
 * Decodes symbols until the end of the block, or until `stopAt` is reached. All are addresses: the payload ends at `end`, the output begins at `start`,
 * which no match may reach below, and ends at `limit`.
 */
function readSymbols(): FunctionBuilder {
  const f = new FunctionBuilder('readSymbols');
  const { end, start, stopAt, limit } = f.parameters('end', 'start', 'stopAt', 'limit');
  const { symbol, length, distance, bits } = f.locals('i32', 'symbol', 'length', 'distance', 'bits');
  const { to } = f.locals('i32', 'to');
  const copy = { to, ...f.locals('i32', 'from', 'stop') };
  const reader = bitReader(f);
  const { at, have, peek, skip } = reader;
  const place = keep([[to, INFLATE_WORKSPACE.TO]]);
  const literals = i32(INFLATE_WORKSPACE.LITERALS);
  const distances = i32(INFLATE_WORKSPACE.DISTANCES);
  const { code } = f.locals('i32', 'code');

  return f.body([
    reader.load,
    place.load,
    loop((again) => [
      // A symbol with its distance takes 48 bits at most.
      reader.refill,
      f.failIf(at.sub(have.shr(3)).above(end), 'a block that ends after the payload'),
      decodeSymbol(f, reader, literals, { symbol, length: bits }),
      block((done) => [
        when(symbol.below(END_OF_BLOCK), [
          f.failIf(to.atLeast(limit), 'more bytes than claimed'),
          store8(to, symbol),
          to.increase(1),
          done.go(),
        ]),
        when(symbol.equals(END_OF_BLOCK), [reader.save, place.save, returns(i32(BLOCK_ENDS))]),
        code.set(symbol.sub(END_OF_BLOCK + 1)),
        f.failIf(code.atLeast(29), 'a length code that has no meaning'),
        bits.set(load8(code, INFLATE_WORKSPACE.LENGTH_BITS)),
        length.set(load16(code.shl(1), INFLATE_WORKSPACE.LENGTH_BASES).add(peek(bits))),
        skip(bits),
        decodeSymbol(f, reader, distances, { symbol: code, length: bits }),
        f.failIf(code.atLeast(30), 'a distance code that has no meaning'),
        bits.set(load8(code, INFLATE_WORKSPACE.DISTANCE_BITS)),
        distance.set(load16(code.shl(1), INFLATE_WORKSPACE.DISTANCE_BASES).add(peek(bits))),
        skip(bits),
        f.failIf(distance.above(to.sub(start)), 'a distance to before the output'),
        f.failIf(length.above(limit.sub(to)), 'more bytes than claimed'),
        copy.stop.set(to.add(length)),
        copyMatch(copy, distance),
      ]),
      again.goIf(to.below(stopAt)),
    ]),
    reader.save,
    place.save,
  ]);
}
