/**
 * The inner loops of bzip2: the bitstream, Huffman codes, and the way back from the Burrows-Wheeler transform.
 *
 * Bits are read from the top of each byte down. Between calls the bit reader is kept in the workspace, so that bzip2.ts can read headers with it.
 */
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
  store16,
  store32,
  store64,
  store8,
  when,
  type I32,
  type Local,
  type Statements,
} from '../wasm/assembler.ts';
import { alignedArray, keep, struct, u16, u32, u64, u8, type Kept } from './workspace.ts';

export const MAX_GROUPS = 6;
/** Width of the field that says how many selectors there are. */
export const SELECTOR_COUNT_BITS = 15;
export const BLOCK_UNIT = 100_000;
const MAX_BLOCK = 9 * BLOCK_UNIT;
/** RUNA, RUNB, 255 places of the move-to-front list, and the end of the block. */
const MAX_SYMBOLS = 258;
const MAX_CODE_BITS = 20;
/** How many symbols a selector chooses the code for. */
const GROUP_SIZE = 50;
/** Codes up to this long are looked up at once. */
const LOOKUP_BITS = 10;

/** A Huffman code. */
const CODE = struct({
  /** For the next LOOKUP_BITS bits: symbol << 5 | length of its code, or 0 for longer codes. */
  LOOKUP: alignedArray(u16, 1 << LOOKUP_BITS),
  /** By length: the first code, left-aligned, that is longer; and what to add to a code for its place in SYMBOLS. */
  LIMITS: alignedArray(u32, MAX_CODE_BITS + 1),
  BASES: alignedArray(u32, MAX_CODE_BITS + 1),
  /** Sorted by code. */
  SYMBOLS: alignedArray(u16, MAX_SYMBOLS),
});

export const BZIP2_WORKSPACE = struct({
  /** The bitstream: the next bits at the top of BITS, HAVE of them; AT is the address of the byte after those. */
  AT: u32,
  HAVE: u32,
  BITS: u64,
  /** Where the output is in its block: index in ENTRIES, entries left, last byte, how often in a row, CRC, address. */
  POSITION: u32,
  LEFT: u32,
  LAST: u32,
  RUN: u32,
  CRC: u32,
  TO: u32,
  /** How often each byte occurs in a block; then where its entries begin. */
  COUNTS: alignedArray(u32, 256),
  /** The move-to-front list of bytes. */
  LIST: alignedArray(u8, 256),
  SELECTORS: alignedArray(u8, 1 << SELECTOR_COUNT_BITS),
  LENGTHS: alignedArray(u8, MAX_SYMBOLS),
  CRC_TABLE: alignedArray(u32, 256),
  /** A CODE for each group. */
  CODES: alignedArray(u8, MAX_GROUPS * CODE.SIZE),
  /** For each byte of a block: the byte, and the index of the one that follows << 8. */
  ENTRIES: alignedArray(u32, MAX_BLOCK),
});

export const codeAddress = (group: number): number => BZIP2_WORKSPACE.CODES + group * CODE.SIZE;

export function bzip2Loops(): FunctionBuilder[] {
  return [takeBits(), readSelectors(), readLengths(), buildCode(), readSymbols(), linkEntries(), writeBlock()];
}

interface Bits extends Kept {
  readonly at: Local<'i32'>;
  readonly have: Local<'i32'>;
  readonly bits: Local<'i64'>;
  /** Makes at least 32 bits available. */
  readonly refill: Statements;
  /** The next `count` bits, 1 to 32. */
  peek(count: number | I32): I32;
  skip(count: number | I32): Statements;
}

