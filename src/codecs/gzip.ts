/**
 * gzip (RFC 1952): members of a header, DEFLATE data (RFC 1951), the CRC-32 and the size. inflate-loops.ts decodes what occurs once a symbol.
 *
 *   1f 8b 08, u8 flags, u32 mtime, u8 extra flags, u8 system
 *   flagged: u16 size, extra field | name, 0 | comment, 0 | u16 CRC of the header
 *   DEFLATE blocks
 *   u32 CRC-32, u32 size
 *
 * The kernel knows ten bytes of header and the name. Whatever else is flagged, it takes for DEFLATE data. It stops after the first member, and does not
 * look at CRC and size. Source: lib/decompress_inflate.c in the kernel.
 *
 * In Node, node:zlib is faster (57 MB: 130 ms): src/node/codecs.ts. But no interface of a platform says how far a member reached, and how input and
 * output kept pace.
 */
import { Arena } from './arena.ts';
import { CRC32, Crc, crcLoops } from './checksums.ts';
import { Faults, type Decoder, type Format } from './codec.ts';
import { DecoderProgram } from './decoder-program.ts';
import {
  BLOCK_ENDS,
  CODE_COMPLETE,
  CODE_INCOMPLETE,
  END_OF_BLOCK,
  INFLATE_WORKSPACE,
  inflateLoops,
} from './inflate-loops.ts';

const faults = new Faults('gzip');
const program = new DecoderProgram(() => [...inflateLoops(), ...crcLoops()]);

/** Section 2.3.1: ID1, ID2, and the method DEFLATE. */
const MAGIC = [0x1f, 0x8b, 0x08];
const HEADER_SIZE = 10;
const TRAILER_SIZE = 8;
const FLAGS_OFFSET = 3;

const FHCRC = 1 << 1;
const FEXTRA = 1 << 2;
const FNAME = 1 << 3;
const FCOMMENT = 1 << 4;
const RESERVED = 0xe0;
/** Flags with fields that the kernel does not know. FTEXT has none. */
const UNKNOWN_TO_KERNELS = FHCRC | FEXTRA | FCOMMENT;

/** DEFLATE (RFC 1951) makes at most 258 bytes of two bits. A larger claim is refused before memory is spent on it. */
export const MAX_GZIP_RATIO = 1032;

/** Section 3.2.3 of RFC 1951. */
const STORED = 0;
const FIXED = 1;
const DYNAMIC = 2;

/** Section 3.2.5: the bits that are added to each length and distance code. */
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const LENGTH_BASES = basesOf(LENGTH_BITS, 3).with(28, 258);
const DISTANCE_BITS = [0, 0, 0, 0, ...Array.from({ length: 26 }, (_, i) => 1 + (i >> 1))];
const DISTANCE_BASES = basesOf(DISTANCE_BITS, 1);

/** Section 3.2.6. */
const FIXED_LENGTHS = [
  ...Array.from({ length: 144 }, () => 8),
  ...Array.from({ length: 112 }, () => 9),
  ...Array.from({ length: 24 }, () => 7),
  ...Array.from({ length: 8 }, () => 8),
];
const FIXED_DISTANCES = Array.from({ length: 32 }, () => 5);

/** Section 3.2.7: the order in which the lengths of the codes for lengths are written; the symbols that repeat, with least count and bits to add. */
const LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const REPEATS: Readonly<Record<number, readonly [least: number, bits: number]>> = {
  16: [3, 2],
  17: [3, 3],
  18: [11, 7],
};
const MAX_LITERAL_LENGTHS = 286;
const MAX_DISTANCE_LENGTHS = 30;

/** How many bytes one call of the loop decodes. Not more: V8 replaces a running function with its optimised version only at the next call. */
const STEP = 64 << 10;
/** What one step of the loop writes beyond it at most. */
const MAX_LENGTH = 258;

function basesOf(bits: readonly number[], first: number): number[] {
  let next = first;
  return bits.map((count) => (next += 2 ** count) - 2 ** count);
}

/** What a header has that kernels do not know; undefined for one that they read as everybody does. For decoders of the platform. */
export function unknownToKernels(data: Uint8Array): ReturnType<Faults['differs']> | undefined {
  const flags = data[FLAGS_OFFSET] ?? 0;
  if ((flags & UNKNOWN_TO_KERNELS) === 0) return undefined;
  return faults.differs('flags', { offset: FLAGS_OFFSET, found: flags, expected: '0, or 8 for a name' });
}

class GzipReader {
  readonly #arena: Arena;
  readonly #data: Uint8Array;
  readonly #crc: Crc;
  /** Offset in the payload, between members and in headers. */
  #at = 0;

