/** Makes a new input from the ones that are there. The same random numbers give the same input. */
import { ascii } from '../../src/base/bytes.ts';
import type { Random } from '../codecs/tools.ts';
import { readNumber, writeNumber } from './fields.ts';
import type { FieldAt } from './fields.ts';
import { LONGEST } from './target.ts';
import type { Target } from './target.ts';

/** Values at which readers go wrong: ends of ranges, signs, sizes of things in kernels. */
const INTERESTING: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  4n,
  7n,
  8n,
  16n,
  255n,
  256n,
  0xfff1n,
  0xffffn,
  0x1_0000n,
  0x20_0000n,
  0x100_0000n,
  0x3fff_ffffn,
  0x4000_0000n,
  0x7fff_ffffn,
  0x8000_0000n,
  0x8100_0000n,
  0xffff_fff0n,
  0xffff_ffffn,
  1n << 32n,
  1n << 40n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
  0xffff_ffff_8000_0000n,
  0xffff_ffff_8100_0000n,
  0xffff_ffff_c000_0000n,
];

export function mutate(random: Random, pool: readonly Uint8Array[], target: Target): Uint8Array {
  let input: Uint8Array = new Uint8Array(pick(random, pool));
  const steps = 1 + Math.min(random.below(6), random.below(6));
  for (let step = 0; step < steps; step++) input = change(random, input, pool, target);
  const longest = target.longest ?? LONGEST;
  if (input.length > longest) input = input.subarray(0, longest);
  return target.repair !== undefined && random.below(8) > 0 ? target.repair(input) : input;
}

export function pick<T>(random: Random, list: readonly T[]): T {
  return list[random.below(list.length)]!;
}

function change(random: Random, input: Uint8Array, pool: readonly Uint8Array[], target: Target): Uint8Array {
  const fields = target.fields === undefined || random.below(2) === 0 ? [] : target.fields(input);
  if (fields.length > 0) return changeField(random, input, fields);
  if (target.words !== undefined && random.below(2) === 0) return changeWord(random, input, target.words);
  return changeBytes(random, input, pool);
}

function changeField(random: Random, input: Uint8Array, fields: readonly FieldAt[]): Uint8Array {
  const field = pick(random, fields);
  const other = pick(random, fields);
  const old = BigInt(readNumber(input, field.offset, field.width));
  writeNumber(input, field, BigInt.asUintN(64, valueFor(random, input, old, other)));
  return input;
}

function valueFor(random: Random, input: Uint8Array, old: bigint, other: FieldAt): bigint {
  const size = BigInt(input.length);
  switch (random.below(8)) {
    case 0:
    case 1:
      return pick(random, INTERESTING);
    case 2:
      return size + BigInt(random.below(17) - 8);
    case 3:
      return old + BigInt(random.below(33) - 16);
    case 4:
      return old ^ (1n << BigInt(random.below(64)));
    case 5:
      return BigInt(readNumber(input, other.offset, other.width));
    case 6:
      return random.below(2) === 0 ? old * 2n : old / 2n;
    default:
      return BigInt(random.next()) << BigInt(random.below(2) * 32);
  }
}

function changeWord(random: Random, input: Uint8Array, words: readonly string[]): Uint8Array {
  const word = ascii(pick(random, words));
  const at = random.below(input.length + 1);
  return splice(input, at, random.below(2) === 0 ? 0 : random.below(word.length + 4), word);
}

function changeBytes(random: Random, input: Uint8Array, pool: readonly Uint8Array[]): Uint8Array {
  if (input.length === 0) return random.bytes(1 + random.below(16));
  const at = random.below(input.length);
  const length = 1 + random.below(Math.min(input.length - at, random.below(8) === 0 ? 4096 : 16));
  switch (random.below(10)) {
    case 0:
    case 1:
    case 2:
      input[at]! ^= 1 << random.below(8);
      return input;
    case 3:
      input[at] = pick(random, [0, 1, 0x0a, 0x20, 0x22, 0x7f, 0x80, 0xfe, 0xff]);
      return input;
    case 4:
      input.set(random.bytes(length), at);
      return input;
    case 5:
      return input.slice(0, at);
    case 6:
      return splice(input, at, length, new Uint8Array(0));
    case 7:
      return splice(input, random.below(input.length), 0, input.slice(at, at + length));
    case 8:
      return splice(input, at, random.below(2) === 0 ? 0 : length, new Uint8Array(length).fill(random.below(2) * 0xff));
    default: {
      // The start of one and the end of another.
      const other = pick(random, pool);
      const from = random.below(2) === 0 ? at : random.below(other.length + 1);
      return splice(input, at, input.length - at, other.subarray(from));
    }
  }
}

/** A new array: `length` bytes at `at` replaced by others. */
function splice(input: Uint8Array, at: number, length: number, by: Uint8Array): Uint8Array {
  const end = Math.min(input.length, at + length);
  const made = new Uint8Array(at + by.length + input.length - end);
  made.set(input.subarray(0, at));
  made.set(by, at);
  made.set(input.subarray(end), at + by.length);
  return made;
}
