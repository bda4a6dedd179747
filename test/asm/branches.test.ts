/**
 * Branches: their lengths and targets. GNU as relaxes whole programs to the same bytes; at the limits of rel8 the bytes are written out.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Assembler } from '../../src/asm/assembler.ts';
import type { Label } from '../../src/asm/assembler.ts';
import { assertDisassembles, gnuAsProgram, hexOf } from './judges.ts';

/** A branch over `gap` bytes, forward; below, backward. */
function forward(gap: number, jump: (a: Assembler, target: Label) => void): string {
  const a = new Assembler();
  const target = a.label('target');
  jump(a, target);
  a.zero(gap);
  a.bind(target);
  const { code, listing } = a.assemble();
  return hexOf(code.subarray(0, listing[0]?.bytes.length));
}

function backward(gap: number, jump: (a: Assembler, target: Label) => void): string {
  const a = new Assembler();
  const target = a.bind(a.label('target'));
  a.zero(gap);
  jump(a, target);
  return hexOf(a.assemble().code.subarray(gap));
}

test('forward: 127 bytes are rel8, 128 are rel32', () => {
  assert.equal(
    forward(0, (a, target) => a.jmp(target)),
    'eb00',
  );
  assert.equal(
    forward(127, (a, target) => a.jmp(target)),
    'eb7f',
  );
  assert.equal(
    forward(128, (a, target) => a.jmp(target)),
    'e980000000',
  );
  assert.equal(
    forward(127, (a, target) => a.jnz(target)),
    '757f',
  );
  assert.equal(
    forward(128, (a, target) => a.jnz(target)),
    '0f8580000000',
  );
});

test('backward: 126 bytes and the jump are rel8, 127 are rel32', () => {
  assert.equal(
    backward(126, (a, target) => a.jmp(target)),
    'eb80',
  );
  assert.equal(
    backward(127, (a, target) => a.jmp(target)),
    'e97cffffff',
  );
  assert.equal(
    backward(126, (a, target) => a.jc(target)),
    '7280',
  );
  assert.equal(
    backward(127, (a, target) => a.jc(target)),
    '0f827bffffff',
  );
});

test('call is rel32 at any distance', () => {
  assert.equal(
    forward(1, (a, target) => a.call(target)),
    'e801000000',
  );
});

test('a branch that grows pushes another over the edge', () => {
  const a = new Assembler();
  const [first, second] = [a.label('first'), a.label('second')];
  a.jmp(first); // reaches over 125 + 2 bytes as long as the next is short
  a.jmp(second);
  a.zero(125);
  a.bind(first);
  a.zero(3); // 128 from the second
  a.bind(second);
  assert.equal(hexOf(a.assemble().code.subarray(0, 10)), 'e982000000e980000000');
});

test('each conditional branch, near and far', () => {
  const a = new Assembler();
  const here = a.bind(a.label('here'));
  const all = (target: Label): void => {
    for (const [name, method] of Object.entries(a)) {
      if (/^j(?!mp)[a-z]{1,2}$/.test(name)) (method as (label: Label) => void)(target);
    }
  };
  all(here);
  a.zero(200);
  all(here);
  const { listing } = a.assemble();
  assert.deepEqual(new Set(listing.map(({ bytes }) => bytes.length)), new Set([2, 200, 6]));
  assert.equal(listing.length, 27);
  assertDisassembles(listing);
});

test('32-bit code branches alike, and ljmp takes the address of a label', () => {
  const a = new Assembler({ bits: 32, origin: 0x10_0000 });
  const long = a.label('long');
  a.jmp(long);
  a.ljmp(0x10, long);
  a.bind(long);
  a.bits(64);
  a.jmp(long);
  const { code, listing } = a.assemble();
  assert.equal(hexOf(code), 'eb07ea090010001000ebfe');
  assert.deepEqual(
    listing.map(({ text }) => text),
    ['jmp    0x9', 'jmp    0x10:0x100009', 'jmp    0x9'],
  );
});

/** Labels L0 to L7 are bound in order; those left over lie at the end. */
const LABELS = 8;

type Part =
  | { readonly kind: 'jmp' | 'jz' | 'ja' | 'call'; readonly label: number }
  | { readonly kind: 'bind' }
  | { readonly kind: 'zero'; readonly length: number }
  | { readonly kind: 'align'; readonly alignment: number };

const branch = fc.record({ kind: fc.constantFrom('jmp', 'jz', 'ja', 'call'), label: fc.nat(LABELS - 1) });
const bind = fc.constant({ kind: 'bind' } as const);
const zero = fc.record({ kind: fc.constant('zero'), length: fc.nat(130) });
const align = fc.record({ kind: fc.constant('align'), alignment: fc.constantFrom(2, 4, 16, 64) });

function programs(...parts: fc.Arbitrary<Part>[]): fc.Arbitrary<Part[]> {
  return fc.array(fc.oneof(...parts), { maxLength: 60, size: 'max' });
}

function assembleParts(parts: readonly Part[]) {
  const a = new Assembler();
  const labels = Array.from({ length: LABELS }, (_, i) => a.label(`L${i}`));
  const unbound = [...labels];
  for (const item of parts) {
    if (item.kind === 'zero') a.zero(item.length);
    else if (item.kind === 'align') a.align(item.alignment, 0);
    else if (item.kind !== 'bind') a[item.kind](labels[item.label] ?? assert.fail());
    else if (unbound.length > 0) a.bind(unbound.shift() ?? assert.fail());
  }
  for (const label of unbound) a.bind(label);
  return a.assemble();
}

function sourceOf(parts: readonly Part[]): string[] {
  const unbound = Array.from({ length: LABELS }, (_, i) => `L${i}:`);
  const lines = parts.map((item) => {
    if (item.kind === 'zero') return `.zero ${item.length}`;
    if (item.kind === 'align') return `.balign ${item.alignment}, 0`;
    if (item.kind === 'bind') return unbound.shift() ?? '';
    return `${item.kind} L${item.label}`;
  });
  return [...lines, ...unbound];
}

test('whole programs are relaxed as GNU as relaxes them', () => {
  fc.assert(
    fc.property(programs(branch, branch, bind, zero), (parts) => {
      assert.equal(hexOf(assembleParts(parts).code), hexOf(gnuAsProgram(sourceOf(parts), 64)));
    }),
    { numRuns: 100 },
  );
});

// Not compared with as: where an align absorbs the growth of a branch, as finds the shorter program and we do not (see layout.ts).
test('with alignment in between, branches still reach their labels', () => {
  fc.assert(
    fc.property(programs(branch, branch, bind, zero, align), (parts) => {
      const { code, listing, labels } = assembleParts(parts);
      assertDisassembles(listing);
      let end = 0;
      for (const { offset, bytes, text, target } of listing) {
        assert.equal(offset, end);
        end += bytes.length;
        if (target !== undefined) assert.equal(Number(text.split(' ').at(-1)), labels.get(target));
      }
      assert.equal(end, code.length);
    }),
    { numRuns: 50 },
  );
});
