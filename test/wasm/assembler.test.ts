/** The assembler: numbers at the edges of their encodings, each instruction by what it computes, and misuse. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  assemble,
  block,
  BranchTarget,
  fillMemory,
  FunctionBuilder,
  i32,
  i64,
  load16,
  load32,
  load64,
  load8,
  loop,
  repeatWhile,
  returns,
  select,
  store16,
  store32,
  store64,
  store8,
  when,
  type I32,
  type I64,
} from '../../src/wasm/assembler.ts';

type Run = (...parameters: number[]) => number;

/** Neither Node's types nor the language's have it. */
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: {
    Memory: new (limits: { initial: number }) => { buffer: ArrayBuffer };
    Module: new (bytes: Uint8Array) => object;
    Instance: new (module: object, imports: object) => { exports: Record<string, Run> };
  };
};

function compile(...functions: FunctionBuilder[]): { call: Record<string, Run>; bytes: Uint8Array } {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const module = new WebAssembly.Module(assemble(functions));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return { call: exports, bytes: new Uint8Array(memory.buffer) };
}

/** A function of two numbers; i64 results are split into two calls. */
function evaluate(build: (a: I32, b: I32) => I32): Run {
  const f = new FunctionBuilder('f');
  const { a, b } = f.parameters('a', 'b');
  return compile(f.body([], build(a, b))).call['f']!;
}

const INT = fc.oneof(fc.integer(), fc.constantFrom(0, 1, -1, 31, 32, 33, 0x7fffffff, -0x80000000));

describe('arithmetic', () => {
  const cases: Record<string, [(a: I32, b: I32) => I32, (a: number, b: number) => number]> = {
    add: [(a, b) => a.add(b), (a, b) => a + b],
    sub: [(a, b) => a.sub(b), (a, b) => a - b],
    mul: [(a, b) => a.mul(b), Math.imul],
    remainder: [(a, b) => a.remainder(b.or(1)), (a, b) => (a >>> 0) % ((b | 1) >>> 0)],
    and: [(a, b) => a.and(b), (a, b) => a & b],
    or: [(a, b) => a.or(b), (a, b) => a | b],
    xor: [(a, b) => a.xor(b), (a, b) => a ^ b],
    shl: [(a, b) => a.shl(b), (a, b) => a << b],
    shr: [(a, b) => a.shr(b), (a, b) => a >>> b],
    sar: [(a, b) => a.sar(b), (a, b) => a >> b],
    rotl: [(a, b) => a.rotl(b), (a, b) => (a << b) | (b & 31 ? a >>> (32 - (b & 31)) : 0)],
    equals: [(a, b) => a.equals(b), (a, b) => Number(a === b)],
    differs: [(a, b) => a.differs(b), (a, b) => Number(a !== b)],
    below: [(a, b) => a.below(b), (a, b) => Number(a >>> 0 < b >>> 0)],
    above: [(a, b) => a.above(b), (a, b) => Number(a >>> 0 > b >>> 0)],
    atMost: [(a, b) => a.atMost(b), (a, b) => Number(a >>> 0 <= b >>> 0)],
    atLeast: [(a, b) => a.atLeast(b), (a, b) => Number(a >>> 0 >= b >>> 0)],
    isZero: [(a) => a.isZero(), (a) => Number(a === 0)],
    leadingZeros: [(a) => a.leadingZeros(), Math.clz32],
    select: [(a, b) => select(a.below(b), a, b), (a, b) => Math.min(a >>> 0, b >>> 0)],
  };
  for (const [name, [build, expected]] of Object.entries(cases)) {
    it(`i32 ${name}`, () => {
      const run = evaluate(build);
      fc.assert(fc.property(INT, INT, (a, b) => assert.equal(run(a, b), expected(a, b) | 0)));
    });
  }

  const wide: Record<string, [(a: I64, b: I64) => I64, (a: bigint, b: bigint) => bigint]> = {
    add: [(a, b) => a.add(b), (a, b) => a + b],
    sub: [(a, b) => a.sub(b), (a, b) => a - b],
    mul: [(a, b) => a.mul(b), (a, b) => a * b],
    and: [(a, b) => a.and(b), (a, b) => a & b],
    xor: [(a, b) => a.xor(b), (a, b) => a ^ b],
    or: [(a, b) => a.or(b), (a, b) => a | b],
    shl: [(a, b) => a.shl(b), (a, b) => a << (b & 63n)],
    shr: [(a, b) => a.shr(b), (a, b) => a >> (b & 63n)],
    rotl: [(a, b) => a.rotl(b), (a, b) => (a << (b & 63n)) | (a >> (64n - (b & 63n)))],
    isZero: [(a) => a.isZero().wide(), (a) => BigInt(a === 0n)],
    low32: [(a) => a.low32().wide(), (a) => a & 0xffff_ffffn],
    trailingZeros: [
      (a) => a.or(1n << 40n).trailingZeros(),
      (a) => BigInt([...(a | (1n << 40n)).toString(2)].toReversed().indexOf('1')),
    ],
  };
  for (const [name, [build, expected]] of Object.entries(wide)) {
    it(`i64 ${name}`, () => {
      const f = new FunctionBuilder('f');
      const { call, bytes } = compile(f.body([store64(i32(0), build(load64(i32(8)), load64(i32(16))))]));
      const words = new BigUint64Array(bytes.buffer, 0, 3);
      fc.assert(
        fc.property(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 64n - 1n), (a, b) => {
          words.set([0n, a, b]);
          call['f']!();
          assert.equal(words[0], BigInt.asUintN(64, expected(a, b)));
        }),
      );
    });
  }
});

