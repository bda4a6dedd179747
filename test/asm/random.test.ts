/**
 * Random programs: any instruction with any operands that it takes. iced-x86 must read from the bytes what the listing says.
 * operands.test.ts is exhaustive in one dimension at a time; here the dimensions mix.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Assembler, byte, dword, qword, word } from '../../src/asm/assembler.ts';
import type { Label, Memory } from '../../src/asm/assembler.ts';
import type { Scale } from '../../src/asm/operands.ts';
import { GPRS } from '../../src/asm/registers.ts';
import type { Gpr, OperandWidth } from '../../src/asm/registers.ts';
import { asIced, hexOf, iced } from './judges.ts';

const SIZED = { 8: byte, 16: word, 32: dword, 64: qword };

/** Labels before, in and after the code. */
const LABELS_AT = [-0x1000, 0, 0x10_0000];

/** Runs once the assembler and its labels exist. */
type Write = (a: Assembler, labels: readonly Label[]) => void;
type Operand = (labels: readonly Label[]) => Gpr | Memory;
type MemoryOperand = (labels: readonly Label[]) => Memory;

const address = fc.constantFrom(...GPRS[64]);
const index = fc.constantFrom(...GPRS[64].filter(({ number }) => number !== 4));
const scale = fc.constantFrom<Scale>(1, 2, 4, 8);
const near = fc.integer({ min: -200, max: 200 });
const displacement = fc.oneof(near, fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }));
const label = fc.nat(LABELS_AT.length - 1);

const pick = (labels: readonly Label[], i: number): Label => labels[i] ?? assert.fail();

function register(width: OperandWidth): fc.Arbitrary<Gpr> {
  return fc.constantFrom<Gpr>(...GPRS[width]);
}

function memory(width: OperandWidth): fc.Arbitrary<MemoryOperand> {
  const make = SIZED[width];
  const plain = fc.oneof(
    fc.tuple(address, displacement).map(([base, d]) => make(base, d)),
    fc.tuple(fc.option(address), index, scale, displacement).map(([base, i, s, d]) => make(base, i, s, d)),
    displacement.map((d) => make(d)),
  );
  const labelled = fc.tuple(fc.option(address), label, near);
  return fc.oneof(
    plain.map((operand) => () => operand),
    labelled.map(([base, i, d]) => (labels: readonly Label[]) => {
      return base === null ? make(pick(labels, i), d) : make(base, pick(labels, i), d);
    }),
  );
}

function either(width: OperandWidth): fc.Arbitrary<Operand> {
  return fc.oneof(
    register(width).map((r) => () => r),
    memory(width),
  );
}

/** Signed or unsigned; for 64 bits a value that sign-extends from 32. */
function immediate(width: OperandWidth): fc.Arbitrary<bigint> {
  if (width === 64) return fc.bigInt(-0x8000_0000n, 0x7fff_ffffn);
  return fc.oneof(fc.bigInt(-128n, 127n), fc.bigInt(-(2n ** BigInt(width - 1)), 2n ** BigInt(width) - 1n));
}

const ARITHMETIC = ['add', 'or', 'and', 'sub', 'xor', 'cmp', 'mov'] as const;
const UNARY = ['not', 'neg', 'mul', 'inc', 'dec'] as const;
const SHIFT = ['rol', 'ror', 'shl', 'shr'] as const;
const BIT = ['bt', 'bts', 'btr'] as const;
const INTO_REGISTER = ['bsf', 'bsr', 'tzcnt', 'popcnt', 'imul', 'cmova', 'cmovb'] as const;

/** A write of arbitrary parts. */
function write<T extends unknown[]>(
  parts: { [I in keyof T]: fc.Arbitrary<T[I]> },
  body: (a: Assembler, labels: readonly Label[], ...values: T) => void,
): fc.Arbitrary<Write> {
  return fc.tuple<T>(...parts).map((values) => (a, labels) => body(a, labels, ...values));
}

function ofWidth(width: OperandWidth): fc.Arbitrary<Write> {
  const any = either(width);
  const reg = register(width);
  const binary = fc.constantFrom(...ARITHMETIC, 'test');
  const shift = fc.constantFrom(...SHIFT);
  return fc.oneof(
    write([binary, any, reg], (a, labels, name, to, from) => a[name](to(labels), from)),
    write([binary, reg, memory(width)], (a, labels, name, to, from) => a[name](to, from(labels))),
    write([binary, any, immediate(width)], (a, labels, name, to, value) => a[name](to(labels), value)),
    write([fc.constantFrom(...UNARY), any], (a, labels, name, operand) => a[name](operand(labels))),
    write([shift, any, fc.nat(width - 1)], (a, labels, name, operand, count) => a[name](operand(labels), count)),
  );
}

function ofWideWidth(width: 16 | 32 | 64): fc.Arbitrary<Write> {
  const any = either(width);
  const reg = register(width);
  const bit = fc.constantFrom(...BIT);
  return fc.oneof(
    write([fc.constantFrom(...INTO_REGISTER), reg, any], (a, labels, name, to, from) => a[name](to, from(labels))),
    write([bit, any, reg], (a, labels, name, operand, number) => a[name](operand(labels), number)),
    write([bit, any, fc.nat(width - 1)], (a, labels, name, operand, number) => a[name](operand(labels), number)),
    write([reg, any, immediate(width)], (a, labels, to, from, factor) => a.imul(to, from(labels), factor)),
  );
}

const wide = fc.constantFrom(...GPRS[32], ...GPRS[64]);
const small = fc.oneof(either(8), either(16));
const throughOperand = fc.constantFrom('push', 'pop', 'jmp', 'call');
const toLabel = fc.constantFrom('jmp', 'jz', 'jbe', 'call');

/** The casts say what `either` is by its width. */
const other: fc.Arbitrary<Write> = fc.oneof(
  write([wide, small], (a, labels, to, from) => a.movzx(to, from(labels) as Gpr<8>)),
  write([address, memory(64)], (a, labels, to, from) => a.lea(to, { ...from(labels), width: undefined })),
  write([address, fc.bigInt(-(2n ** 63n), 2n ** 64n - 1n)], (a, _, to, value) => a.mov(to, value)),
  write([throughOperand, either(64)], (a, labels, name, operand) => a[name](operand(labels) as Gpr<64>)),
  write([toLabel, label], (a, labels, name, i) => a[name](pick(labels, i))),
);

const program = fc.array(
  fc.oneof(...([8, 16, 32, 64] as const).map(ofWidth), ...([16, 32, 64] as const).map(ofWideWidth), other),
  { minLength: 1, maxLength: 20 },
);

test('iced reads random programs as they were written', () => {
  fc.assert(
    fc.property(program, (writes) => {
      const a = new Assembler();
      const labels = LABELS_AT.map((at) => a.labelAt(`at ${at}`, at));
      for (const each of writes) each(a, labels);
      const { code, listing } = a.assemble();
      assert.equal(listing.length, writes.length);
      assert.deepEqual(
        iced(code, 64).map(({ offset, bytes, text }) => `${offset} ${hexOf(bytes)} ${text}`),
        listing.map(({ offset, bytes, text }) => `${offset} ${hexOf(bytes)} ${asIced(text)}`),
      );
    }),
    { numRuns: 1000 },
  );
});