function bitReader(f: FunctionBuilder): Bits {
  const { at, have } = f.locals('i32', 'at', 'have');
  const { bits } = f.locals('i64', 'bits');
  const { word } = f.locals('i32', 'word');
  const words = keep([
    [at, BZIP2_WORKSPACE.AT],
    [have, BZIP2_WORKSPACE.HAVE],
  ]);
  const swapped = word.rotl(8).and(0x00ff_00ff).or(word.rotl(24).and(0xff00_ff00));
  return {
    at,
    have,
    bits,
    load: [words.load, bits.set(load64(i32(0), BZIP2_WORKSPACE.BITS))],
    save: [words.save, store64(i32(0), bits, BZIP2_WORKSPACE.BITS)],
    refill: [
      when(have.below(32), [
        word.set(load32(at)),
        bits.set(bits.or(swapped.wide().shl(i32(32).sub(have).wide()))),
        at.increase(4),
        have.increase(32),
      ]),
    ],
    peek: (count) => bits.shr((typeof count === 'number' ? i32(64 - count) : i32(64).sub(count)).wide()).low32(),
    skip: (count) => [bits.set(bits.shl(typeof count === 'number' ? count : count.wide())), have.set(have.sub(count))],
  };
}

/** For headers: the next 1 to 24 bits. */
function takeBits(): FunctionBuilder {
  const f = new FunctionBuilder('takeBits');
  const { count } = f.parameters('count');
  const { value } = f.locals('i32', 'value');
  const reader = bitReader(f);
  return f.body([reader.load, reader.refill, value.set(reader.peek(count)), reader.skip(count), reader.save], value);
}

/** Moves the byte at `list + place` to the front, and sets `byte` to it. */
function moveToFront(list: number, place: Local<'i32'>, byte: Local<'i32'>): Statements {
  return [
    byte.set(load8(place, list)),
    repeatWhile(place.atLeast(8), [store64(place, load64(place, list - 8), list - 7), place.increase(-8)]),
    repeatWhile(place, [store8(place, load8(place, list - 1), list), place.increase(-1)]),
    store8(i32(0), byte, list),
  ];
}

/** Selectors: places in a move-to-front list of groups, in unary. */
function readSelectors(): FunctionBuilder {
  const f = new FunctionBuilder('readSelectors');
  const { count, groups, end } = f.parameters('count', 'groups', 'end');
  const { index, place, group } = f.locals('i32', 'index', 'place', 'group');
  const reader = bitReader(f);
  return f.body([
    reader.load,
    Array.from({ length: MAX_GROUPS }, (_, i) => store8(i32(i), i32(i), BZIP2_WORKSPACE.LIST)),
    repeatWhile(index.below(count), [
      reader.refill,
      place.set(0),
      repeatWhile(reader.peek(1), [
        reader.skip(1),
        place.increase(1),
        f.failIf(place.atLeast(groups), 'a selector of a group that does not exist'),
      ]),
      reader.skip(1),
      moveToFront(BZIP2_WORKSPACE.LIST, place, group),
      store8(index, group, BZIP2_WORKSPACE.SELECTORS),
      index.increase(1),
      f.failIf(reader.at.above(end.add(8)), 'selectors after the end of the payload'),
    ]),
    reader.save,
  ]);
}

/** Lengths of codes: 5 bits to start with, then for each symbol steps of one up or down from the length before. */
function readLengths(): FunctionBuilder {
  const f = new FunctionBuilder('readLengths');
  const { symbols, end } = f.parameters('symbols', 'end');
  const { index, length } = f.locals('i32', 'index', 'length');
  const reader = bitReader(f);
  return f.body([
    reader.load,
    reader.refill,
    length.set(reader.peek(5)),
    reader.skip(5),
    repeatWhile(index.below(symbols), [
      reader.refill,
      repeatWhile(reader.peek(1), [
        // 10: longer, 11: shorter.
        length.set(length.add(1).sub(reader.peek(2).and(1).shl(1))),
        reader.skip(2),
        reader.refill,
        f.failIf(length.sub(1).atLeast(MAX_CODE_BITS), 'a code of 0 or more than 20 bits'),
        f.failIf(reader.at.above(end.add(8)), 'codes after the end of the payload'),
      ]),
      reader.skip(1),
      f.failIf(length.sub(1).atLeast(MAX_CODE_BITS), 'a code of 0 or more than 20 bits'),
      store8(index, length, BZIP2_WORKSPACE.LENGTHS),
      index.increase(1),
    ]),
    reader.save,
  ]);
}

