/**
 * The regularized incomplete gamma functions, from which the chi-square distribution comes.
 *
 *     P(a, x) = γ(a, x) / Γ(a)        Q(a, x) = Γ(a, x) / Γ(a) = 1 − P(a, x)
 *
 * The series for P converges fast below a + 1, the continued fraction for Q above (NIST DLMF 8.11.4 and 8.9.2, the latter by Lentz's method).
 * The smaller of the two is computed, so that a p value of 1e-40 has all its digits; the other is one minus it.
 */

const EPSILON = 2 ** -53;
/** Replaces a zero divisor in Lentz's method. */
const TINY = 1e-300;
/** Near x = a both need a multiple of √a steps; a is half the number of slots, so in the hundreds. */
const STEPS = 100_000;
/** From this value on, six terms of Stirling's series give all digits of a double. */
const STIRLING_FROM = 15;
/** B(2k) / (2k (2k − 1)), DLMF 5.11.1. */
const STIRLING = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360_360] as const;

/** ln Γ(x), x > 0. */
export function logGamma(x: number): number {
  // Γ(x) = Γ(x + n) / (x (x + 1) … (x + n − 1)); the product of fifteen factors below 30 is far from overflow.
  let product = 1;
  let at = x;
  for (; at < STIRLING_FROM; at++) product *= at;
  let power = 1 / at;
  let correction = 0;
  for (const coefficient of STIRLING) {
    correction += coefficient * power;
    power /= at * at;
  }
  return (at - 0.5) * Math.log(at) - at + 0.5 * Math.log(2 * Math.PI) + correction - Math.log(product);
}

/** P and Q for a > 0 and x ≥ 0. Throws RangeError for other values. */
export function regularizedGamma(a: number, x: number): { readonly lower: number; readonly upper: number } {
  if (!(a > 0) || !(x >= 0)) throw new RangeError(`regularized gamma of a = ${a}, x = ${x}`);
  if (x === 0) return { lower: 0, upper: 1 };
  if (x === Infinity) return { lower: 1, upper: 0 };
  const factor = Math.exp(a * Math.log(x) - x - logGamma(a));
  if (x < a + 1) {
    const lower = factor * series(a, x);
    return { lower, upper: 1 - lower };
  }
  const upper = factor * continuedFraction(a, x);
  return { lower: 1 - upper, upper };
}

function series(a: number, x: number): number {
  let term = 1 / a;
  let sum = term;
  for (let n = 1; n < STEPS; n++) {
    term *= x / (a + n);
    sum += term;
    if (term < sum * EPSILON) return sum;
  }
  throw new RangeError(`P(${a}, ${x}) does not converge`);
}

function continuedFraction(a: number, x: number): number {
  let b = x + 1 - a;
  let c = 1 / TINY;
  let d = 1 / b;
  let value = d;
  for (let n = 1; n < STEPS; n++) {
    const numerator = n * (a - n);
    b += 2;
    d = 1 / nonZero(numerator * d + b);
    c = nonZero(b + numerator / c);
    const change = c * d;
    value *= change;
    if (Math.abs(change - 1) <= 2 * EPSILON) return value;
  }
  throw new RangeError(`Q(${a}, ${x}) does not converge`);
}

function nonZero(value: number): number {
  return Math.abs(value) < TINY ? TINY : value;
}

/** Probabilities that a chi-square variable is at least, and at most, `value`. */
export function chiSquareTails(value: number, degrees: number): { readonly atLeast: number; readonly atMost: number } {
  const { lower, upper } = regularizedGamma(degrees / 2, value / 2);
  return { atLeast: upper, atMost: lower };
}