  constructor(arena: Arena, data: Uint8Array) {
    this.#arena = arena;
    this.#data = data;
    this.#crc = new Crc(arena, INFLATE_WORKSPACE.CRC32, CRC32);
    const { bytes } = arena;
    const words = new DataView(bytes.buffer);
    for (const [base, values] of [
      [INFLATE_WORKSPACE.LENGTH_BASES, LENGTH_BASES],
      [INFLATE_WORKSPACE.DISTANCE_BASES, DISTANCE_BASES],
    ] as const) {
      values.forEach((value, i) => words.setUint16(base + 2 * i, value, true));
    }
    bytes.set(LENGTH_BITS, INFLATE_WORKSPACE.LENGTH_BITS);
    bytes.set(DISTANCE_BITS, INFLATE_WORKSPACE.DISTANCE_BITS);
  }

  decode(): Uint8Array {
    const arena = this.#arena;
    this.#readMember();
    while (this.#at < this.#data.length) {
      const offset = this.#at;
      if (!MAGIC.every((byte, i) => this.#data[offset + i] === byte)) {
        throw faults.corrupt('data', { offset, found: 'bytes after the last member' });
      }
      arena.differs('data', { offset, found: 'a second member', expected: 'one' });
      this.#readMember();
    }
    return arena.finish();
  }

  #need(count: number, field: string): void {
    if (count > this.#data.length - this.#at) throw faults.ends(field, this.#data.length);
  }

  #u16(field: string): number {
    this.#need(2, field);
    this.#at += 2;
    return this.#data[this.#at - 2]! | (this.#data[this.#at - 1]! << 8);
  }