/** Canonical codes: by length, and among equals by symbol. Fills the tables at `to` from LENGTHS. */
function buildCode(): FunctionBuilder {
  const f = new FunctionBuilder('buildCode');
  const { symbols, to } = f.parameters('symbols', 'to');
  const { symbol, length, code, sorted } = f.locals('i32', 'symbol', 'length', 'code', 'sorted');
  const { at, stop } = f.locals('i32', 'at', 'stop');
  return f.body([
    at.set(to),
    stop.set(to.add(2 << LOOKUP_BITS)),
    repeatWhile(at.below(stop), [store64(at, i32(0).wide()), at.increase(8)]),
    at.set(to),
    length.set(1),
    loop((nextLength) => [
      symbol.set(0),
      repeatWhile(symbol.below(symbols), [
        when(load8(symbol, BZIP2_WORKSPACE.LENGTHS).equals(length), [
          store16(to.add(sorted.shl(1)), symbol, CODE.SYMBOLS),
          when(length.atMost(LOOKUP_BITS), [
            stop.set(at.add(i32(2 << LOOKUP_BITS).shr(length))),
            f.failIf(stop.above(to.add(2 << LOOKUP_BITS)), 'more codes than their lengths allow'),
            repeatWhile(at.below(stop), [store16(at, symbol.shl(5).or(length)), at.increase(2)]),
          ]),
          sorted.increase(1),
          code.increase(1),
        ]),
        symbol.increase(1),
      ]),
      // Left-aligned: codes of this length are below the limit, longer ones are not.
      store32(to.add(length.shl(2)), code.shl(i32(MAX_CODE_BITS).sub(length)), CODE.LIMITS),
      store32(to.add(length.shl(2)), sorted.sub(code), CODE.BASES),
      f.failIf(code.above(i32(1).shl(length)), 'more codes than their lengths allow'),
      code.set(code.shl(1)),
      length.increase(1),
      nextLength.goIf(length.atMost(MAX_CODE_BITS)),
    ]),
  ]);
}

/**
 * Decodes symbols up to the end of the block, and writes the bytes that they stand for to ENTRIES, at most `room`. Counts each byte value in COUNTS,
 * and returns how many bytes there are. LIST holds the values that occur.
 */
function readSymbols(): FunctionBuilder {
  const f = new FunctionBuilder('readSymbols');
  const { symbols, selectors, room, end } = f.parameters('symbols', 'selectors', 'room', 'end');
  const { selector, inGroup, code, entry } = f.locals('i32', 'selector', 'inGroup', 'code', 'entry');
  const { symbol, length, byte, count } = f.locals('i32', 'symbol', 'length', 'byte', 'count');
  const { run, runBit } = f.locals('i32', 'run', 'runBit');
  const reader = bitReader(f);
  const { peek } = reader;
  const endOfBlock = symbols.sub(1);

  const append: Statements = [store32(count.shl(2), byte, BZIP2_WORKSPACE.ENTRIES), count.increase(1)];
  const countBytes = (by: I32): Statements => [
    entry.set(byte.shl(2)),
    store32(entry, load32(entry, BZIP2_WORKSPACE.COUNTS).add(by), BZIP2_WORKSPACE.COUNTS),
  ];

  return f.body(
    [
      reader.load,
      runBit.set(1),
      block((done) => [
        loop((next) => [
          when(inGroup.isZero(), [
            f.failIf(selector.atLeast(selectors), 'more symbols than the selectors cover'),
            f.failIf(reader.at.above(end.add(8)), 'symbols after the end of the payload'),
            code.set(load8(selector, BZIP2_WORKSPACE.SELECTORS).mul(CODE.SIZE).add(BZIP2_WORKSPACE.CODES)),
            selector.increase(1),
            inGroup.set(GROUP_SIZE),
          ]),
          inGroup.increase(-1),
          reader.refill,
          symbol.set(load16(code.add(peek(LOOKUP_BITS).shl(1)), CODE.LOOKUP)),
          when(
            symbol,
            [length.set(symbol.and(31)), symbol.set(symbol.shr(5))],
            [
              length.set(LOOKUP_BITS + 1),
              repeatWhile(peek(MAX_CODE_BITS).atLeast(load32(code.add(length.shl(2)), CODE.LIMITS)), [
                length.increase(1),
                f.failIf(length.above(MAX_CODE_BITS), 'a code without a symbol'),
              ]),
              symbol.set(peek(length).add(load32(code.add(length.shl(2)), CODE.BASES))),
              symbol.set(load16(code.add(symbol.shl(1)), CODE.SYMBOLS)),
            ],
          ),
          reader.skip(length),

          // RUNA and RUNB: a run of the first byte of the list. They are the digits 1 and 2 of its length, the lowest first.
          when(symbol.below(2), [
            run.increase(runBit.shl(symbol)),
            runBit.set(runBit.shl(1)),
            f.failIf(run.above(room.sub(count)), 'a run longer than the block'),
            next.go(),
          ]),
          when(run, [
            byte.set(load8(i32(0), BZIP2_WORKSPACE.LIST)),
            countBytes(run),
            repeatWhile(run, [append, run.increase(-1)]),
            runBit.set(1),
          ]),
          done.goIf(symbol.equals(endOfBlock)),
          f.failIf(count.atLeast(room), 'more bytes than a block may have'),
          symbol.increase(-1),
          moveToFront(BZIP2_WORKSPACE.LIST, symbol, byte),
          countBytes(i32(1)),
          append,
          next.go(),
        ]),
      ]),
      reader.save,
    ],
    count,
  );
}

