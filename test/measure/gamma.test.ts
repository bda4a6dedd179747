/** Against mpmath (40 digits), the closed form for whole a, and the chi-square table that every textbook has. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chiSquareTails, logGamma, regularizedGamma } from '../../src/measure/statistics/gamma.ts';

function close(found: number, expected: number, relative: number, what: string): void {
  assert.ok(Math.abs(found - expected) <= relative * Math.abs(expected), `${what}: ${found}, expected ${expected}`);
}

test('ln Γ', () => {
  // mpmath.loggamma.
  const known = [
    [0.1, 2.25271265173421],
    [0.5, 0.5723649429247],
    [3.7, 1.42807232666539],
    [14.99, 25.1644811638255],
    [15, 25.1912211827387],
    [100.5, 361.435540467778],
    [2500, 17057.12197600184],
  ] as const;
  for (const [x, expected] of known) close(logGamma(x), expected, 5e-15, `x = ${x}`);
  assert.ok(Math.abs(logGamma(1)) < 1e-14 && Math.abs(logGamma(2)) < 1e-14);
});

test('P and Q', () => {
  // mpmath.gammainc(…, regularized=True): a, x, P, Q.
  const known = [
    [0.5, 0.001, 0.0356705917296799, 0.96432940827032],
    [0.5, 2, 0.954499736103642, 0.0455002638963584],
    [1, 1, 0.632120558828558, 0.367879441171442],
    [2.5, 10, 0.998750269436969, 0.00124973056303138],
    [10, 3, 0.00110248813011548, 0.998897511869885],
    [79.5, 74.1, 0.280180697429992, 0.719819302570008],
    [79.5, 200, 1, 9.63897732616943e-23],
    [239.5, 239.5, 0.508593024148344, 0.491406975851656],
    [239.5, 500, 1, 6.27164415578763e-39],
    [251.5, 100, 4.77608628362818e-37, 1],
    [5000, 5100, 0.920671118922381, 0.079328881077619],
    [0.5, 200, 1, 5.50724823721247e-89],
  ] as const;
  for (const [a, x, lower, upper] of known) {
    const found = regularizedGamma(a, x);
    close(found.lower, lower, 1e-11, `P(${a}, ${x})`);
    close(found.upper, upper, 1e-11, `Q(${a}, ${x})`);
  }
});

test('for whole a, Q is a Poisson distribution', () => {
  const whole = fc.integer({ min: 1, max: 300 });
  const anywhere = fc.double({ min: 0.01, max: 600, noNaN: true });
  fc.assert(
    fc.property(whole, anywhere, (a, x) => {
      let sum = 0;
      for (let k = 0, term = Math.exp(-x); k < a; k++, term *= x / k) sum += term;
      assert.ok(Math.abs(regularizedGamma(a, x).upper - sum) < 1e-11);
    }),
  );
});

test('the ends, and what is outside', () => {
  assert.deepEqual(regularizedGamma(3, 0), { lower: 0, upper: 1 });
  assert.deepEqual(regularizedGamma(3, Infinity), { lower: 1, upper: 0 });
  for (const [a, x] of [
    [0, 1],
    [-1, 1],
    [1, -1],
    [Number.NaN, 1],
    [1, Number.NaN],
  ] as const)
    assert.throws(() => regularizedGamma(a, x), RangeError);
});

test('the chi-square table', () => {
  // NIST/SEMATECH e-Handbook 1.3.6.7.4, upper critical values: degrees of freedom, then for 0.10, 0.05, 0.025, 0.01, 0.001.
  const levels = [0.1, 0.05, 0.025, 0.01, 0.001];
  const table: Record<number, readonly number[]> = {
    1: [2.706, 3.841, 5.024, 6.635, 10.828],
    2: [4.605, 5.991, 7.378, 9.21, 13.816],
    5: [9.236, 11.07, 12.833, 15.086, 20.515],
    10: [15.987, 18.307, 20.483, 23.209, 29.588],
    30: [40.256, 43.773, 46.979, 50.892, 59.703],
    100: [118.498, 124.342, 129.561, 135.807, 149.449],
  };
  for (const [degrees, values] of Object.entries(table)) {
    values.forEach((value, i) => {
      // The table rounds to three digits: the level lies between the p of the value's neighbours.
      const p = (x: number): number => chiSquareTails(x, Number(degrees)).atLeast;
      assert.ok(p(value + 0.0005) <= levels[i]! && levels[i]! <= p(value - 0.0005), `${degrees}: ${value}`);
    });
  }
});
