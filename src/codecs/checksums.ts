/**
 * The checksums of xz and lzop, over bytes in an arena: CRC-32, CRC-64 and Adler-32.
 *
 * Both CRCs are reflected, so a CRC-32 is the same loop with 32 zeros on top. It takes 16 bytes a step, with 16 tables
 * (M. Kounavis, F. Berry: A Systematic Approach to Building High Performance, Software-based, CRC Generators, 2005). 66 MB take
 * 20 ms; with 8 bytes a step 33 ms, because each lookup waits for the one before; with 8 in TypeScript 39 ms.
 */
import type { Arena } from './arena.ts';
import { array, struct, u64, type Field } from './workspace.ts';
import {
  FunctionBuilder,
  i32,
  i64,
  load64,
  load8,
  loop,
  repeatWhile,
  select,
  store64,
  type I32,
  type I64,
} from '../wasm/assembler.ts';

/** IEEE 802.3 and ECMA-182, reflected. */
export const CRC32 = 0xedb8_8320n;
export const CRC64 = 0xc96c_5795_d787_0f42n;

/** Bytes a step, and tables. */
const SLICES = 16;
/** 256 entries of 8 bytes. */
const SLICE = 256 * 8;
/** What a Crc occupies of the workspace. SUM is the polynomial until the tables are made. */
const CRC = struct({ SUM: u64, TABLES: array(u64, SLICES * 256) });
export const CRC_FIELD: Field = { size: CRC.SIZE, alignment: u64.alignment };

/** How many bytes one call of the loop takes. Not more: V8 replaces a running function with its optimised version only at the next call. */
const STEP = 256 << 10;

/** A CRC of one polynomial, that occupies a CRC_FIELD of the workspace, at the address `field`. The program needs `crcLoops`. */
export class Crc {
  readonly #arena: Arena;
  readonly #field: number;
  /** All ones, as wide as the CRC: the initial value, and the final xor. */
  readonly #ones: bigint;

  constructor(arena: Arena, field: number, polynomial: bigint) {
    this.#arena = arena;
    this.#field = field;
    this.#ones = polynomial >> 32n === 0n ? 0xffff_ffffn : 0xffff_ffff_ffff_ffffn;
    this.#set(polynomial);
    arena.call('makeCrcTables', { field });
  }

