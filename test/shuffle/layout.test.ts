/** Layouts of made-up runs: every unit inside its kind of run, none on another, and all decided by the seed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { layOut, sizeClasses } from '../../src/shuffle/layout/layout.ts';
import type { Movable } from '../../src/shuffle/layout/layout.ts';
import { FUNCTION_ALIGN, roomOf } from '../../src/shuffle/analyse/units.ts';
import type { Run } from '../../src/shuffle/analyse/units.ts';

const TEXT = 0x100_0000;

/** Runs of the given sizes of units, with gaps between them; the dense ones without alignment. */
function makeRuns(shapes: readonly { readonly dense: boolean; readonly sizes: readonly number[] }[]): Movable {
  const starts: number[] = [];
  const ends: number[] = [];
  const runs: Run[] = [];
  let at = TEXT;
  for (const { dense, sizes } of shapes) {
    const align = dense ? 1 : FUNCTION_ALIGN;
    at = Math.ceil(at / 64) * 64 + 0x40;
    const start = at;
    const first = starts.length;
    for (const size of sizes) {
      starts.push(at);
      ends.push(at + size);
      at += roomOf(at, at + size, align);
    }
    runs.push({ start, end: at, align, first, count: sizes.length });
  }
  return { starts: new Uint32Array(starts), ends: new Uint32Array(ends), runs };
}

const movable = fc
  .array(
    fc.record({
      dense: fc.boolean(),
      sizes: fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 30 }),
    }),
    { minLength: 1, maxLength: 6 },
  )
  .map(makeRuns);

test('units lie inside runs of their alignment, and none overlaps another', () => {
  fc.assert(
    fc.property(movable, fc.uint8Array({ minLength: 1, maxLength: 32 }), (kernel, seed) => {
      const placed = layOut(kernel, seed);
      assert.deepEqual(layOut(kernel, seed), placed);
      const order = [...placed.keys()].toSorted((a, b) => placed[a]! - placed[b]!);
      let end = 0;
      for (const unit of order) {
        const start = placed[unit]!;
        const size = kernel.ends[unit]! - kernel.starts[unit]!;
        assert.ok(start >= end);
        end = start + size;
        const home = kernel.runs.find(({ first, count }) => unit >= first && unit < first + count)!;
        const run = kernel.runs.find((other) => start >= other.start && end <= other.end);
        assert.ok(run, 'outside of all runs');
        assert.equal(run.align, home.align);
        assert.equal(start % run.align, 0);
      }
    }),
  );
});

test('two orders of two units come up equally often; units of one size also cross to other runs', () => {
  const kernel = makeRuns([
    { dense: false, sizes: [16, 40] },
    { dense: false, sizes: [30, 9] },
  ]);
  const seen = new Map<number, number>();
  for (let seed = 0; seed < 4000; seed++) {
    const [place = 0] = layOut(kernel, Uint8Array.of(seed & 255, seed >> 8, 1));
    seen.set(place, (seen.get(place) ?? 0) + 1);
  }
  // Unit 0 takes 16 bytes, as unit 3 does: four places, first or last in either run.
  const [{ start: a }, { start: b }] = kernel.runs as [Run, Run];
  assert.deepEqual(
    [...seen.keys()].toSorted((x, y) => x - y),
    [a, a + 48, b, b + 32],
  );
  for (const count of seen.values()) assert.ok(Math.abs(count - 1000) < 170, `${[...seen.values()]}`);
});

test('classes are by alignment and room', () => {
  const kernel = makeRuns([
    { dense: false, sizes: [1, 16, 17] },
    { dense: true, sizes: [16, 16, 1] },
  ]);
  assert.deepEqual(
    sizeClasses(kernel).map((units) => Array.from(units)),
    [[5], [3, 4], [0, 1], [2]],
  );
});
