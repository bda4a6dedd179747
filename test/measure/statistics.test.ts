import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  bootsNeeded,
  commonDivisor,
  estimateEntropy,
  occupancy,
  testCollisions,
  testUniformity,
} from '../../src/measure/statistics/statistics.ts';

/** xorshift32: the same "random" counts each time. */
function counts(slots: number, boots: number, choose: (random: number) => number): Uint32Array {
  const list = new Uint32Array(slots);
  let state = 0x9e37_79b9;
  for (let boot = 0; boot < boots; boot++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    list[choose((state >>> 0) / 2 ** 32)]!++;
  }
  return list;
}
const uniform = (slots: number, boots: number): Uint32Array =>
  counts(slots, boots, (random) => Math.floor(random * slots));

test('chi-square by hand', () => {
  // 60 throws of a die: Σ (seen − 10)² / 10.
  const result = testUniformity([5, 8, 9, 8, 10, 20]);
  assert.deepEqual(
    { ...result, pUneven: 0, pEven: 0 },
    { bins: 6, slotsPerBin: 1, chiSquare: 13.4, degrees: 5, pUneven: 0, pEven: 0 },
  );
  // scipy.stats.chi2.sf(13.4, 5)
  assert.ok(Math.abs(result!.pUneven - 0.0199052203347744) < 1e-12);
  assert.ok(Math.abs(result!.pUneven + result!.pEven - 1) < 1e-12);
});

test('slots are grouped until five boots are expected in each bin; the last bin has the rest', () => {
  assert.deepEqual(
    [1000, 480, 100, 10, 9].map((boots) => {
      const result = testUniformity(uniform(480, boots));
      return result && [result.slotsPerBin, result.bins];
    }),
    [[3, 160], [5, 96], [24, 20], [240, 2], undefined],
  );
  // 7 slots, two a bin: bins of 2, 2 and 3. Exactly as expected: chi-square 0.
  const even = testUniformity(new Uint32Array(7).fill(3))!;
  assert.deepEqual([even.bins, even.slotsPerBin, even.chiSquare, even.pEven], [3, 2, 0, 0]);
});

test('the occupancy distribution, against counting all outcomes', () => {
  for (const [slots, boots] of [
    [2, 3],
    [3, 4],
    [4, 4],
    [5, 6],
  ] as const) {
    const expected = Array.from({ length: slots + 1 }, () => 0);
    for (let outcome = 0; outcome < slots ** boots; outcome++) {
      const seen = new Set<number>();
      for (let boot = 0, rest = outcome; boot < boots; boot++, rest = Math.floor(rest / slots)) seen.add(rest % slots);
      expected[seen.size]! += slots ** -boots;
    }
    occupancy(slots, boots).forEach((p, j) => assert.ok(Math.abs(p - expected[j]!) < 1e-12, `${slots} ${boots} ${j}`));
  }
});

test('the collision test: a birthday table, and its mean in closed form', () => {
  // 23 people, 365 days: P(all different) = 0.492702765676…
  const people = new Uint32Array(365).fill(1, 0, 23);
  const { seen, pFewer, pMore } = testCollisions(people);
  assert.equal(seen, 0);
  assert.ok(Math.abs(pFewer - 0.492702765676) < 1e-11);
  assert.ok(Math.abs(pMore - 1) < 1e-12);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 512 }), fc.integer({ min: 1, max: 3000 }), (slots, boots) => {
      const result = testCollisions(uniform(slots, boots));
      assert.ok(Math.abs(result.expected - (boots - slots * (1 - (1 - 1 / slots) ** boots))) < 1e-7);
    }),
    { numRuns: 50 },
  );
});

test('what is uniform passes both tests; a bit of entropy lost fails the collision test with 250 boots, and chi-square with 1,000', () => {
  const good = uniform(480, 1000);
  const { pUneven, pEven } = testUniformity(good)!;
  const { pMore, pFewer } = testCollisions(good);
  for (const p of [pUneven, pEven, pMore, pFewer]) assert.ok(p > 0.001, `${p}`);
  const everyOther = (boots: number): Uint32Array => counts(480, boots, (random) => 2 * Math.floor(random * 240));
  assert.ok(testCollisions(everyOther(250)).pMore < 1e-6);
  const lowerHalf = counts(480, 1000, (random) => Math.floor(random * 240));
  assert.ok(testUniformity(lowerHalf)!.pUneven < 1e-100);
});

test('a counter is too even for both', () => {
  const counter = new Uint32Array(480).fill(2);
  assert.ok(testUniformity(counter)!.pEven < 1e-6);
  assert.ok(testCollisions(counter).pFewer < 1e-6);
});

test('entropy: of what is known exactly', () => {
  const sure = estimateEntropy([100, 0, 0]);
  assert.deepEqual(sure, { ideal: undefined, shannon: 0, collision: 0, minimumAtLeast: 0 });
  const none = estimateEntropy([1, 1, 1, 1]);
  assert.equal(none.collision, undefined);
  // Many boots: everything comes to log2 of the slots, min-entropy from below.
  const { ideal, shannon, collision, minimumAtLeast } = estimateEntropy(uniform(256, 1_000_000), 256);
  assert.equal(ideal, 8);
  assert.ok(Math.abs(shannon - 8) < 0.001 && Math.abs(collision! - 8) < 0.001);
  assert.ok(minimumAtLeast > 7.8 && minimumAtLeast < 8);
});

test('entropy: the likeliest slide of SP 800-90B, 6.3.1', () => {
  // The example there: 20 samples, the likeliest 8 times: p̂ = 0.4, bound 0.6895, min-entropy 0.5363.
  const { minimumAtLeast } = estimateEntropy([8, 6, 6]);
  assert.ok(Math.abs(minimumAtLeast - 0.5363) < 0.0005, `${minimumAtLeast}`);
});

test('the common divisor', () => {
  assert.equal(commonDivisor([0x60_0000, 0, 0x40_0000]), 0x20_0000);
  assert.equal(commonDivisor([0, 0]), 0);
  assert.equal(commonDivisor([]), 0);
});

test('the boots that an audit needs: a lost bit of entropy is found with them, and not with half of them', () => {
  assert.deepEqual(
    [2, 248, 480, 512].map((slots) => bootsNeeded(slots, 1e-6)),
    [21, 147, 206, 212],
  );
  // The definition, from the distributions: as many distinct slides as the faulty kernel has in nine of ten audits are a finding.
  const p = (slots: number, boots: number, most: number): number =>
    occupancy(slots, boots)
      .subarray(0, most + 1)
      .reduce((a, b) => a + b, 0);
  const power = (boots: number): number => {
    let most = 0;
    while (p(480, boots, most + 1) < 1e-6) most++;
    return p(240, boots, most);
  };
  assert.ok(power(206) >= 0.9);
  assert.ok(power(103) < 0.5);
});
