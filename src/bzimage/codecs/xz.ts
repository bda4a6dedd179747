/**
 * The .xz format, as far as a kernel is written in it: one stream, blocks of LZMA2 with or without the x86 filter before it.
 *
 *   stream header | block ... | index | stream footer
 *
 * A block is a header, LZMA2 chunks, padding to 4 bytes, and a check over the decoded bytes. The index repeats the sizes of all blocks.
 * Every CRC32, size and padding byte that the format has is compared: what comes through here is what the compressor was given.
 * Source: "The .xz File Format", version 1.2.1; section numbers below. The kernel writes it with scripts/xz_wrap.sh (CRC32, x86,
 * a dictionary of up to 128 MiB) and reads it with lib/decompress_unxz.c.
 */
import { Reader } from '../../bytes.ts';
import { decodeX86 } from './bcj-x86.ts';
import { crc32, crc64 } from './checksums.ts';
import { Faults, Output } from './codec.ts';
import { LzmaDecoder, propertiesOf } from './lzma-decoder.ts';

const faults = new Faults('xz');

/** Section 2.1.1: header of 12 bytes, footer of 12 bytes. */
const STREAM_HEADER_SIZE = 12;
const STREAM_FOOTER_SIZE = 12;
const HEADER_MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
const FOOTER_MAGIC = 0x5a59; // "YZ"

/** Section 2.1.1.2: check IDs, and their sizes in bytes. */
const CHECK_NONE = 0;
const CHECK_CRC32 = 1;
const CHECK_CRC64 = 4;
const CHECK_SIZES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];

/** Section 5.3: filter IDs. */
const FILTER_X86 = 0x04n;
const FILTER_LZMA2 = 0x21n;

/** Section 5.3.1, LZMA2: control bytes of chunks. */
const LZMA2_END = 0x00;
const LZMA2_COPY_RESET_DICTIONARY = 0x01;
const LZMA2_COPY = 0x02;
const LZMA2_LZMA = 0x80;

interface BlockHeader {
  /** Of the compressed data, when the header says. */
  readonly compressedSize: bigint | undefined;
  readonly uncompressedSize: bigint | undefined;
  /** The x86 filter's start offset, when it has the filter. */
  readonly x86: number | undefined;
}

interface BlockSizes {
  readonly unpadded: number;
  readonly uncompressed: number;
}

class XzReader {
  readonly #data: Uint8Array;
  readonly #reader: Reader;
  readonly #output: Output;
  #at = 0;

  constructor(data: Uint8Array, size: number) {
    this.#data = data;
    this.#reader = new Reader(data);
    this.#output = new Output(size, data.length, faults);
  }

