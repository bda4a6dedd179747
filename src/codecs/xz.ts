/**
 * The part of the .xz format that kernels are written in: one stream, blocks of LZMA2 with or without the x86 filter before it.
 *
 *   stream header | block ... | index | stream footer
 *
 * A block is a header, LZMA2 chunks, padding to 4 bytes, and a check over the decoded bytes. The index repeats the sizes of all blocks.
 * Every CRC32, size and padding byte that the format has is compared.
 * Source: "The .xz File Format", version 1.2.1; section numbers below. The kernel writes it with scripts/xz_wrap.sh (CRC32, x86,
 * a dictionary of up to 128 MiB) and reads it with lib/decompress_unxz.c.
 */
import { Reader } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import { Arena } from './arena.ts';
import { decodeX86 } from './bcj-x86.ts';
import { CRC32, CRC64, CRC_FIELD, Crc, crcLoops } from './checksums.ts';
import { Faults, type Decoder, type Format } from './codec.ts';
import { DecoderProgram } from './decoder-program.ts';
import { LzmaState, lzmaLoop, lzmaWorkspaceSize, propertiesOf } from './lzma-loop.ts';
import { array, struct, u8 } from './workspace.ts';

const faults = new Faults('xz');
const program = new DecoderProgram(() => [lzmaLoop(), decodeX86(), ...crcLoops()]);

/** Section 5.3.1: 40 is 4 GiB - 1. */
const DICTIONARY_MAX = 40;
/** LZMA2 has at most 4 context bits. */
const MAX_CONTEXT_BITS = 4;
/** lzma-loop.ts uses fixed addresses from 0 on, so its part comes first. */
const WORKSPACE = struct({
  LZMA: array(u8, lzmaWorkspaceSize(MAX_CONTEXT_BITS)),
  CRC32: CRC_FIELD,
  CRC64: CRC_FIELD,
});

/** Section 2.1.1: header of 12 bytes, footer of 12 bytes. */
const STREAM_HEADER_SIZE = 12;
const STREAM_FOOTER_SIZE = 12;
const HEADER_MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
const FOOTER_MAGIC = 0x5a59; // "YZ"

/** Section 2.1.1.2: check IDs, and the sizes of those that are read. */
const CHECK_NONE = 0;
const CHECK_CRC32 = 1;
const CHECK_CRC64 = 4;
const CHECK_SIZES: Readonly<Record<number, number>> = { [CHECK_NONE]: 0, [CHECK_CRC32]: 4, [CHECK_CRC64]: 8 };

/** Section 5.3: filter IDs. */
const FILTER_X86 = 0x04n;
const FILTER_LZMA2 = 0x21n;

/** Section 5.3.1, LZMA2: control bytes. */
const LZMA2_END = 0x00;
const LZMA2_STORED_RESET = 0x01;
const LZMA2_STORED = 0x02;
const LZMA2_LZMA = 0x80;
const LZMA2_LZMA_RESET_STATE = 0xa0;
const LZMA2_LZMA_RESET_PROPERTIES = 0xc0;
const LZMA2_LZMA_RESET_DICTIONARY = 0xe0;

interface BlockHeader {
  /** Of the compressed data, when the header says. */
  readonly compressedSize: bigint | undefined;
  readonly uncompressedSize: bigint | undefined;
  /** The x86 filter's start offset, when it has the filter. */
  readonly x86: number | undefined;
  /** The dictionary size, and where it stands. */
  readonly window: { readonly offset: number; readonly size: number };
}

interface BlockSizes {
  readonly unpadded: number;
  readonly uncompressed: number;
}

class XzReader {
  readonly #arena: Arena;
  readonly #crc32: Crc;
  #crc64: Crc | undefined;
  /** The payload; offsets count from its start, as they do in errors. */
  readonly #data: Uint8Array;
  readonly #reader: Reader;
  #at = 0;

  constructor(arena: Arena, data: Uint8Array) {
    this.#arena = arena;
    this.#crc32 = new Crc(arena, WORKSPACE.CRC32, CRC32);
    this.#data = data;
    this.#reader = new Reader(data);
  }

