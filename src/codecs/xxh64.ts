/**
 * XXH64, with a seed of 0, over bytes in an arena. Source: doc/xxhash_spec.md in xxHash, section "XXH64 algorithm description".
 *
 * The stripes of 32 bytes are summed by a loop in WebAssembly (57 MB: 3 ms). The rest is done once, with BigInt.
 */
import type { Arena } from './arena.ts';
import { array, u64, type Field } from './workspace.ts';
import { FunctionBuilder, i64, load64, repeatWhile, store64, type I64 } from '../wasm/assembler.ts';

const PRIME1 = 0x9e37_79b1_85eb_ca87n;
const PRIME2 = 0xc2b2_ae3d_27d4_eb4fn;
const PRIME3 = 0x1656_67b1_9e37_79f9n;
const PRIME4 = 0x85eb_ca77_c2b2_ae63n;
const PRIME5 = 0x27d4_eb2f_1656_67c5n;

const STRIPE = 32;
const LANES = [0, 8, 16, 24] as const;
/** What it occupies of the workspace: the four accumulators. */
export const XXH64_FIELD: Field = array(u64, LANES.length);

const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);
const rotate = (value: bigint, by: bigint): bigint => wrap((value << by) | (value >> (64n - by)));
const round = (lane: bigint, input: bigint): bigint => wrap(rotate(wrap(lane + input * PRIME2), 31n) * PRIME1);

/** The hash of a range of bytes in the arena, computed while it grows. The program needs `xxh64Loop`. */
export class Xxh64 {
  readonly #arena: Arena;
  readonly #field: number;
  readonly #start: number;
  /** Address up to which stripes are hashed. */
  #at: number;

  /** `field` is the address of an XXH64_FIELD. */
  constructor(arena: Arena, field: number, start: number) {
    this.#arena = arena;
    this.#field = field;
    this.#start = start;
    this.#at = start;
    this.#lanes().set([wrap(PRIME1 + PRIME2), PRIME2, 0n, wrap(-PRIME1)]);
  }

  #lanes(): BigUint64Array {
    return new BigUint64Array(this.#arena.bytes.buffer, this.#field, LANES.length);
  }

  /** Hashes the stripes that are complete up to `end`. */
  update(end: number): void {
    const to = end - ((end - this.#at) % STRIPE);
    this.#arena.call('xxh64', { field: this.#field, from: this.#at, to });
    this.#at = to;
  }

  /** The hash of all bytes up to `end`. */
  finish(end: number): bigint {
    this.update(end);
    const length = end - this.#start;
    let hash = PRIME5;
    if (length >= STRIPE) {
      const lanes = [...this.#lanes()];
      hash = wrap([1n, 7n, 12n, 18n].reduce((sum, by, i) => sum + rotate(lanes[i]!, by), 0n));
      for (const lane of lanes) hash = wrap((hash ^ round(0n, lane)) * PRIME1 + PRIME4);
    }
    hash = wrap(hash + BigInt(length));
    for (; end - this.#at >= 8; this.#at += 8) {
      hash = wrap(rotate(hash ^ round(0n, this.#word(8)), 27n) * PRIME1 + PRIME4);
    }
    for (; end - this.#at >= 4; this.#at += 4) {
      hash = wrap(rotate(hash ^ wrap(this.#word(4) * PRIME1), 23n) * PRIME2 + PRIME3);
    }
    for (; end > this.#at; this.#at += 1) {
      hash = wrap(rotate(hash ^ wrap(this.#word(1) * PRIME5), 11n) * PRIME1);
    }
    hash = wrap((hash ^ (hash >> 33n)) * PRIME2);
    hash = wrap((hash ^ (hash >> 29n)) * PRIME3);
    return hash ^ (hash >> 32n);
  }

  #word(length: number): bigint {
    let word = 0n;
    for (let i = length - 1; i >= 0; i--) word = (word << 8n) | BigInt(this.#arena.bytes[this.#at + i]!);
    return word;
  }
}

function roundOf(lane: I64, input: I64): I64 {
  return lane
    .add(input.mul(i64(PRIME2)))
    .rotl(31)
    .mul(i64(PRIME1));
}

export function xxh64Loop(): FunctionBuilder {
  const f = new FunctionBuilder('xxh64');
  const { field, from, to } = f.parameters('field', 'from', 'to');
  const lanes = LANES.map((offset) => ({ offset, sum: f.locals('i64', 'sum').sum }));
  return f.body([
    lanes.map(({ offset, sum }) => sum.set(load64(field, offset))),
    repeatWhile(from.below(to), [
      lanes.map(({ offset, sum }) => sum.set(roundOf(sum, load64(from, offset)))),
      from.increase(STRIPE),
    ]),
    lanes.map(({ offset, sum }) => store64(field, sum, offset)),
  ]);
}
