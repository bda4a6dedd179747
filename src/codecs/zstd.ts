/**
 * The part of the zstd format (RFC 8878) that kernels are written in: one frame, without a dictionary.
 *
 *   frame header | block ... | XXH64 of the content, low 32 bits, when flagged
 *
 * A block is stored, one byte repeated, or compressed: literals (mostly Huffman-coded) and sequences of (literal length, offset, match
 * length), whose codes are FSE-coded. This file reads headers, zstd-tables.ts reads the descriptions of tables, zstd-loops.ts fills the tables and decodes.
 *
 * Why not libzstd as WebAssembly (zstddec 0.3.4): see bench/codecs.ts. Measured with Debian's 6.12 kernel, 57 MB, Node 20, cold: 300 ms
 * against 90 here. It grows its memory step by step, copies the result, and its module is 55 KB to compile.
 *
 * Why not Node's zlib, which has libzstd from 22.15 on: `convert` takes as long with it, and 60 MiB more memory, as what is decoded in one piece cannot be
 * written while it is decoded; what it accepts differs between versions of Node (22 reports no truncated payload); and it cannot say where a kernel's
 * decompressor would read a payload differently. docs/performance.md has the figures (bench/node-versions.ts).
 */
import { hex } from '../base/errors.ts';
import { Arena, EXTRA_WITH_ZSTD } from './arena.ts';
import { Faults, magicBytes, type Decoder, type Format } from './codec.ts';
import { DecoderProgram } from './decoder-program.ts';
import { Xxh64 } from './xxh64.ts';
import { BLOCK_MAX, FSE_LIMITS, HUFFMAN_BITS, ZSTD_WORKSPACE, zstdLoops } from './zstd-loops.ts';
import {
  buildTable,
  KERNEL_TABLE_MIN,
  readDistribution,
  readHuffman,
  TABLE_MIN_EXPECTED,
  type Distribution,
  type Limits,
  type TablePlace,
} from './zstd-tables.ts';

const faults = new Faults('zstd');
const program = new DecoderProgram(zstdLoops);

/** Section 3.1.1. */
const MAGIC = 0xfd2fb528;
/** The most that is read around a block: its header (3 bytes), before the first block the frame header, after it the next header or a checksum (4). */
const HEADERS_MAX = 32;
/** How much of the payload is in memory at a time. */
const WINDOW = 4 * BLOCK_MAX;

/*
 * Kernels up to 5.15 have zstd 1.3.1, which refuses some streams that the format allows and newer versions read. Compressors avoid what it does not
 * read. Newer kernels have no such limit but the first, of 31 bits.
 */
const KERNEL_WINDOW_MAX = 2 ** 27;
/** A compressed block must be smaller than this: 1.5.4 and older. */
const KERNEL_BLOCK_END = BLOCK_MAX;
/** The highest code of offsets in a table. */
const KERNEL_OFFSET_CODE = 28;
/** Bytes of a block from the modes of the sequences on. */
const KERNEL_SEQUENCES_MIN = 4;

const BLOCK_RAW = 0;
const BLOCK_RLE = 1;
const BLOCK_COMPRESSED = 2;

const LITERALS_RAW = 0;
const LITERALS_RLE = 1;
const LITERALS_TREELESS = 3;

const MODE_PREDEFINED = 0;
const MODE_RLE = 1;
const MODE_FSE = 2;

/** One of the three parts of a sequence. */
interface SequencePart {
  readonly limits: Limits;
  /** Code n stands for a range of values, `first` on for code 0, each next one after the one before; `bits[n]` extra bits choose one of the range. */
  readonly first: number;
  readonly bits: readonly number[];
  readonly place: TablePlace;
  /** Section 3.1.1.3.2.2: the table when the mode is "predefined". */
  readonly predefined: Distribution;
}

const zeros = (count: number): number[] => Array.from({ length: count }, () => 0);