  decode(): Uint8Array {
    const check = this.#readStreamHeader();
    const blocks: BlockSizes[] = [];
    while (this.#peek('block header') !== 0) blocks.push(this.#readBlock(check));
    const indexSize = this.#readIndex(blocks);
    this.#readStreamFooter(check, indexSize);
    if (this.#at !== this.#data.length) {
      if (HEADER_MAGIC.every((byte, i) => this.#data[this.#at + i] === byte)) {
        throw faults.unsupported('second stream', { offset: this.#at, hint: 'a kernel has one stream' });
      }
      throw faults.corrupt('stream', { offset: this.#at, found: 'bytes after the stream footer' });
    }
    return this.#arena.finish();
  }

  #need(count: number, field: string): void {
    if (this.#data.length - this.#at < count) throw faults.ends(field, this.#data.length);
  }

  #peek(field: string): number {
    this.#need(1, field);
    return this.#data[this.#at]!;
  }

  /** Compares the CRC32 of the payload from..to with the one at `at`. */
  #checkCrc32(field: string, from: number, to: number, at = to): void {
    const found = this.#reader.u32(at, field);
    const expected = Number(this.#crc32.sum(this.#arena.input + from, this.#arena.input + to));
    if (found !== expected) throw faults.corrupt(field, { offset: at, found, expected });
  }

  /** Section 2.1.1. Returns the check ID. */
  #readStreamHeader(): number {
    this.#need(STREAM_HEADER_SIZE, 'stream header');
    const wrong = HEADER_MAGIC.findIndex((byte, i) => this.#data[i] !== byte);
    if (wrong >= 0) {
      throw faults.corrupt('header magic', { offset: wrong, found: this.#data[wrong], expected: HEADER_MAGIC[wrong] });
    }
    this.#checkCrc32('stream header CRC32', 6, 8);
    const flags = this.#reader.u16(6, 'stream flags');
    if ((flags & 0xf0ff) !== 0) throw faults.unsupported('stream flags', { offset: 6, found: flags });
    this.#at = STREAM_HEADER_SIZE;
    const check = flags >> 8;
    if (check === CHECK_CRC64) {
      this.#arena.differs('check', { offset: 7, found: 'CRC64', expected: 'none or CRC32' });
    }
    if (CHECK_SIZES[check] === undefined) {
      throw faults.unsupported('check', { offset: 7, found: check, expected: 'none, CRC32 or CRC64' });
    }
    return check;
  }

  /** Section 1.2: seven bits a byte, the lowest first, at most 63 bits. Reads at #at, within `end`. */
  #vli(end: number, field: string): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 63n; shift += 7n) {
      if (this.#at >= end) throw faults.ends(field, end);
      const byte = this.#data[this.#at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (byte === 0 && shift !== 0n) break;
        return value;
      }
    }
    throw faults.corrupt(field, { offset: this.#at - 1, found: 'a number that is too long' });
  }

  /** Section 3.1. */
  #readBlockHeader(): BlockHeader {
    const start = this.#at;
    const headerSize = (this.#peek('block header size') + 1) * 4;
    this.#need(headerSize, 'block header');
    const end = start + headerSize - 4;
    this.#checkCrc32('block header CRC32', start, end);
    const flags = this.#data[start + 1]!;
    if (flags & 0x3c) throw faults.unsupported('block flags', { offset: start + 1, found: flags });
    this.#at = start + 2;
    const compressedSize = flags & 0x40 ? this.#vli(end, 'compressed size') : undefined;
    const uncompressedSize = flags & 0x80 ? this.#vli(end, 'uncompressed size') : undefined;
    const filters = (flags & 3) + 1;
    let x86: number | undefined;
    let window = { offset: start, size: 0 };
    for (let i = 0; i < filters; i++) {
      const offset = this.#at;
      const id = this.#vli(end, 'filter ID');
      const length = Number(this.#vli(end, 'size of filter properties'));
      const properties = this.#at;
      if (length > end - properties) throw faults.ends('filter properties', end);
      this.#at += length;
      const last = i === filters - 1;
      if (last && id === FILTER_LZMA2 && length === 1) {
        // The dictionary size: not needed to decode, since the output is the dictionary, but 40 is the largest that there is.
        const dictionary = this.#data[properties]!;
        if (dictionary > DICTIONARY_MAX) {
          throw faults.unsupported('dictionary size', {
            offset: properties,
            found: dictionary,
            expected: `at most ${hex(DICTIONARY_MAX)}`,
          });
        }
        window = { offset: properties, size: (2 + (dictionary & 1)) * 2 ** ((dictionary >> 1) + 11) };
        if (dictionary === DICTIONARY_MAX) {
          this.#arena.differs('dictionary size', { offset: properties, found: dictionary, expected: 'at most 0x27' });
        }
      } else if (!last && id === FILTER_X86 && x86 === undefined && (length === 0 || length === 4)) {
        x86 = length === 0 ? 0 : this.#reader.u32(properties, 'start offset');
        if (length > 0) {
          this.#arena.differs('x86 filter properties', { offset: properties, found: x86, expected: 'none' });
        }
      } else {
        throw faults.unsupported('filter', { offset, found: id, expected: 'LZMA2, or x86 and LZMA2' });
      }
    }
    if (this.#data.subarray(this.#at, end).some((byte) => byte !== 0)) {
      throw faults.unsupported('header padding', { offset: this.#at, expected: 'zeros' });
    }
    this.#at = start + headerSize;
    return { compressedSize, uncompressedSize, x86, window };
  }

  /** Section 3. */
  #readBlock(check: number): BlockSizes {
    const arena = this.#arena;
    const start = this.#at;
    const header = this.#readBlockHeader();
    const dataStart = this.#at;
    const from = arena.end;
    const reach = this.#readLzma2();
    if (reach > header.window.size) {
      const { offset, size } = header.window;
      arena.differs('dictionary size', { offset, found: size, expected: `${hex(reach)}, its longest distance` });
    }
    const compressed = this.#at - dataStart;
    const uncompressed = arena.end - from;
    for (const [field, found, expected] of [
      ['compressed size', header.compressedSize, compressed],
      ['uncompressed size', header.uncompressedSize, uncompressed],
    ] as const) {
      if (found !== undefined && found !== BigInt(expected))
        throw faults.corrupt(field, { offset: start, found, expected });
    }
    // Not before: matches copy from the unfiltered bytes.
    if (header.x86 !== undefined) arena.call('decodeX86', { from, to: arena.end, startOffset: header.x86 }, undefined);

    this.#skipPadding(compressed, 'block padding');
    const offset = this.#at;
    const checkSize = CHECK_SIZES[check]!;
    this.#need(checkSize, 'check');
    if (check !== CHECK_NONE) {
      const crc = check === CHECK_CRC32 ? this.#crc32 : (this.#crc64 ??= new Crc(arena, WORKSPACE.CRC64, CRC64));
      const found = checkSize === 4 ? BigInt(this.#reader.u32(offset, 'check')) : this.#reader.u64(offset, 'check');
      const expected = crc.sum(from, arena.end);
      if (found !== expected) throw faults.corrupt('check', { offset, found, expected });
    }
    this.#at += checkSize;
    return { unpadded: dataStart - start + compressed + checkSize, uncompressed };
  }

  #skipPadding(length: number, field: string): void {
    for (let i = length; i & 3; i++, this.#at++) {
      if (this.#peek(field) !== 0)
        throw faults.corrupt(field, { offset: this.#at, found: this.#data[this.#at], expected: 0 });
    }
  }

  /**
   * Section 5.3.1 names LZMA2, but no public document describes its chunks. This is what lib/xz/xz_dec_lzma2.c in the kernel reads:
   *
   *   00                                       end
   *   01 or 02, u16 size - 1, bytes            stored; 01 resets the dictionary
   *   1rrnnnnn, u16, u16 size - 1, (u8), LZMA  n and the first u16: decoded size - 1; r: resets nothing, the state, the state with new
   *                                            properties in the u8, or that and the dictionary. All big-endian.
   *
   * Returns the longest distance.
   */
  #readLzma2(): number {
    const arena = this.#arena;
    const data = this.#data;
    const state = new LzmaState(arena);
    state.forgetReach();
    let dictionary: number | undefined;
    let hasProperties = false;
    let hasState = false;
    const refuse = (field: string, offset: number, expected: string): Error =>
      faults.corrupt(`LZMA2 ${field}`, { offset, found: data[offset], expected });
    const u16be = (offset: number): number => (data[offset]! << 8) | data[offset + 1]!;

    for (;;) {
      const offset = this.#at;
      const control = this.#peek('LZMA2 control');
      this.#at++;
      if (control === LZMA2_END) return state.reach;
      if (control > LZMA2_STORED && control < LZMA2_LZMA) throw refuse('control', offset, '0 to 2, or 0x80 on');
      const isStored = control < LZMA2_LZMA;
      if (control === LZMA2_STORED_RESET || control >= LZMA2_LZMA_RESET_DICTIONARY) {
        dictionary = arena.end;
        hasProperties = false;
      }
      if (dictionary === undefined) throw refuse('control', offset, 'a reset of the dictionary first');
      if (isStored) {
        this.#need(2, 'LZMA2 chunk size');
        const size = u16be(this.#at) + 1;
        this.#at += 2;
        this.#need(size, 'LZMA2 chunk');
        arena.reserve(size);
        arena.bytes.set(data.subarray(this.#at, this.#at + size), arena.end);
        arena.end += size;
        this.#at += size;
        arena.pace(offset);
        continue;
      }

      this.#need(5, 'LZMA2 chunk header');
      const decodedSize = ((control & 0x1f) << 16) + u16be(this.#at) + 1;
      const size = u16be(this.#at + 2) + 1;
      this.#at += 4;
      if (control >= LZMA2_LZMA_RESET_PROPERTIES) {
        const properties = propertiesOf(data[this.#at]!);
        if (!properties || properties.lc + properties.lp > MAX_CONTEXT_BITS) {
          throw refuse('properties', this.#at, 'lc + lp of at most 4');
        }
        this.#at++;
        state.setProperties(properties);
        hasProperties = true;
      } else if (!hasProperties) {
        throw refuse('control', offset, 'new properties first');
      }
      if (control >= LZMA2_LZMA_RESET_STATE) {
        state.reset();
        hasState = true;
      } else if (!hasState) {
        throw refuse('control', offset, 'a reset of the state first');
      }

      this.#need(size, 'LZMA2 chunk');
      arena.reserve(decodedSize);
      const end = arena.input + this.#at + size;
      const stopAt = arena.end + decodedSize;
      if (size < 5 || !state.start(arena.input + this.#at))
        throw refuse('chunk', this.#at, 'a range coder that begins with 0');
      const ended = state.decode({ end, stopAt, limit: stopAt, dictionary });
      if (ended || state.at !== end || !state.finished) {
        throw faults.corrupt('LZMA2 chunk', { offset, found: 'data that does not end with the chunk' });
      }
      this.#at += size;
      arena.pace(offset);
    }
  }

  /** Section 4. Returns its size, CRC32 included. */
  #readIndex(blocks: readonly BlockSizes[]): number {
    const start = this.#at;
    const end = this.#data.length;
    this.#at++;
    const records = this.#vli(end, 'number of records');
    if (records !== BigInt(blocks.length)) {
      throw faults.corrupt('number of records', { offset: start + 1, found: records, expected: blocks.length });
    }
    for (const block of blocks) {
      for (const [field, expected] of [
        ['unpadded size', block.unpadded],
        ['uncompressed size', block.uncompressed],
      ] as const) {
        const offset = this.#at;
        const found = this.#vli(end, field);
        if (found !== BigInt(expected)) throw faults.corrupt(field, { offset, found, expected });
      }
    }
    this.#skipPadding(this.#at - start, 'index padding');
    this.#need(4, 'index CRC32');
    this.#checkCrc32('index CRC32', start, this.#at);
    this.#at += 4;
    return this.#at - start;
  }

  /** Section 2.1.2. */
  #readStreamFooter(check: number, indexSize: number): void {
    const start = this.#at;
    this.#need(STREAM_FOOTER_SIZE, 'stream footer');
    const magic = this.#reader.u16(start + 10, 'footer magic');
    if (magic !== FOOTER_MAGIC) {
      throw faults.corrupt('footer magic', { offset: start + 10, found: magic, expected: FOOTER_MAGIC });
    }
    this.#checkCrc32('stream footer CRC32', start + 4, start + 10, start);
    const backward = (this.#reader.u32(start + 4, 'backward size') + 1) * 4;
    if (backward !== indexSize) {
      throw faults.corrupt('backward size', { offset: start + 4, found: backward, expected: indexSize });
    }
    const flags = this.#reader.u16(start + 8, 'stream flags');
    if (flags !== check << 8) {
      throw faults.corrupt('stream flags', { offset: start + 8, found: flags, expected: check << 8 });
    }
    this.#at += STREAM_FOOTER_SIZE;
  }
}

const decodeXz: Decoder = async (data, size, watch, differs, onRead) => {
  const arena = await Arena.create({ program, faults, data, size, workspace: WORKSPACE.SIZE, watch, differs, onRead });
  return new XzReader(arena, data).decode();
};

export const xz: Format = { magic: HEADER_MAGIC, decode: decodeXz, program };
