/**
 * The stub's own instructions, choosing in a loop, by one source of entropy each time: bench/stub-distribution.ts with fewer choices. On this machine's
 * CPU where all have the source, and in a guest. The bound on p makes a failure by chance one in a million runs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawInGuest, drawInProcess } from '../../scripts/draws/distribution.ts';
import type { Draws } from '../../scripts/draws/distribution.ts';
import { testCollisions, testUniformity } from '../../src/measure/statistics/statistics.ts';
import { inTurn } from './lane.ts';

const SLOTS = { align: 0x20_0000, count: 480 };
const DRAWS = 50_000;
const P_AT_LEAST = 1e-7;

function checkEven({ counts, outside, dry }: Draws): void {
  assert.deepEqual({ outside, dry }, { outside: 0, dry: 0 });
  assert.equal(
    counts.reduce((sum, count) => sum + count, 0),
    DRAWS,
  );
  const { pUneven } = testUniformity(counts)!;
  const { pMore } = testCollisions(counts);
  for (const [name, p] of Object.entries({ pUneven, pMore })) assert.ok(p > P_AT_LEAST, `${name} ${p}`);
}

for (const source of ['tsc', 'all'] as const) {
  test(`${source}, by this CPU: no slot is more likely than another`, async () =>
    checkEven(await drawInProcess(source, { slots: SLOTS, draws: DRAWS, timeoutMs: 120_000 })));
}

for (const source of ['tsc', 'rdrand'] as const) {
  test(`${source} alone, in a guest: no slot is more likely than another`, async () =>
    checkEven(await inTurn(() => drawInGuest(source, { slots: SLOTS, draws: DRAWS, timeoutMs: 240_000 }))));
}