/** Section 3.1.1.3.2.1.1. */
const LITERAL_LENGTHS: SequencePart = {
  limits: { field: 'literal length', ...FSE_LIMITS.LITERAL_LENGTHS },
  first: 0,
  bits: [...zeros(16), 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
  place: { table: ZSTD_WORKSPACE.LITERAL_LENGTHS, codes: ZSTD_WORKSPACE.LITERAL_LENGTH_CODES },
  predefined: {
    log: 6,
    counts: [
      4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
    ],
  },
};
const MATCH_LENGTHS: SequencePart = {
  limits: { field: 'match length', ...FSE_LIMITS.MATCH_LENGTHS },
  first: 3,
  bits: [...zeros(32), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
  place: { table: ZSTD_WORKSPACE.MATCH_LENGTHS, codes: ZSTD_WORKSPACE.MATCH_LENGTH_CODES },
  predefined: {
    log: 6,
    counts: [
      1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
      1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
  },
};
const OFFSETS: SequencePart = {
  limits: { field: 'offset', ...FSE_LIMITS.OFFSETS },
  first: 1,
  bits: Array.from({ length: 32 }, (_, code) => code),
  place: { table: ZSTD_WORKSPACE.OFFSETS, codes: ZSTD_WORKSPACE.OFFSET_CODES },
  predefined: {
    log: 5,
    counts: [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
  },
};

interface FrameHeader {
  readonly blockMax: number;
  readonly hasChecksum: boolean;
}

/** Section 3.1.1.5. */
const FIRST_REPEATS = [1, 4, 8];

class ZstdReader {
  readonly #arena: Arena;
  /** Addresses in the arena. */
  #at: number;
  readonly #length: number;
  #haveHuffman = false;
  /** Accuracy logs of the tables in memory. A part without one has no table yet. */
  readonly #logs = new Map<SequencePart, number>();

  constructor(arena: Arena, length: number) {
    this.#arena = arena;
    this.#at = arena.input;
    this.#length = length;
  }

  decode(size: number): Uint8Array {
    const arena = this.#arena;
    const header = this.#readFrameHeader(size);
    FIRST_REPEATS.forEach((offset, i) => arena.set(ZSTD_WORKSPACE.REPEATS + 4 * i, offset));
    this.#writeCodes();
    const hash = header.hasChecksum ? new Xxh64(arena, ZSTD_WORKSPACE.HASH, arena.start) : undefined;
    let last = false;
    while (!last) {
      this.#loadBlock();
      const offset = this.#at;
      const from = arena.offsetOf(offset);
      const block = this.#take(3, 'block header');
      last = (block & 1) === 1;
      this.#readBlock((block >> 1) & 3, block >> 3, header.blockMax, offset);
      arena.pace(from);
      // Now, while the block is in the cache.
      hash?.update(arena.end);
      arena.settle();
    }
    if (hash) {
      const offset = this.#at;
      const found = this.#take(4, 'content checksum');
      const expected = Number(hash.finish(arena.end) & 0xffff_ffffn);
      if (found !== expected) throw this.#corrupt('content checksum', offset, { found, expected });
    }
    if (arena.offsetOf(this.#at) !== this.#length)
      throw this.#corrupt('frame', this.#at, { found: 'bytes after the frame' });
    return arena.finish();
  }

  /** Makes sure that the largest possible block is in memory, or all that is left. Addresses in the payload from before are invalid afterwards. */
  #loadBlock(): void {
    const arena = this.#arena;
    const offset = arena.offsetOf(this.#at);
    if (arena.inputEnd - this.#at >= BLOCK_MAX + HEADERS_MAX || arena.offsetOf(arena.inputEnd) === this.#length) return;
    arena.load(offset);
    this.#at = arena.input;
  }

  #corrupt(field: string, address: number, details: { found?: string | number; expected?: string | number }): Error {
    return faults.corrupt(field, { offset: this.#arena.offsetOf(address), ...details });
  }

  #differs(field: string, address: number, found: number | string, expected: string): void {
    this.#arena.differs(field, { offset: this.#arena.offsetOf(address), found, expected });
  }

  /** `code`: the highest that occurs in a table. */
  #checkCodes(part: SequencePart, code: number, offset: number): void {
    if (part === OFFSETS && code > KERNEL_OFFSET_CODE) {
      this.#differs('offset code', offset, code, `at most ${KERNEL_OFFSET_CODE}, for kernels up to 5.15`);
    }
  }

  #need(count: number, end: number, field: string): void {
    if (count > end - this.#at) throw faults.ends(field, this.#arena.offsetOf(end));
  }

  /** Little-endian. */
  #take(count: number, field: string, end = this.#arena.inputEnd): number {
    this.#need(count, end, field);
    let value = 0;
    for (let i = 0; i < count; i++) value += this.#arena.bytes[this.#at + i]! * 2 ** (8 * i);
    this.#at += count;
    return value;
  }

  /** Writes what codes mean, for `buildTable`. */
  #writeCodes(): void {
    for (const { first, bits, place } of [LITERAL_LENGTHS, MATCH_LENGTHS, OFFSETS]) {
      let value = first;
      bits.forEach((count, code) => {
        this.#arena.set(place.codes + 8 * code, value);
        this.#arena.set(place.codes + 8 * code + 4, count);
        value += 2 ** count;
      });
    }
    for (let weight = 0; weight <= HUFFMAN_BITS; weight++)
      this.#arena.set(ZSTD_WORKSPACE.WEIGHT_CODES + 8 * weight, weight);
  }

  /** Section 3.1.1.1. */
  #readFrameHeader(size: number): FrameHeader {
    const magic = this.#take(4, 'magic');
    if (magic !== MAGIC) throw this.#corrupt('magic', this.#at - 4, { found: magic, expected: MAGIC });
    const descriptor = this.#take(1, 'frame header descriptor');
    if (descriptor & 0x08) throw faults.unsupported('frame header descriptor', { offset: 4, found: descriptor });
    const single = (descriptor & 0x20) !== 0;
    let window = Infinity;
    if (!single) {
      const byte = this.#take(1, 'window descriptor');
      const base = 2 ** (10 + (byte >> 3));
      window = base + (base / 8) * (byte & 7);
    }
    const dictionary = this.#take([0, 1, 2, 4][descriptor & 3]!, 'dictionary ID');
    if (dictionary !== 0) throw faults.unsupported('dictionary ID', { found: dictionary, expected: 'no dictionary' });
    const sizeFlag = descriptor >> 6;
    const sizeBytes = sizeFlag === 0 && !single ? 0 : 2 ** sizeFlag;
    const offset = this.#at;
    const contentSize = this.#take(sizeBytes, 'frame content size') + (sizeBytes === 2 ? 256 : 0);
    if (sizeBytes > 0 && contentSize !== size) {
      throw this.#corrupt('frame content size', offset, { found: contentSize, expected: size });
    }
    if (single) window = contentSize;
    if (window > KERNEL_WINDOW_MAX) {
      const expected = `a window of at most ${hex(KERNEL_WINDOW_MAX)}, for kernels up to 5.15`;
      this.#arena.differs('frame header', { offset: 4, found: hex(window), expected });
    }
    return { blockMax: Math.min(window, BLOCK_MAX), hasChecksum: (descriptor & 0x04) !== 0 };
  }

  /** Section 3.1.1.2. */
  #readBlock(type: number, size: number, blockMax: number, offset: number): void {
    if (size > blockMax) throw this.#corrupt('block size', offset, { found: size, expected: `at most ${blockMax}` });
    const arena = this.#arena;
    if (type === BLOCK_RAW) {
      this.#need(size, arena.inputEnd, 'block');
      arena.reserve(size);
      arena.bytes.copyWithin(arena.end, this.#at, this.#at + size);
      arena.end += size;
      this.#at += size;
    } else if (type === BLOCK_RLE) {
      arena.appendRun(this.#take(1, 'block'), size);
    } else if (type === BLOCK_COMPRESSED) {
      this.#need(size, arena.inputEnd, 'block');
      if (size >= KERNEL_BLOCK_END) this.#differs('block size', offset, size, `less than ${hex(KERNEL_BLOCK_END)}`);
      // How much it decodes to is not known yet; the loop gets the room that is left.
      const room = Math.min(blockMax, arena.limit - arena.end);
      arena.reserve(room);
      this.#readCompressed(this.#at + size, room);
    } else {
      throw this.#corrupt('block type', offset, { found: type });
    }
  }

  /** Section 3.1.1.3, to address `end`. */
  #readCompressed(end: number, room: number): void {
    const arena = this.#arena;
    const literals = this.#readLiterals(end);
    const count = this.#readSequenceCount(end);
    if (count === 0) {
      if (this.#at !== end) throw this.#corrupt('sequences', this.#at, { found: 'bytes after no sequences' });
      const length = literals.end - literals.start;
      if (length > room) throw faults.wrongSize(undefined, arena.limit - arena.start);
      arena.bytes.copyWithin(arena.end, literals.start, literals.end);
      arena.end += length;
      return;
    }
    const modesAt = this.#at;
    const left = end - modesAt;
    if (left < KERNEL_SEQUENCES_MIN) {
      this.#differs('sequences', modesAt, `${left} bytes`, `at least ${KERNEL_SEQUENCES_MIN}`);
    }
    const modes = this.#take(1, 'symbol compression modes', end);
    if (modes & 3) throw this.#corrupt('symbol compression modes', modesAt, { found: modes });
    let logs = 0;
    for (const [field, modeShift, logShift] of [
      [LITERAL_LENGTHS, 6, 0],
      [OFFSETS, 4, 8],
      [MATCH_LENGTHS, 2, 16],
    ] as const) {
      logs |= this.#readTable(field, (modes >> modeShift) & 3, end) << logShift;
    }
    if (this.#at >= end || arena.bytes[end - 1] === 0) {
      throw this.#corrupt('sequences', this.#at, { found: 'a bitstream without an end' });
    }
    const streams = { start: this.#at, end, count, logs, literals: literals.start, literalsEnd: literals.end };
    const output = { to: arena.end, limit: arena.end + room, dictionary: arena.start };
    arena.call('runSequences', { ...streams, ...output }, this.#at);
    arena.end = arena.get(ZSTD_WORKSPACE.OUTPUT_END);
    this.#at = end;
  }

  /** Section 3.1.1.3.1. Returns the addresses of the literals, which may be in the payload itself. */
  #readLiterals(end: number): { start: number; end: number } {
    const arena = this.#arena;
    const { bytes } = arena;
    const headerAt = this.#at;
    this.#need(1, end, 'literals header');
    const first = bytes[headerAt]!;
    const type = first & 3;
    const format = (first >> 2) & 3;
    if (type === LITERALS_RAW || type === LITERALS_RLE) {
      const length = format === 1 ? 2 : format === 3 ? 3 : 1;
      const size = Math.floor(this.#take(length, 'literals header', end) / (length === 1 ? 8 : 16));
      if (size > BLOCK_MAX) throw this.#corrupt('literals size', headerAt, { found: size });
      if (type === LITERALS_RLE) {
        const byte = this.#take(1, 'literals', end);
        bytes.fill(byte, ZSTD_WORKSPACE.LITERALS, ZSTD_WORKSPACE.LITERALS + size);
        return { start: ZSTD_WORKSPACE.LITERALS, end: ZSTD_WORKSPACE.LITERALS + size };
      }
      this.#need(size, end, 'literals');
      this.#at += size;
      return { start: this.#at - size, end: this.#at };
    }

    const width = [10, 10, 14, 18][format]!;
    const header = this.#take([3, 3, 4, 5][format]!, 'literals header', end);
    const size = Math.floor(header / 16) % 2 ** width;
    const compressed = Math.floor(header / 2 ** (4 + width));
    this.#need(compressed, end, 'literals');
    if (size > BLOCK_MAX) throw this.#corrupt('literals size', headerAt, { found: size });
    const stop = this.#at + compressed;
    if (type === LITERALS_TREELESS) {
      if (!this.#haveHuffman)
        throw this.#corrupt('literals', headerAt, { found: 'a repeat of a table that does not exist' });
    } else {
      this.#at = readHuffman(arena, this.#at, stop, faults);
      this.#haveHuffman = true;
    }
    if (format === 0) this.#readLiterals1(stop, size);
    else this.#readLiterals4(stop, size);
    // With a new table, in four streams.
    if (format !== 0 && type !== LITERALS_TREELESS && compressed >= size) {
      this.#differs('literals', headerAt, `${hex(compressed)} bytes for ${hex(size)}`, 'fewer');
    }
    this.#at = stop;
    return { start: ZSTD_WORKSPACE.LITERALS, end: ZSTD_WORKSPACE.LITERALS + size };
  }

  /** A stream is at least a byte, and ends in one that is not 0. */
  #stream(start: number, end: number): void {
    if (start >= end || this.#arena.bytes[end - 1] === 0) {
      throw this.#corrupt('literals', start, { found: 'a bitstream without an end' });
    }
  }

  #readLiterals1(end: number, count: number): void {
    const start = this.#at;
    this.#stream(start, end);
    this.#arena.call('readLiterals1', { start, end, to: ZSTD_WORKSPACE.LITERALS, count }, start);
  }

  /** Section 4.2.2: a jump table with the sizes of the first three streams. */
  #readLiterals4(end: number, count: number): void {
    const sizes = [0, 1, 2].map(() => this.#take(2, 'literals jump table', end));
    // Fewer than 6 cannot be divided: the last stream could get a negative count.
    if (count < 6)
      throw this.#corrupt('literals size', this.#at, { found: count, expected: 'at least 6 in 4 streams' });
    const start = this.#at;
    const end1 = start + sizes[0]!;
    const end2 = end1 + sizes[1]!;
    const end3 = end2 + sizes[2]!;
    this.#stream(start, end1);
    this.#stream(end1, end2);
    this.#stream(end2, end3);
    this.#stream(end3, end);
    this.#arena.call(
      'readLiterals4',
      { start, end1, end2, end3, end4: end, to: ZSTD_WORKSPACE.LITERALS, count },
      start,
    );
  }

  /** Section 3.1.1.3.2.1, first part. */
  #readSequenceCount(end: number): number {
    const first = this.#take(1, 'number of sequences', end);
    if (first < 128) return first;
    if (first < 255) return ((first - 128) << 8) + this.#take(1, 'number of sequences', end);
    return this.#take(2, 'number of sequences', end) + 0x7f00;
  }

  /** Section 3.1.1.3.2.1: prepares the table of one part, and returns its accuracy log. */
  #readTable(part: SequencePart, mode: number, end: number): number {
    const { field, maxSymbol } = part.limits;
    const offset = this.#at;
    let distribution: Distribution;
    if (mode === MODE_PREDEFINED) {
      distribution = part.predefined;
    } else if (mode === MODE_RLE) {
      const code = this.#take(1, `${field} code`, end);
      if (code > maxSymbol) throw this.#corrupt(`${field} code`, offset, { found: code });
      this.#checkCodes(part, code, offset);
      distribution = { log: 0, counts: [...zeros(code), 1] };
    } else if (mode === MODE_FSE) {
      const described = readDistribution(this.#arena.bytes, offset, end, part.limits, faults);
      this.#at = described.end;
      if (end - offset < KERNEL_TABLE_MIN) {
        this.#differs(
          `${field} table`,
          offset,
          `${end - offset} bytes before the end of its block`,
          TABLE_MIN_EXPECTED,
        );
      }
      this.#checkCodes(part, described.counts.length - 1, offset);
      distribution = described;
    } else {
      const log = this.#logs.get(part);
      if (log !== undefined) return log;
      throw this.#corrupt(`${field} table`, offset, { found: 'a repeat of a table that does not exist' });
    }
    buildTable(this.#arena, distribution, part.place);
    this.#logs.set(part, distribution.log);
    return distribution.log;
  }
}

const decodeZstd: Decoder = async (data, size, watch, differs, onRead) => {
  const arena = await Arena.create({
    program,
    faults,
    data,
    size,
    workspace: ZSTD_WORKSPACE.SIZE,
    window: WINDOW,
    watch,
    differs,
    onRead,
    extra: EXTRA_WITH_ZSTD,
  });
  return new ZstdReader(arena, data.length).decode(size);
};

export const zstd: Format = { magic: magicBytes(MAGIC), decode: decodeZstd, program };