  #set(value: bigint): void {
    this.#arena.set(this.#field + CRC.SUM, Number(value & 0xffff_ffffn));
    this.#arena.set(this.#field + CRC.SUM + 4, Number(value >> 32n));
  }

  /** Over the addresses from..to. */
  sum(from: number, to: number): bigint {
    const field = this.#field;
    this.#set(this.#ones);
    for (let at = from; at < to; at += STEP) this.#arena.call('crc', { field, from: at, to: Math.min(at + STEP, to) });
    const low = BigInt(this.#arena.get(field + CRC.SUM) >>> 0);
    const high = BigInt(this.#arena.get(field + CRC.SUM + 4) >>> 0);
    return ((high << 32n) | low) ^ this.#ones;
  }
}

export function crcLoops(): FunctionBuilder[] {
  return [makeCrcTables(), crc()];
}

function makeCrcTables(): FunctionBuilder {
  const f = new FunctionBuilder('makeCrcTables');
  const { field } = f.parameters('field');
  const { entry, bit } = f.locals('i32', 'entry', 'bit');
  const { polynomial, sum } = f.locals('i64', 'polynomial', 'sum');
  return f.body([
    polynomial.set(load64(field, CRC.SUM)),
    // The first table: what a byte becomes in eight steps of one bit.
    loop((nextEntry) => [
      sum.set(entry.shr(3).wide()),
      bit.set(8),
      loop((nextBit) => [
        sum.set(sum.shr(1).xor(select(sum.low32().and(1), polynomial, i64(0n)))),
        bit.set(bit.sub(1)),
        nextBit.goIf(bit),
      ]),
      store64(field.add(entry), sum, CRC.TABLES),
      entry.increase(8),
      nextEntry.goIf(entry.below(SLICE)),
    ]),
    // Each further table: what an entry of the one before becomes with a byte of zeros after it.
    loop((next) => [
      sum.set(load64(field.add(entry).sub(SLICE), CRC.TABLES)),
      sum.set(sum.shr(8).xor(load64(field.add(sum.low32().and(0xff).shl(3)), CRC.TABLES))),
      store64(field.add(entry), sum, CRC.TABLES),
      entry.increase(8),
      next.goIf(entry.below(SLICES * SLICE)),
    ]),
  ]);
}

function crc(): FunctionBuilder {
  const f = new FunctionBuilder('crc');
  const { field, from, to } = f.parameters('field', 'from', 'to');
  const { sum, second } = f.locals('i64', 'sum', 'second');
  const lookUp = (slice: number, index: I32): I64 =>
    load64(field.add(index.and(0xff).shl(3)), CRC.TABLES + slice * SLICE);
  // The first byte has 15 others after it, so it is looked up in the last table.
  const parts = Array.from({ length: SLICES }, (_, byte) => {
    const word = byte < 8 ? sum : second;
    return lookUp(SLICES - 1 - byte, word.shr(8 * (byte % 8)).low32());
  });
  return f.body([
    sum.set(load64(field, CRC.SUM)),
    repeatWhile(to.sub(from).atLeast(SLICES), [
      sum.set(sum.xor(load64(from))),
      second.set(load64(from, 8)),
      sum.set(xorAll(parts)),
      from.increase(SLICES),
    ]),
    repeatWhile(from.below(to), [sum.set(sum.shr(8).xor(lookUp(0, sum.low32().xor(load8(from))))), from.increase(1)]),
    store64(field, sum, CRC.SUM),
  ]);
}

/** As a tree: in a chain, each xor would wait for the one before. */
function xorAll(values: readonly I64[]): I64 {
  if (values.length === 1) return values[0]!;
  const half = values.length / 2;
  return xorAll(values.slice(0, half)).xor(xorAll(values.slice(half)));
}

/** RFC 1950, section 9. */
const ADLER_BASE = 65521;
/** Bytes that can be summed up before the sums pass 2^32: 5552, here a multiple of 8. */
const ADLER_RUN = 5552;

export function adler32(arena: Arena, from: number, to: number): number {
  return arena.call('adler32', { from, to }) >>> 0;
}

const LANES = 0x00ff_00ff_00ff_00ffn;
const topLane = (product: I64): I32 => product.shr(48).low32();

/**
 * Eight bytes a step: `a` grows by their sum, `b` by 8 times the old `a`, and 8 times the first byte, 7 times the second and so on. Each
 * sum over bytes is a product: of four 16-bit lanes, and a constant that holds a weight for each. The sum arrives in the top lane.
 */
export function adler32Loop(): FunctionBuilder {
  const f = new FunctionBuilder('adler32');
  const { from, to } = f.parameters('from', 'to');
  const { a, b, stop } = f.locals('i32', 'a', 'b', 'stop');
  const { even, odd } = f.locals('i64', 'even', 'odd');
  return f.body(
    [
      a.set(1),
      repeatWhile(from.below(to), [
        stop.set(from.add(select(to.sub(from).above(ADLER_RUN), i32(ADLER_RUN), to.sub(from)))),
        repeatWhile(stop.sub(from).atLeast(8), [
          even.set(load64(from).and(LANES)),
          odd.set(load64(from).shr(8).and(LANES)),
          b.increase(a.shl(3)),
          b.increase(topLane(even.mul(0x0008_0006_0004_0002n))),
          b.increase(topLane(odd.mul(0x0007_0005_0003_0001n))),
          a.increase(topLane(even.add(odd).mul(0x0001_0001_0001_0001n))),
          from.increase(8),
        ]),
        repeatWhile(from.below(stop), [a.increase(load8(from)), b.increase(a), from.increase(1)]),
        a.set(a.remainder(ADLER_BASE)),
        b.set(b.remainder(ADLER_BASE)),
      ]),
    ],
    b.shl(16).or(a),
  );
}
