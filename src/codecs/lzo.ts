/**
 * The lzop container with LZO1X blocks, as the kernel's lib/decompress_unlzo.c reads it.
 *
 * All numbers are big-endian.
 *
 *   9 bytes  magic
 *   u16      version (of lzop); u16 library version; from 0x940 on: u16 version needed to extract
 *   u8       method (1, 2, 3: all LZO1X); from 0x940 on: u8 level
 *   u32      flags; u32 filter, when flagged
 *   u32      mode; u32 mtime; from 0x940 on: u32 mtime, high half
 *   u8       length of the name; the name
 *   u32      checksum of the header from `version` on: CRC-32 or Adler-32
 *   (u32 decoded size | u32 compressed size | checksums, as flagged | block) ... u32 0
 *
 * Blocks decode to 256 KiB, the last to less, and are independent of each other. A block that did not shrink is stored.
 *
 * The kernel takes the header's fields after the version for those of 0x940, and skips exactly one checksum in each block, whatever the flags say. It
 * verifies none.
 * Sources: lzop's conf.h and lzop.c (the format's only definition), lib/decompress_unlzo.c, Documentation/staging/lzo.rst.
 */
import { hex } from '../base/errors.ts';
import { Arena } from './arena.ts';
import { CRC32, CRC_FIELD, Crc, adler32, adler32Loop, crcLoops } from './checksums.ts';
import { Faults, type Decoder, type Format } from './codec.ts';
import { DecoderProgram } from './decoder-program.ts';
import { struct } from './workspace.ts';
import { copyApart, copyMatch } from './lz77-copy.ts';
import {
  FunctionBuilder,
  block,
  i32,
  load16,
  load8,
  loop,
  returns,
  select,
  when,
  type I32,
  type Local,
  type Statements,
} from '../wasm/assembler.ts';

const faults = new Faults('lzo');
const program = new DecoderProgram(() => [decodeLzo1x(), adler32Loop(), ...crcLoops()]);

const MAGIC = [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a];
const VERSION_WITH_LEVEL = 0x0940;
const BLOCK_SIZE = 256 << 10;

/** lzop's conf.h. */
const F_ADLER32_D = 0x0001;
const F_ADLER32_C = 0x0002;
const F_H_EXTRA_FIELD = 0x0040;
const F_CRC32_D = 0x0100;
const F_CRC32_C = 0x0200;
const F_MULTIPART = 0x0400;
const F_H_FILTER = 0x0800;
const F_H_CRC32 = 0x1000;
const UNSUPPORTED_FLAGS = F_H_EXTRA_FIELD | F_MULTIPART | F_H_FILTER;

/** M1X_1_15, M1X_1, M1X_999: compressors of different effort for the same format. */
const METHODS: ReadonlySet<number> = new Set([1, 2, 3]);

/** The checksums of a block, in the order of the file: flag; CRC-32 (true) or Adler-32; of the decoded (true) or the compressed bytes. */
const BLOCK_SUMS = [
  [F_ADLER32_D, false, true],
  [F_CRC32_D, true, true],
  [F_ADLER32_C, false, false],
  [F_CRC32_C, true, false],
] as const;

const WORKSPACE = struct({ CRC32: CRC_FIELD });

/** Bytes of the arena, by address. */
interface Span {
  readonly from: number;
  readonly to: number;
}

class LzopReader {
  readonly #arena: Arena;
  /** Address. */
  #at: number;
  readonly #end: number;
  #crc32: Crc | undefined;

  constructor(arena: Arena, length: number) {
    this.#arena = arena;
    this.#at = arena.input;
    this.#end = arena.input + length;
  }

