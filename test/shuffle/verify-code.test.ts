/** Code that does not decode, next to code that moves: what its bytes could refer to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadDisassembler } from '../../src/shuffle/disassembler.ts';
import { checkText } from '../../src/shuffle/verify/text.ts';
import { ClaimedLayout } from '../../src/shuffle/verify/claimed-layout.ts';
import { PremiseRecord } from '../../src/shuffle/verify/premises.ts';

const ORIGIN = 0x100_0000;
const SIZE = 0x120;
const disassemble = await loadDisassembler();

/**
 * A far jump of 32-bit code at 0, whose bytes are a displacement to 0xee, 0xef, 0xf0 and 0xf2; then no-operations; a function of `size` bytes at 0xe0,
 * padding, and one of 0x20 bytes at 0x100. The two functions change places. The section begins at `from`; `change` is made to the result.
 */
function check(
  size: number,
  from = 0,
  change?: (after: Uint8Array) => void,
): { readonly opaque: number; readonly fields: number } {
  const before = new Uint8Array(SIZE).fill(0xcc);
  before.set([0xea, 0, 0, 0, 0, 0]);
  before.fill(0x90, 0x10, 0xe0);
  before.fill(0x50, 0xe0, 0xe0 + size).fill(0x58, 0x100);
  const after = before.slice();
  after
    .fill(0xcc, 0xe0)
    .fill(0x58, 0xe0, 0x100)
    .fill(0x50, 0x100, 0x100 + size);
  change?.(after);
  const taken = new Uint8Array(SIZE).fill(1, 0xe0, 0x100 + size);
  const at = (...places: number[]): Uint32Array => Uint32Array.from(places, (place) => ORIGIN + place);
  const layout = new ClaimedLayout(
    { starts: at(0xe0, 0x100), ends: at(0xe0 + size, 0x120), newStarts: at(0x100, 0xe0) },
    { start: ORIGIN, end: ORIGIN + SIZE },
    taken,
  );
  const extents = [{ start: ORIGIN + from, end: ORIGIN + SIZE }];
  const pair = {
    before,
    after,
    origin: ORIGIN,
    offset: 0,
    sites: new Uint8Array(SIZE),
    targetShifts: new Map(),
    premises: new PremiseRecord(),
    extents,
  };
  const symbols = [ORIGIN, ORIGIN + 0x10];
  return checkText(pair, layout, symbols, at(0, 0x100, 0x120), {
    before: disassemble(before),
    after: disassemble(after),
  });
}

test('a byte that may refer to moved code is refuted, and so is one that may refer to overwritten padding', () => {
  for (const size of [0x10, 8])
    assert.throws(() => check(size), { name: 'Refutation', message: 'fixed code that does not decode' });
});

test('what is in no section refers to nothing, and must be the same', () => {
  assert.deepEqual(check(0x10, 0x10), { instructions: 0xe0 - 0x10 + 0x10 + 0x20, fields: 0, opaque: 0x10 });
  const change = (after: Uint8Array): void => void (after[3] = 1);
  assert.throws(() => check(0x10, 0x10, change), { name: 'Refutation', message: 'byte of fixed code' });
});
