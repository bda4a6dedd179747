/**
 * The bzip2 format: a header, blocks of up to 900 kB, and a sum over their CRCs; a stream of bits, not of bytes.
 *
 *   "BZh" and a digit: the block size in 100 kB
 *   48 bits pi, CRC, ... a block      | again and again
 *   48 bits sqrt(pi), sum of the CRCs | padding to a byte
 *
 * A block is run-length coded, sorted by the Burrows-Wheeler transform, coded by move-to-front, run-length coded again, and
 * Huffman-coded with up to six codes that take turns. bzip2-loops.ts does the reverse. The program (bzip2 1.0.8) is the only
 * specification; the kernel's reader is lib/decompress_bunzip2.c.
 *
 * Why not libbz2 as WebAssembly (@foxglove/wasm-bz2 0.3.0): when it is loaded, it adds two listeners to the process, for uncaught exceptions and
 * unhandled rejections, and so changes what its host does with them. It reads a file of 1 MB, and is slower (57 MB: 1460 ms).
 */
import { hex } from '../base/errors.ts';
import { Arena } from './arena.ts';
import {
  BLOCK_UNIT,
  BZIP2_WORKSPACE,
  MAX_GROUPS,
  SELECTOR_COUNT_BITS,
  bzip2Loops,
  codeAddress,
} from './bzip2-loops.ts';
import { Faults, type Decoder, type Format } from './codec.ts';
import { DecoderProgram } from './decoder-program.ts';

const faults = new Faults('bzip2');
const program = new DecoderProgram(bzip2Loops);

/** "BZh". */
const MAGIC = [0x42, 0x5a, 0x68];
const HEADER_SIZE = 4;
const BLOCK_MAGIC = 0x314159265359;
const END_MAGIC = 0x177245385090;

/** IEEE 802.3, not reflected. */
const CRC_POLYNOMIAL = 0x04c11db7;

/** How many bytes one call of the loop writes. Not more: V8 replaces a running function with its optimised version only at the next call. */
const STEP = 64 << 10;
/** What one step of the loop writes at most: 255 repeats. */
const OVERSHOOT = 255;

class Bzip2Reader {
  readonly #arena: Arena;
  /** Address. */
  readonly #end: number;

  constructor(arena: Arena, length: number) {
    this.#arena = arena;
    this.#end = arena.input + length;
    for (let byte = 0; byte < 256; byte++) {
      let crc = byte << 24;
      for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ CRC_POLYNOMIAL : crc << 1;
      arena.set(BZIP2_WORKSPACE.CRC_TABLE + 4 * byte, crc);
    }
  }

  decode(): Uint8Array {
    const arena = this.#arena;
    const blockSize = this.#readHeader();
    let sum = 0;
    for (;;) {
      const offset = this.#offset;
      const magic = this.#take(24) * 2 ** 24 + this.#take(24);
      const crc = ((this.#take(16) << 16) | this.#take(16)) >>> 0;
      this.#checkEnd('block header');
      if (magic === END_MAGIC) {
        if (crc !== sum) throw faults.corrupt('sum of CRCs', { offset, found: crc, expected: sum });
        break;
      }
      if (magic !== BLOCK_MAGIC) throw faults.corrupt('block magic', { offset, found: magic, expected: BLOCK_MAGIC });
      const found = this.#readBlock(blockSize);
      if (found !== crc) throw faults.corrupt('block CRC', { offset, found: crc, expected: found });
      sum = (((sum << 1) | (sum >>> 31)) ^ crc) >>> 0;
      arena.pace(this.#offset);
    }
    const offset = this.#offset;
    if (offset !== this.#end - arena.input) {
      throw faults.corrupt('stream', { offset, found: 'bytes after its end' });
    }
    return arena.finish();
  }

  /** Offset in the payload of the first byte that no bit was taken from. */
  get #offset(): number {
    return (
      this.#arena.get(BZIP2_WORKSPACE.AT) - Math.floor(this.#arena.get(BZIP2_WORKSPACE.HAVE) / 8) - this.#arena.input
    );
  }

  /** Up to 24 bits. After the end of the payload they are zeros; `#checkEnd` throws then. */
  #take(count: number): number {
    return this.#arena.call('takeBits', { count });
  }

  #checkEnd(field: string): void {
    const length = this.#end - this.#arena.input;
    if (this.#offset > length) throw faults.ends(field, length);
  }

  /** Returns the block size. */
  #readHeader(): number {
    const { bytes, input } = this.#arena;
    const wrong = MAGIC.findIndex((byte, i) => bytes[input + i] !== byte);
    if (wrong >= 0) {
      throw faults.corrupt('magic', { offset: wrong, found: bytes[input + wrong], expected: MAGIC[wrong] });
    }
    const level = bytes[input + 3]! - 0x30;
    if (level < 1 || level > 9) {
      throw faults.corrupt('block size', { offset: 3, found: bytes[input + 3], expected: "'1' to '9'" });
    }
    this.#arena.set(BZIP2_WORKSPACE.AT, input + HEADER_SIZE);
    return level * BLOCK_UNIT;
  }