  decode(): Uint8Array {
    const arena = this.#arena;
    const flags = this.#readHeader();
    for (;;) {
      const decodedSize = this.#take(4, 'block size');
      if (decodedSize === 0) break;
      if (decodedSize > BLOCK_SIZE) throw this.#corrupt('block size', 4, decodedSize, `at most ${hex(BLOCK_SIZE)}`);
      this.#readBlock(decodedSize, flags);
      arena.settle();
      arena.pace(this.#at - arena.input);
    }
    if (this.#at !== this.#end) {
      throw faults.corrupt('data', { offset: this.#at - arena.input, found: 'bytes after the last block' });
    }
    return arena.finish();
  }

  #need(count: number, field: string): void {
    if (count > this.#end - this.#at) throw faults.ends(field, this.#end - this.#arena.input);
  }

  #take(count: 1 | 2 | 4, field: string): number {
    this.#need(count, field);
    let value = 0;
    for (let i = 0; i < count; i++) value = value * 256 + this.#arena.bytes[this.#at++]!;
    return value;
  }

  /** An error in a field of `size` bytes that was just taken. */
  #corrupt(field: string, size: number, found: number, expected: number | string): Error {
    return faults.corrupt(field, { offset: this.#at - size - this.#arena.input, found, expected });
  }

  /** Returns the flags. */
  #readHeader(): number {
    for (const byte of MAGIC) {
      const found = this.#take(1, 'magic');
      if (found !== byte) throw this.#corrupt('magic', 1, found, byte);
    }
    const from = this.#at;
    const version = this.#take(2, 'version');
    const isLong = version >= VERSION_WITH_LEVEL;
    this.#take(2, 'library version');
    if (isLong) this.#take(2, 'version needed to extract');
    else this.#arena.differs('version', { offset: MAGIC.length, found: version, expected: 'at least 0x940' });
    const method = this.#take(1, 'method');
    if (!METHODS.has(method)) throw faults.unsupported('method', { found: method, expected: 'LZO1X: 1 to 3' });
    if (isLong) this.#take(1, 'level');
    const flags = this.#take(4, 'flags');
    if (flags & UNSUPPORTED_FLAGS) throw faults.unsupported('flags', { found: flags });
    this.#take(4, 'mode');
    this.#take(4, 'mtime');
    if (isLong) this.#take(4, 'mtime, high half');
    const nameLength = this.#take(1, 'length of the name');
    this.#need(nameLength, 'name');
    this.#at += nameLength;
    const span = { from, to: this.#at };
    const found = this.#take(4, 'header checksum');
    const expected = this.#sum((flags & F_H_CRC32) !== 0, span);
    if (found !== expected) throw this.#corrupt('header checksum', 4, found, expected);
    return flags;
  }

  #sum(isCrc: boolean, { from, to }: Span): number {
    if (!isCrc) return adler32(this.#arena, from, to);
    this.#crc32 ??= new Crc(this.#arena, WORKSPACE.CRC32, CRC32);
    return Number(this.#crc32.sum(from, to));
  }

  #readBlock(decodedSize: number, flags: number): void {
    const arena = this.#arena;
    const size = this.#take(4, 'compressed size');
    if (size === 0 || size > decodedSize) throw this.#corrupt('compressed size', 4, size, `1 to ${hex(decodedSize)}`);
    const isStored = size === decodedSize;
    const sums: { isCrc: boolean; ofDecoded: boolean; sum: number; at: number }[] = [];
    for (const [flag, isCrc, ofDecoded] of BLOCK_SUMS) {
      // A stored block has no sums of compressed bytes.
      if ((flags & flag) === 0 || (isStored && !ofDecoded)) continue;
      sums.push({ isCrc, ofDecoded, sum: this.#take(4, 'block checksum'), at: this.#at - 4 });
    }
    if (sums.length !== 1) {
      this.#arena.differs('block checksums', {
        offset: this.#at - 4 * sums.length - this.#arena.input,
        found: sums.length === 0 ? 'none' : String(sums.length),
        expected: 'one in each block, as flagged',
      });
    }
    this.#need(size, 'block');
    const from = this.#at;
    const to = from + size;
    const start = arena.end;
    arena.reserve(decodedSize);
    const limit = start + decodedSize;
    if (isStored) arena.bytes.copyWithin(start, from, to);
    else arena.call('decodeLzo1x', { from, end: to, start, limit }, from);
    arena.end = limit;
    this.#at = to;

    for (const { isCrc, ofDecoded, sum, at } of sums) {
      const expected = this.#sum(isCrc, ofDecoded ? { from: start, to: limit } : { from, to });
      if (sum !== expected) {
        throw faults.corrupt('block checksum', { offset: at - arena.input, found: sum, expected });
      }
    }
  }
}

/** lib/lzo/lzodefs.h. Instructions for distances above one of these write the distance less that. */
const M2_MAX_OFFSET = 0x0800;
const M3_MAX_OFFSET = 0x4000;

/**
 * One LZO1X block to exactly start..limit.
 *
 * An instruction is a match and up to three literals after it, or a run of literals. What an instruction below 16 means depends on
 * `state`: how many literals came with the match before, 0 to 3, or 4 after a run. Table: Documentation/staging/lzo.rst.
 */
function decodeLzo1x(): FunctionBuilder {
  const f = new FunctionBuilder('decodeLzo1x');
  const { from: at, end, start, limit } = f.parameters('from', 'end', 'start', 'limit');
  const { instruction, literals, length, distance, state } = f.locals(
    'i32',
    'instruction',
    'literals',
    'length',
    'distance',
    'state',
  );
  const { byte } = f.locals('i32', 'byte');
  const { to } = f.locals('i32', 'to');
  const copy = { to, ...f.locals('i32', 'from', 'stop') };

  const need = (count: number): Statements => [
    f.failIf(end.sub(at).below(count), 'an instruction that ends after the block'),
  ];
  const takeByte = (into: Local<'i32'>): Statements => [need(1), into.set(load8(at)), at.increase(1)];
  /** `length` grows by 255 for each byte of 0, and by the first that is not. The block's length bounds it. */
  const readMore = (into: Local<'i32'>): Statements => [
    loop((again) => [takeByte(byte), into.increase(select(byte, byte, i32(255))), again.goIf(byte.isZero())]),
  ];
  const copyLiterals: Statements = [
    when(literals, [
      f.failIf(literals.above(end.sub(at)), 'more literals than the block has'),
      f.failIf(literals.above(limit.sub(to)), 'more bytes than the block should have'),
      copy.from.set(at),
      copy.stop.set(to.add(literals)),
      at.increase(literals),
      copyApart(copy),
    ]),
  ];
  /** Length in the low `bits` of the instruction, then 16 bits: distance, and two bits of literals. */
  const longMatch = (bits: number): Statements => [
    length.set(instruction.and(bits)),
    when(length.isZero(), [length.set(bits), readMore(length)]),
    length.increase(2),
    need(2),
    distance.set(load16(at).shr(2)),
    literals.set(load8(at).and(3)),
    at.increase(2),
  ];
  const is = (least: number): I32 => instruction.atLeast(least);

  return f.body([
    to.set(start),
    // The first byte has its own way to encode literals.
    takeByte(instruction),
    when(
      instruction.above(17),
      [literals.set(instruction.sub(17)), state.set(select(literals.below(4), literals, i32(4))), copyLiterals],
      [at.increase(-1)],
    ),

    loop((next) => [
      takeByte(instruction),
      block((matched) => [
        when(is(64), [
          takeByte(byte),
          length.set(instruction.shr(5).add(1)),
          distance.set(byte.shl(3).add(instruction.shr(2).and(7)).add(1)),
          literals.set(instruction.and(3)),
          matched.go(),
        ]),
        when(is(32), [longMatch(31), distance.increase(1), matched.go()]),
        when(is(16), [
          longMatch(7),
          distance.increase(instruction.and(8).shl(11)),
          // A distance of 0 here marks the end of the block.
          when(distance.isZero(), [
            f.failIf(length.differs(3).or(at.differs(end)), 'an end marker before the end'),
            f.failIf(to.differs(limit), 'fewer bytes than the block should have'),
            returns(i32(0)),
          ]),
          distance.increase(M3_MAX_OFFSET),
          matched.go(),
        ]),
        when(state.isZero(), [
          literals.set(instruction),
          when(literals.isZero(), [literals.set(15), readMore(literals)]),
          literals.increase(3),
          copyLiterals,
          state.set(4),
          next.go(),
        ]),
        takeByte(byte),
        distance.set(byte.shl(2).add(instruction.shr(2)).add(1)),
        length.set(2),
        literals.set(instruction.and(3)),
        when(state.equals(4), [distance.increase(M2_MAX_OFFSET), length.set(3)]),
      ]),
      f.failIf(distance.above(to.sub(start)), 'a distance to before the block'),
      f.failIf(length.above(limit.sub(to)), 'more bytes than the block should have'),
      copy.stop.set(to.add(length)),
      copyMatch(copy, distance),
      state.set(literals),
      copyLiterals,
      next.go(),
    ]),
  ]);
}

const decodeLzo: Decoder = async (data, size, watch, differs, onRead) => {
  const arena = await Arena.create({ program, faults, data, size, workspace: WORKSPACE.SIZE, watch, differs, onRead });
  return new LzopReader(arena, data.length).decode();
};

export const lzo: Format = { magic: MAGIC, decode: decodeLzo, program };