describe('constants', () => {
  it('i32 at the edges of LEB128', () => {
    for (const value of [0, 63, 64, -64, -65, 8191, 8192, -8192, -8193, 2 ** 31 - 1, -(2 ** 31), 0xffff_ffff]) {
      assert.equal(evaluate(() => i32(value))(0, 0), value | 0);
    }
  });

  it('i64 at the edges of LEB128', () => {
    for (const value of [0n, 63n, 64n, -64n, -65n, 2n ** 62n, -(2n ** 62n), 2n ** 63n, 2n ** 64n - 1n]) {
      const f = new FunctionBuilder('f');
      const { call, bytes } = compile(f.body([store64(i32(0), i64(value))]));
      call['f']!();
      assert.equal(new BigUint64Array(bytes.buffer)[0], BigInt.asUintN(64, value));
    }
  });
});

describe('memory', () => {
  it('loads and stores each width, without sign, at any address and offset', () => {
    const f = new FunctionBuilder('f');
    const { at } = f.parameters('at');
    const { call, bytes } = compile(
      f.body([
        store8(at, load8(at, 100), 200),
        store16(at, load16(at, 101), 201),
        store32(at, load32(at, 103), 203),
        store64(at, load64(at, 107), 207),
        fillMemory(at.add(300), i32(7), i32(5)),
      ]),
    );
    for (let i = 0; i < 15; i++) bytes[103 + i] = 0xf0 + i;
    call['f']!(3);
    assert.deepEqual(bytes.slice(203, 218), bytes.slice(103, 118));
    assert.deepEqual(bytes.slice(302, 310), Uint8Array.of(0, 7, 7, 7, 7, 7, 0, 0));
  });
});

describe('control', () => {
  it('blocks, loops, conditions and early returns', () => {
    const f = new FunctionBuilder('f');
    const { n } = f.parameters('n');
    const { sum, i, extra } = f.locals('i32', 'sum', 'i', 'extra');
    const { call } = compile(
      f.body(
        [
          when(n.equals(99), [returns(i32(-99))]),
          repeatWhile(i.below(n), [i.increase(1), when(i.and(1), [sum.increase(i)], [sum.increase(100)])]),
          block((outer) => [
            loop((again) => [
              block((inner) => [inner.goIf(extra.isZero()), outer.goIf(extra.above(2))]),
              extra.increase(1),
              again.go(),
            ]),
          ]),
        ],
        sum.add(extra.mul(10_000)),
      ),
    );
    assert.equal(call['f']!(5), 30_000 + 1 + 3 + 5 + 200);
    assert.equal(call['f']!(99), -99);
  });

  it('numbers what failIf says', () => {
    const f = new FunctionBuilder('f');
    const { n } = f.parameters('n');
    f.body([f.failIf(n.equals(1), 'one'), f.failIf(n.equals(2), 'two')], n);
    const { call } = compile(f);
    assert.deepEqual(f.failures, ['one', 'two']);
    assert.deepEqual(
      [0, 1, 2, 3].map((number) => call['f']!(number)),
      [0, -1, -2, 3],
    );
  });
});

function assembling(build: (f: FunctionBuilder) => void): () => void {
  return () => {
    const f = new FunctionBuilder('f');
    build(f);
    assemble([f]);
  };
}

describe('misuse', () => {
  it('is a RangeError', () => {
    assert.throws(
      assembling((f) => f.body([new BranchTarget().go()])),
      RangeError,
    );
    assert.throws(
      assembling((f) => f.body([], load8(i32(0), -1))),
      RangeError,
    );
  });
});