  /** Returns the CRC of what was decoded. */
  #readBlock(blockSize: number): number {
    const arena = this.#arena;
    const offset = this.#offset;
    if (this.#take(1) === 1)
      throw faults.unsupported('randomised block', { offset, hint: 'no bzip2 since 0.9.5 writes one' });
    const origin = this.#take(24);
    const used = this.#readBytesInUse();
    if (used.length === 0) throw faults.corrupt('block', { offset, found: 'no bytes in use' });
    const symbols = used.length + 2;
    const groups = this.#take(3);
    if (groups < 2 || groups > MAX_GROUPS) {
      throw faults.corrupt('number of codes', { offset, found: groups, expected: '2 to 6' });
    }
    const selectors = this.#take(SELECTOR_COUNT_BITS);
    arena.call('readSelectors', { count: selectors, groups, end: this.#end }, arena.get(BZIP2_WORKSPACE.AT));
    for (let group = 0; group < groups; group++) {
      arena.call('readLengths', { symbols, end: this.#end }, arena.get(BZIP2_WORKSPACE.AT));
      arena.call('buildCode', { symbols, to: codeAddress(group) }, arena.get(BZIP2_WORKSPACE.AT));
    }
    arena.bytes.set(used, BZIP2_WORKSPACE.LIST);
    arena.words.fill(0, BZIP2_WORKSPACE.COUNTS / 4, BZIP2_WORKSPACE.COUNTS / 4 + 256);
    const read = { symbols, selectors, room: blockSize, end: this.#end };
    const count = arena.call('readSymbols', read, arena.get(BZIP2_WORKSPACE.AT));
    this.#checkEnd('block');
    if (origin >= count)
      throw faults.corrupt('origin pointer', { offset, found: origin, expected: `less than ${count}` });
    if (count === blockSize) {
      arena.differs('block', {
        offset,
        found: `a full one of ${hex(count)} bytes`,
        expected: `less, for kernels up to 6.11`,
      });
    }
    this.#link(count);
    return this.#write(origin, count);
  }

  /** 16 bits say which ranges of 16 byte values occur; 16 bits for each of those say which values. */
  #readBytesInUse(): number[] {
    const used: number[] = [];
    const ranges = this.#take(16);
    for (let range = 0; range < 16; range++) {
      if (((ranges >> (15 - range)) & 1) === 0) continue;
      const bytes = this.#take(16);
      for (let byte = 0; byte < 16; byte++) {
        if ((bytes >> (15 - byte)) & 1) used.push(range * 16 + byte);
      }
    }
    return used;
  }

  #link(count: number): void {
    let begin = 0;
    for (let slot: number = BZIP2_WORKSPACE.COUNTS; slot < BZIP2_WORKSPACE.COUNTS + 4 * 256; slot += 4) {
      const occurrences = this.#arena.get(slot);
      this.#arena.set(slot, begin);
      begin += occurrences;
    }
    this.#arena.call('linkEntries', { count });
  }

  #write(origin: number, count: number): number {
    const arena = this.#arena;
    arena.set(BZIP2_WORKSPACE.POSITION, arena.get(BZIP2_WORKSPACE.ENTRIES + 4 * origin) >>> 8);
    arena.set(BZIP2_WORKSPACE.LEFT, count);
    arena.set(BZIP2_WORKSPACE.LAST, -1);
    arena.set(BZIP2_WORKSPACE.RUN, 0);
    arena.set(BZIP2_WORKSPACE.CRC, -1);
    while (arena.get(BZIP2_WORKSPACE.LEFT) > 0) {
      const room = arena.limit - arena.end;
      arena.reserve(Math.min(room, STEP + OVERSHOOT));
      arena.set(BZIP2_WORKSPACE.TO, arena.end);
      // With no room left, one entry may still follow: a run that is repeated 0 times.
      arena.call('writeBlock', { stopAt: arena.end + (room === 0 ? 1 : Math.min(room, STEP)), limit: arena.limit });
      arena.end = arena.get(BZIP2_WORKSPACE.TO);
    }
    return ~arena.get(BZIP2_WORKSPACE.CRC) >>> 0;
  }
}

const decodeBzip2: Decoder = async (data, size, watch, differs, onRead) => {
  if (data.length < HEADER_SIZE) throw faults.ends('header', data.length);
  const arena = await Arena.create({
    program,
    faults,
    data,
    size,
    workspace: BZIP2_WORKSPACE.SIZE,
    watch,
    differs,
    onRead,
  });
  return new Bzip2Reader(arena, data.length).decode();
};

export const bzip2: Format = { magic: MAGIC, decode: decodeBzip2, program };