/** Links each entry to the one that follows it; entries of one byte value keep their order. COUNTS must hold where those of each value begin. */
function linkEntries(): FunctionBuilder {
  const f = new FunctionBuilder('linkEntries');
  const { count } = f.parameters('count');
  const { index, place, at } = f.locals('i32', 'index', 'place', 'at');
  return f.body([
    repeatWhile(index.below(count), [
      place.set(load8(index.shl(2), BZIP2_WORKSPACE.ENTRIES).shl(2)),
      at.set(load32(place, BZIP2_WORKSPACE.COUNTS)),
      store32(place, at.add(1), BZIP2_WORKSPACE.COUNTS),
      at.set(at.shl(2)),
      store32(at, load32(at, BZIP2_WORKSPACE.ENTRIES).or(index.shl(8)), BZIP2_WORKSPACE.ENTRIES),
      index.increase(1),
    ]),
  ]);
}

/**
 * Follows the entries and writes their bytes, until none are left or `stopAt` is reached. The byte after four equal ones says how often they are
 * repeated further.
 */
function writeBlock(): FunctionBuilder {
  const f = new FunctionBuilder('writeBlock');
  const { stopAt, limit } = f.parameters('stopAt', 'limit');
  const { position, count, last, run, crc, to } = f.locals('i32', 'position', 'count', 'last', 'run', 'crc', 'to');
  const { byte } = f.locals('i32', 'byte');
  const { load, save } = keep([
    [position, BZIP2_WORKSPACE.POSITION],
    [count, BZIP2_WORKSPACE.LEFT],
    [last, BZIP2_WORKSPACE.LAST],
    [run, BZIP2_WORKSPACE.RUN],
    [crc, BZIP2_WORKSPACE.CRC],
    [to, BZIP2_WORKSPACE.TO],
  ]);
  const write = (value: I32): Statements => [
    store8(to, value),
    to.increase(1),
    crc.set(crc.shl(8).xor(load32(crc.shr(24).xor(value).shl(2), BZIP2_WORKSPACE.CRC_TABLE))),
  ];
  return f.body([
    load,
    repeatWhile(count.differs(0).and(to.below(stopAt)), [
      position.set(load32(position.shl(2), BZIP2_WORKSPACE.ENTRIES)),
      byte.set(position.and(0xff)),
      position.set(position.shr(8)),
      count.increase(-1),
      when(
        run.equals(4),
        [
          f.failIf(byte.above(limit.sub(to)), 'more bytes than claimed'),
          repeatWhile(byte, [write(last), byte.increase(-1)]),
          run.set(0),
          // No byte value: the next byte begins a new run, even if it is the same.
          last.set(-1),
        ],
        [
          when(byte.equals(last), [run.increase(1)], [run.set(1), last.set(byte)]),
          f.failIf(to.atLeast(limit), 'more bytes than claimed'),
          write(byte),
        ],
      ),
    ]),
    save,
  ]);
}