  decode(): Uint8Array {
    const check = this.#readStreamHeader();
    const blocks: BlockSizes[] = [];
    while (this.#peek('block header') !== 0) blocks.push(this.#readBlock(check));
    const indexSize = this.#readIndex(blocks);
    this.#readStreamFooter(check, indexSize);
    if (this.#at !== this.#data.length) {
      if (HEADER_MAGIC.every((byte, i) => this.#data[this.#at + i] === byte)) {
        throw faults.unsupported('second stream', { offset: this.#at, hint: 'one stream is all that a kernel has' });
      }
      throw faults.corrupt('stream', { offset: this.#at, found: 'bytes after the stream footer' });
    }
    return this.#output.finish();
  }

  #need(count: number, field: string): void {
    if (this.#data.length - this.#at < count) throw faults.ends(field, this.#data.length);
  }

  #peek(field: string): number {
    this.#need(1, field);
    return this.#data[this.#at]!;
  }

  #checkCrc32(from: number, to: number, field: string): void {
    const found = this.#reader.u32(to, field);
    const expected = crc32(this.#data.subarray(from, to));
    if (found !== expected) throw faults.corrupt(field, { offset: to, found, expected });
  }

  /** Section 2.1.1. Returns the check ID. */
  #readStreamHeader(): number {
    this.#need(STREAM_HEADER_SIZE, 'stream header');
    const wrong = HEADER_MAGIC.findIndex((byte, i) => this.#data[i] !== byte);
    if (wrong >= 0) {
      throw faults.corrupt('header magic', { offset: wrong, found: this.#data[wrong], expected: HEADER_MAGIC[wrong] });
    }
    this.#checkCrc32(6, 8, 'stream header CRC32');
    const flags = this.#reader.u16(6, 'stream flags');
    if ((flags & 0xf0ff) !== 0) throw faults.unsupported('stream flags', { offset: 6, found: flags });
    this.#at = STREAM_HEADER_SIZE;
    const check = flags >> 8;
    if (check !== CHECK_NONE && check !== CHECK_CRC32 && check !== CHECK_CRC64) {
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
    this.#checkCrc32(start, end, 'block header CRC32');
    const flags = this.#data[start + 1]!;
    if (flags & 0x3c) throw faults.unsupported('block flags', { offset: start + 1, found: flags });
    this.#at = start + 2;
    const compressedSize = flags & 0x40 ? this.#vli(end, 'compressed size') : undefined;
    const uncompressedSize = flags & 0x80 ? this.#vli(end, 'uncompressed size') : undefined;
    const filters = (flags & 3) + 1;
    let x86: number | undefined;
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
        if (dictionary > 40) {
          throw faults.unsupported('dictionary size', {
            offset: properties,
            found: dictionary,
            expected: 'at most 0x28',
          });
        }
      } else if (!last && id === FILTER_X86 && x86 === undefined && (length === 0 || length === 4)) {
        x86 = length === 0 ? 0 : this.#reader.u32(properties, 'start offset');
      } else {
        throw faults.unsupported('filter', { offset, found: id, expected: 'LZMA2, or x86 and LZMA2' });
      }
    }
    if (this.#data.subarray(this.#at, end).some((byte) => byte !== 0)) {
      throw faults.unsupported('header padding', { offset: this.#at, expected: 'zeros' });
    }
    this.#at = start + headerSize;
    return { compressedSize, uncompressedSize, x86 };
  }

  /** Section 3. */
  #readBlock(check: number): BlockSizes {
    const start = this.#at;
    const header = this.#readBlockHeader();
    const dataStart = this.#at;
    const outStart = this.#output.length;
    this.#readLzma2();
    const compressed = this.#at - dataStart;
    const uncompressed = this.#output.length - outStart;
    if (header.compressedSize !== undefined && header.compressedSize !== BigInt(compressed)) {
      throw faults.corrupt('compressed size', { offset: start, found: header.compressedSize, expected: compressed });
    }
    if (header.uncompressedSize !== undefined && header.uncompressedSize !== BigInt(uncompressed)) {
      throw faults.corrupt('uncompressed size', {
        offset: start,
        found: header.uncompressedSize,
        expected: uncompressed,
      });
    }
    const decoded = this.#output.bytes.subarray(outStart, this.#output.length);
    if (header.x86 !== undefined) decodeX86(decoded, header.x86);

    this.#skipPadding(compressed, 'block padding');
    const checkSize = CHECK_SIZES[check]!;
    this.#need(checkSize, 'check');
    const offset = this.#at;
    if (check === CHECK_CRC32) {
      const found = this.#reader.u32(offset, 'check');
      const expected = crc32(decoded);
      if (found !== expected) throw faults.corrupt('check CRC32', { offset, found, expected });
    } else if (check === CHECK_CRC64) {
      const found = this.#reader.u64(offset, 'check');
      const expected = crc64(decoded);
      if (found !== expected) throw faults.corrupt('check CRC64', { offset, found, expected });
    }
    this.#at += checkSize;
    return { unpadded: this.#at - start - ((4 - (compressed & 3)) & 3), uncompressed };
  }

  #skipPadding(length: number, field: string): void {
    for (let i = length; i & 3; i++, this.#at++) {
      if (this.#peek(field) !== 0)
        throw faults.corrupt(field, { offset: this.#at, found: this.#data[this.#at], expected: 0 });
    }
  }

  /** Section 5.3.1. The chunks' format is in no public document; it is that of lib/xz/xz_dec_lzma2.c. */
  #readLzma2(): void {
    const decoder = new LzmaDecoder(faults);
    const data = this.#data;
    const output = this.#output;
    const dictionaryStart = output.length;
    let needDictionary = true;
    let needProperties = true;
    let needState = true;
    for (;;) {
      const offset = this.#at;
      const control = this.#peek('LZMA2 control');
      this.#at++;
      if (control === LZMA2_END) return;
      if (control >= 0xe0 || control === LZMA2_COPY_RESET_DICTIONARY) {
        // A reset later in a block is legal, and would forbid matches that reach over it; those are then taken as data, not refused.
        needDictionary = false;
        if (control === LZMA2_COPY_RESET_DICTIONARY) needProperties = needProperties || false;
      } else if (needDictionary) {
        throw faults.corrupt('LZMA2 control', { offset, found: control, expected: 'a dictionary reset first' });
      }
      if (control < LZMA2_LZMA) {
        if (control > LZMA2_COPY) throw faults.corrupt('LZMA2 control', { offset, found: control });
        this.#need(2, 'LZMA2 chunk size');
        const length = ((data[this.#at]! << 8) | data[this.#at + 1]!) + 1;
        this.#at += 2;
        this.#need(length, 'LZMA2 chunk');
        output.reserve(length);
        output.bytes.set(data.subarray(this.#at, this.#at + length), output.length);
        output.length += length;
        this.#at += length;
        continue;
      }
      this.#need(5, 'LZMA2 chunk header');
      const uncompressed = (((control & 0x1f) << 16) | (data[this.#at]! << 8) | data[this.#at + 1]!) + 1;
      const compressed = ((data[this.#at + 2]! << 8) | data[this.#at + 3]!) + 1;
      this.#at += 4;
      const reset = (control >> 5) & 3;
      if (reset >= 2) {
        const properties = propertiesOf(this.#peek('LZMA2 properties'));
        if (!properties || properties.lc + properties.lp > 4) {
          throw faults.corrupt('LZMA2 properties', { offset: this.#at, found: data[this.#at] });
        }
        this.#at++;
        decoder.setProperties(properties);
        needProperties = false;
      } else if (needProperties) {
        throw faults.corrupt('LZMA2 control', { offset, found: control, expected: 'new properties first' });
      }
      if (reset >= 1) {
        decoder.resetState();
        needState = false;
      } else if (needState) {
        throw faults.corrupt('LZMA2 control', { offset, found: control, expected: 'a state reset first' });
      }
      this.#need(compressed, 'LZMA2 chunk');
      output.reserve(uncompressed);
      const end = this.#at + compressed;
      const outEnd = output.length + uncompressed;
      decoder.startRange(data, this.#at, end);
      const reached = decoder.run(data, end, output.bytes, output.length, outEnd, outEnd, dictionaryStart);
      if (reached !== outEnd || decoder.position !== end || !decoder.clean) {
        throw faults.corrupt('LZMA2 chunk', { offset, found: 'an end that is not the end of the chunk' });
      }
      output.length = outEnd;
      this.#at = end;
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
    this.#checkCrc32(start, this.#at, 'index CRC32');
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
    const found = this.#reader.u32(start, 'stream footer CRC32');
    const expected = crc32(this.#data.subarray(start + 4, start + 10));
    if (found !== expected) throw faults.corrupt('stream footer CRC32', { offset: start, found, expected });
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

export function decodeXz(data: Uint8Array, size: number): Uint8Array {
  return new XzReader(data, size).decode();
}