  #u32(field: string): number {
    const low = this.#u16(field);
    return low + this.#u16(field) * 0x1_0000;
  }

  #readMember(): void {
    const arena = this.#arena;
    const start = this.#at;
    this.#readHeader(start);
    const from = arena.end;
    this.#restart();
    let last: boolean;
    do {
      last = this.#take(1) === 1;
      this.#readBlock(this.#take(2), from);
    } while (!last);
    // The rest of the last byte is padding.
    this.#at = this.#offset;
    const crcAt = this.#at;
    const crc = this.#u32('CRC-32');
    const expected = Number(this.#crc.sum(from, arena.end));
    if (crc !== expected) throw faults.corrupt('CRC-32', { offset: crcAt, found: crc, expected });
    const size = this.#u32('size');
    if (size !== arena.end - from)
      throw faults.corrupt('size', { offset: crcAt + 4, found: size, expected: arena.end - from });
  }

  #readHeader(start: number): void {
    this.#need(HEADER_SIZE, 'header');
    const wrong = MAGIC.findIndex((byte, i) => this.#data[start + i] !== byte);
    if (wrong >= 0) {
      const offset = start + wrong;
      throw faults.corrupt('magic', { offset, found: this.#data[offset], expected: MAGIC[wrong] });
    }
    const offset = start + FLAGS_OFFSET;
    const flags = this.#data[offset]!;
    if (flags & RESERVED) throw faults.unsupported('flags', { offset, found: flags });
    if (flags & UNKNOWN_TO_KERNELS)
      this.#arena.differs('flags', { offset, found: flags, expected: '0, or 8 for a name' });
    this.#at += HEADER_SIZE;
    if (flags & FEXTRA) {
      const size = this.#u16('size of the extra field');
      this.#need(size, 'extra field');
      this.#at += size;
    }
    for (const [flag, field] of [
      [FNAME, 'name'],
      [FCOMMENT, 'comment'],
    ] as const) {
      if ((flags & flag) === 0) continue;
      const end = this.#data.indexOf(0, this.#at);
      if (end < 0) throw faults.ends(field, this.#data.length);
      this.#at = end + 1;
    }
    if (flags & FHCRC) {
      const { input } = this.#arena;
      const expected = Number(this.#crc.sum(input + start, input + this.#at)) & 0xffff;
      const found = this.#u16('header CRC');
      if (found !== expected) throw faults.corrupt('header CRC', { offset: this.#at - 2, found, expected });
    }
  }

  /** Starts to read bits at `#at`. */
  #restart(): void {
    const arena = this.#arena;
    arena.set(INFLATE_WORKSPACE.AT, arena.input + this.#at);
    arena.set(INFLATE_WORKSPACE.HAVE, 0);
    arena.set(INFLATE_WORKSPACE.BITS, 0);
    arena.set(INFLATE_WORKSPACE.BITS + 4, 0);
  }

  /** Offset in the payload of the first byte that no bit was taken from. */
  get #offset(): number {
    const arena = this.#arena;
    return arena.get(INFLATE_WORKSPACE.AT) - Math.floor(arena.get(INFLATE_WORKSPACE.HAVE) / 8) - arena.input;
  }

  /** Up to 16 bits. */
  #take(count: number): number {
    const value = this.#arena.call('takeBits', { count });
    this.#checkEnd();
    return value;
  }

  #checkEnd(): void {
    if (this.#offset > this.#data.length) throw faults.ends('block', this.#data.length);
  }

  /** `from`: address where the member's output begins. */
  #readBlock(type: number, from: number): void {
    const offset = this.#offset;
    if (type === STORED) return this.#readStored(offset);
    if (type === FIXED) {
      this.#build('literal', FIXED_LENGTHS, INFLATE_WORKSPACE.LITERALS, offset);
      this.#build('distance', FIXED_DISTANCES, INFLATE_WORKSPACE.DISTANCES, offset);
    } else if (type === DYNAMIC) {
      this.#readCodes(offset);
    } else {
      throw faults.corrupt('block type', { offset, found: type });
    }
    const arena = this.#arena;
    const end = arena.input + this.#data.length;
    let result: number;
    do {
      const room = arena.limit - arena.end;
      const before = this.#offset;
      arena.reserve(Math.min(room, STEP + MAX_LENGTH));
      arena.set(INFLATE_WORKSPACE.TO, arena.end);
      const bounds = { end, start: from, stopAt: arena.end + STEP, limit: arena.limit };
      result = arena.call('readSymbols', bounds, arena.input + before);
      arena.end = arena.get(INFLATE_WORKSPACE.TO);
      arena.pace(before);
      arena.settle();
    } while (result !== BLOCK_ENDS);
    this.#checkEnd();
  }

  /** Section 3.2.4. */
  #readStored(offset: number): void {
    const arena = this.#arena;
    this.#at = this.#offset;
    const length = this.#u16('stored block');
    const inverted = this.#u16('stored block');
    if ((length ^ inverted) !== 0xffff) {
      throw faults.corrupt('stored block', { offset, found: length, expected: inverted ^ 0xffff });
    }
    this.#need(length, 'stored block');
    arena.reserve(length);
    arena.bytes.set(this.#data.subarray(this.#at, this.#at + length), arena.end);
    arena.end += length;
    this.#at += length;
    arena.pace(offset);
    this.#restart();
  }

  /** Section 3.2.7. */
  #readCodes(offset: number): void {
    const literals = this.#take(5) + 257;
    const distances = this.#take(5) + 1;
    const lengthCodes = this.#take(4) + 4;
    if (literals > MAX_LITERAL_LENGTHS || distances > MAX_DISTANCE_LENGTHS) {
      throw faults.corrupt('number of codes', {
        offset,
        found: `${literals} and ${distances}`,
        expected: 'at most 286 and 30',
      });
    }
    const codes = Array.from({ length: LENGTH_ORDER.length }, () => 0);
    for (let i = 0; i < lengthCodes; i++) codes[LENGTH_ORDER[i]!] = this.#take(3);
    // The literals' table serves twice.
    this.#build('code length', codes, INFLATE_WORKSPACE.LITERALS, offset);
    const lengths: number[] = [];
    while (lengths.length < literals + distances) {
      const at = this.#arena.input + this.#offset;
      const symbol = this.#arena.call('readSymbol', { table: INFLATE_WORKSPACE.LITERALS }, at);
      const repeat = REPEATS[symbol];
      if (repeat === undefined) {
        lengths.push(symbol);
        continue;
      }
      const value = symbol === 16 ? lengths.at(-1) : 0;
      const count = repeat[0] + this.#take(repeat[1]);
      if (value === undefined || lengths.length + count > literals + distances) {
        throw faults.corrupt('code lengths', { offset, found: 'a repeat of nothing, or of too many' });
      }
      for (let i = 0; i < count; i++) lengths.push(value);
    }
    this.#checkEnd();
    if (lengths[END_OF_BLOCK] === 0) throw faults.corrupt('code lengths', { offset, found: 'no end of the block' });
    this.#build('literal', lengths.slice(0, literals), INFLATE_WORKSPACE.LITERALS, offset);
    this.#build('distance', lengths.slice(literals), INFLATE_WORKSPACE.DISTANCES, offset);
  }

  /** As zlib does, accepts incomplete codes only where one code of a single bit is all there is, or no distance code. */
  #build(field: string, lengths: readonly number[], to: number, offset: number): void {
    const arena = this.#arena;
    arena.bytes.set(lengths, INFLATE_WORKSPACE.LENGTHS);
    const table = { lengths: INFLATE_WORKSPACE.LENGTHS, symbols: lengths.length, to };
    const result = arena.call('buildCode', table);
    if (result === CODE_COMPLETE) return;
    const most = Math.max(...lengths);
    if (result === CODE_INCOMPLETE && field !== 'code length' && (most === 1 || (most === 0 && field === 'distance')))
      return;
    throw faults.corrupt(`${field} codes`, {
      offset,
      found: result === CODE_INCOMPLETE ? 'fewer than their lengths must have' : 'more than their lengths allow',
    });
  }
}

const decodeGzip: Decoder = async (data, size, watch, differs, onRead) => {
  if (data.length < HEADER_SIZE + TRAILER_SIZE) throw faults.ends('header', data.length);
  if (size > data.length * MAX_GZIP_RATIO) throw faults.wrongSize(undefined, size);
  const workspace = INFLATE_WORKSPACE.SIZE;
  const arena = await Arena.create({ program, faults, data, size, workspace, watch, differs, onRead });
  return new GzipReader(arena, data).decode();
};

export const gzip: Format = { magic: MAGIC, decode: decodeGzip, program };
