/**
 * The entropy tables of zstd. Their descriptions are read here; zstd-loops.ts fills the tables. Source: RFC 8878, section 4.
 */
import type { Arena } from './arena.ts';
import type { Faults } from './codec.ts';
import { FSE_LIMITS, ZSTD_WORKSPACE } from './zstd-loops.ts';

/** Reads the bits of a description, the lowest first; section 4.1.1. */
class ForwardBits {
  readonly #bytes: Uint8Array;
  #at: number;
  #bit = 0;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.#at = at;
  }

  /** At most 16 bits, without taking them. It may look past the end of the description; callers check `end`. */
  peek(count: number): number {
    const at = this.#at;
    const word = this.#bytes[at]! | (this.#bytes[at + 1]! << 8) | (this.#bytes[at + 2]! << 16);
    return (word >>> this.#bit) & ((1 << count) - 1);
  }

  skip(count: number): void {
    this.#bit += count;
    this.#at += this.#bit >> 3;
    this.#bit &= 7;
  }

  /** Where the next whole byte begins. */
  get end(): number {
    return this.#at + (this.#bit > 0 ? 1 : 0);
  }
}

/** How often each symbol occurs in a table of 2^log states. -1 means less than once; such a symbol gets one state too. */
export interface Distribution {
  readonly log: number;
  readonly counts: readonly number[];
}

export interface Limits {
  readonly field: string;
  readonly maxLog: number;
  readonly maxSymbol: number;
}

/** Section 4.1.1: the FSE table description at bytes[at..end). Also returns where it ends. */
export function readDistribution(
  bytes: Uint8Array,
  at: number,
  end: number,
  { field, maxLog, maxSymbol }: Limits,
  faults: Faults,
): Distribution & { end: number } {
  const bits = new ForwardBits(bytes, at);
  const bad = (): Error => faults.corrupt(`${field} table`, { found: 'an invalid distribution' });
  const log = bits.peek(4) + 5;
  bits.skip(4);
  if (log > maxLog) throw bad();
  const counts: number[] = [];
  let remaining = (1 << log) + 1;
  while (remaining > 1) {
    if (counts.length > maxSymbol || bits.end > end) throw bad();
    // Values up to `remaining` take as few bits as possible: the low ones one bit less than the others.
    const width = 32 - Math.clz32(remaining);
    const short = (1 << width) - 1 - remaining;
    let value = bits.peek(width - 1);
    if (value < short) {
      bits.skip(width - 1);
    } else {
      value = bits.peek(width);
      bits.skip(width);
      if (value >= 1 << (width - 1)) value -= short;
    }
    const count = value - 1;
    remaining -= Math.abs(count);
    counts.push(count);
    if (count === 0) {
      let repeat: number;
      do {
        if (bits.end > end) throw bad();
        repeat = bits.peek(2);
        bits.skip(2);
        for (let i = 0; i < repeat; i++) counts.push(0);
      } while (repeat === 3);
    }
  }
  if (remaining !== 1 || counts.length > maxSymbol + 1 || bits.end > end) throw bad();
  return { log, counts, end: bits.end };
}

/** zstd 1.3.1, in kernels up to 5.15, refuses descriptions of tables in fewer bytes, even if it needs fewer. */
export const KERNEL_TABLE_MIN = 4;
export const TABLE_MIN_EXPECTED = `at least ${KERNEL_TABLE_MIN}, for kernels up to 5.15`;

/** Where a table goes, and what its symbols mean. */
export interface TablePlace {
  readonly table: number;
  readonly codes: number;
}

export function buildTable(arena: Arena, { log, counts }: Distribution, { table, codes }: TablePlace): void {
  arena.words.set(counts, ZSTD_WORKSPACE.COUNTS / 4);
  arena.call('buildTable', { log, symbols: counts.length, codes, table });
}

const WEIGHT_TABLE: TablePlace = { table: ZSTD_WORKSPACE.WEIGHT_TABLE, codes: ZSTD_WORKSPACE.WEIGHT_CODES };
const WEIGHT_LIMITS: Limits = { field: 'Huffman weights', ...FSE_LIMITS.WEIGHTS };

/** Section 4.2.1: the Huffman tree description at the addresses at..end. Fills the table, and returns where the description ends. */
export function readHuffman(arena: Arena, at: number, end: number, faults: Faults): number {
  const { bytes } = arena;
  const bad = (found: string): Error => faults.corrupt('Huffman weights', { offset: arena.offsetOf(at), found });
  if (at >= end) throw bad('nothing');
  const header = bytes[at]!;
  const isCoded = header < 128;
  let count = isCoded ? 0 : header - 127;
  const stop = at + 1 + (isCoded ? header : Math.ceil(count / 2));
  if (stop > end) throw bad('a size beyond the block');
  if (isCoded) {
    const distribution = readDistribution(bytes, at + 1, stop, WEIGHT_LIMITS, faults);
    if (distribution.end >= stop || bytes[stop - 1] === 0) throw bad('no bitstream');
    buildTable(arena, distribution, WEIGHT_TABLE);
    if (header < KERNEL_TABLE_MIN) {
      const offset = arena.offsetOf(at);
      arena.differs('Huffman weights', { offset, found: `${header} bytes`, expected: TABLE_MIN_EXPECTED });
    }
    count = arena.call('readWeights', { start: distribution.end, end: stop, log: distribution.log }, at);
  } else {
    for (let i = 0; i < count; i++)
      bytes[ZSTD_WORKSPACE.WEIGHTS + i] = (bytes[at + 1 + (i >> 1)]! >> (i & 1 ? 0 : 4)) & 15;
  }

  arena.call('buildHuffman', { count }, at);
  return stop;
}
