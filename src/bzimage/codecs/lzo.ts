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
 * Sources: lzop's conf.h and lzop.c (the format's only definition), lib/decompress_unlzo.c, Documentation/staging/lzo.rst.
 */
import { Reader } from '../../bytes.ts';
import { adler32, crc32 } from './checksums.ts';
import { Faults, Output } from './codec.ts';

const faults = new Faults('lzo');

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
const METHODS = [1, 2, 3];

class LzopReader {
  readonly #data: Uint8Array;
  readonly #reader: Reader;
  #at = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
    this.#reader = new Reader(data);
  }

  #need(count: number, field: string): void {
    if (this.#data.length - this.#at < count) throw faults.ends(field, this.#data.length);
  }

  #take(count: 1 | 2 | 4, field: string): number {
    this.#need(count, field);
    let value = 0;
    for (let i = 0; i < count; i++) value = value * 256 + this.#data[this.#at++]!;
    return value;
  }

  /** Returns the flags. */
  #readHeader(): number {
    for (const byte of MAGIC) {
      const offset = this.#at;
      const found = this.#take(1, 'magic');
      if (found !== byte) throw faults.corrupt('magic', { offset, found, expected: byte });
    }
    const start = this.#at;
    const version = this.#take(2, 'version');
    const extended = version >= VERSION_WITH_LEVEL;
    this.#take(2, 'library version');
    if (extended) this.#take(2, 'version needed to extract');
    const method = this.#take(1, 'method');
    if (!METHODS.includes(method)) {
      throw faults.unsupported('method', { offset: this.#at - 1, found: method, expected: 'LZO1X (1 to 3)' });
    }
    if (extended) this.#take(1, 'level');
    const flags = this.#take(4, 'flags');
    if (flags & UNSUPPORTED_FLAGS) throw faults.unsupported('flags', { offset: this.#at - 4, found: flags });
    this.#take(4, 'mode');
    this.#take(4, 'mtime');
    if (extended) this.#take(4, 'mtime, high half');
    const name = this.#take(1, 'length of the name');
    this.#need(name, 'name');
    this.#at += name;
    const header = this.#data.subarray(start, this.#at);
    this.#check(flags & F_H_CRC32 ? crc32 : adler32, header, 'header checksum');
    return flags;
  }

  #check(sum: (bytes: Uint8Array) => number, bytes: Uint8Array, field: string): void {
    const offset = this.#at;
    const found = this.#take(4, field);
    const expected = sum(bytes);
    if (found !== expected) throw faults.corrupt(field, { offset, found, expected });
  }

  decode(size: number): Uint8Array {
    const flags = this.#readHeader();
    const output = new Output(size, this.#data.length, faults);
    for (;;) {
      const offset = this.#at;
      const decodedSize = this.#take(4, 'block size');
      if (decodedSize === 0) break;
      if (decodedSize > BLOCK_SIZE) {
        throw faults.corrupt('block size', { offset, found: decodedSize, expected: `at most ${BLOCK_SIZE}` });
      }
      const length = this.#take(4, 'compressed size');
      if (length === 0 || length > decodedSize) {
        throw faults.corrupt('compressed size', { offset: offset + 4, found: length, expected: `1 to ${decodedSize}` });
      }
      const stored = length === decodedSize;
      const sums: { at: number; sum: (bytes: Uint8Array) => number; compressed: boolean }[] = [];
      for (const [flag, sum, compressed] of [
        [F_ADLER32_D, adler32, false],
        [F_CRC32_D, crc32, false],
        [F_ADLER32_C, adler32, true],
        [F_CRC32_C, crc32, true],
      ] as const) {
        if (!(flags & flag) || (compressed && stored)) continue;
        this.#need(4, 'block checksum');
        sums.push({ at: this.#at, sum, compressed });
        this.#at += 4;
      }
      this.#need(length, 'block');
      const block = this.#data.subarray(this.#at, this.#at + length);
      const blockAt = this.#at;
      this.#at += length;
      output.reserve(decodedSize);
      const end = output.length + decodedSize;
      if (stored) output.bytes.set(block, output.length);
      else decodeLzo1x(block, blockAt, output.bytes, output.length, end);
      const decoded = output.bytes.subarray(output.length, end);
      for (const { at, sum, compressed } of sums) {
        const found = this.#reader.u32be(at, 'block checksum');
        const expected = sum(compressed ? block : decoded);
        if (found !== expected) throw faults.corrupt('block checksum', { offset: at, found, expected });
      }
      output.length = end;
    }
    if (this.#at !== this.#data.length) {
      throw faults.corrupt('data', { offset: this.#at, found: 'bytes after the last block' });
    }
    return output.finish();
  }
}

/** lib/lzo/lzodefs.h: what a short match after a long literal run adds to its distance. */
const M2_MAX_OFFSET = 0x0800;
const M3_MAX_OFFSET = 0x4000;

/**
 * Decodes one block to exactly out[start..end). `origin` is the block's place in the payload, for errors.
 *
 * The stream has no tokens of one shape: what an instruction below 16 means depends on how many literals came just before (`state`:
 * 0 none, 1 to 3 as many with the last match, 4 a run of its own). Table: Documentation/staging/lzo.rst.
 */
function decodeLzo1x(block: Uint8Array, origin: number, out: Uint8Array, start: number, end: number): void {
  const length = block.length;
  let at = 0;
  let to = start;
  let state = 0;

  const overrun = (): Error => faults.ends('block data', origin + length);
  const zeroRun = (): number => {
    let extra = 0;
    while (at < length && block[at] === 0) {
      extra += 255;
      at++;
    }
    if (at >= length) throw overrun();
    return extra + block[at++]!;
  };
  const copyLiterals = (count: number): void => {
    if (count > length - at) throw overrun();
    if (count > end - to)
      throw faults.corrupt('block data', { offset: origin + at, found: 'more than the block size' });
    if (count > 32) {
      out.set(block.subarray(at, at + count), to);
      at += count;
      to += count;
      return;
    }
    for (const stop = at + count; at < stop;) out[to++] = block[at++]!;
  };

  // The first byte is special: above 17 it is a literal run.
  const first = block[0]!;
  if (first > 17) {
    at = 1;
    const count = first - 17;
    copyLiterals(count);
    state = count < 4 ? count : 4;
  }

  for (;;) {
    if (at >= length) throw overrun();
    const instruction = block[at++]!;
    let count: number;
    let distance: number;
    let after: number;
    if (instruction < 16) {
      if (state === 0) {
        copyLiterals(3 + (instruction === 0 ? 15 + zeroRun() : instruction));
        state = 4;
        continue;
      }
      if (at >= length) throw overrun();
      after = instruction & 3;
      distance = 1 + (instruction >> 2) + (block[at++]! << 2);
      count = 2;
      if (state === 4) {
        distance += M2_MAX_OFFSET;
        count = 3;
      }
    } else if (instruction >= 64) {
      if (at >= length) throw overrun();
      after = instruction & 3;
      distance = 1 + ((instruction >> 2) & 7) + (block[at++]! << 3);
      count = (instruction >> 5) + 1;
    } else {
      const near = instruction >= 32;
      const bits = near ? 31 : 7;
      count = (instruction & bits) + 2;
      if (count === 2) count += bits + zeroRun();
      if (length - at < 2) throw overrun();
      const word = block[at]! | (block[at + 1]! << 8);
      at += 2;
      after = word & 3;
      distance = word >> 2;
      if (near) {
        distance += 1;
      } else {
        distance += (instruction & 8) << 11;
        if (distance === 0) {
          // The end marker is the match 0x11 0x00 0x00.
          if (count !== 3) throw faults.corrupt('end marker', { offset: origin + at, found: instruction });
          break;
        }
        distance += M3_MAX_OFFSET;
      }
    }
    if (distance > to - start) throw faults.corrupt('match distance', { offset: origin + at, found: distance });
    if (count > end - to)
      throw faults.corrupt('block data', { offset: origin + at, found: 'more than the block size' });
    if (distance >= count && count > 32) {
      out.copyWithin(to, to - distance, to - distance + count);
      to += count;
    } else {
      let source = to - distance;
      for (const stop = to + count; to < stop;) out[to++] = out[source++]!;
    }
    copyLiterals(after);
    state = after;
  }
  if (at !== length) throw faults.corrupt('block data', { offset: origin + at, found: 'bytes after the end marker' });
  if (to !== end) throw faults.corrupt('block size', { found: to - start, expected: end - start });
}

export function decodeLzo(data: Uint8Array, size: number): Uint8Array {
  return new LzopReader(data).decode(size);
}
