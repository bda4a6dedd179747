/**
 * Whether slides look as if every slot were equally likely, and how much an attacker would have to guess.
 *
 * Two tests of the same counts find different faults. Chi-square finds slots that come too often or too rarely, on as fine a scale as the number of
 * boots allows. The collision test (Knuth, The Art of Computer Programming, vol. 2, 3.3.2 I) counts the boots whose slide an earlier boot had. Its
 * distribution is exact, so it is meaningful from two boots on, and it looks at single slots where chi-square must group them. A generator that
 * avoids repetition (a counter) fails both tests at their other end, so both ends of both distributions are tested.
 */
import { chiSquareTails } from './gamma.ts';

/** The rule of thumb for chi-square (Cochran 1954): every bin has at least this many expected boots. */
const EXPECTED_AT_LEAST = 5;

export interface UniformityTest {
  readonly bins: number;
  /** Consecutive slots in a bin; the last bin also has the slots left over. */
  readonly slotsPerBin: number;
  readonly chiSquare: number;
  readonly degrees: number;
  /** The probability of a chi-square at least (pUneven) or at most (pEven) as large if all slots are equally likely. */
  readonly pUneven: number;
  readonly pEven: number;
}

/** `counts`: how often each slot was seen. Undefined when there are too few boots for two bins. */
export function testUniformity(counts: ArrayLike<number>): UniformityTest | undefined {
  const slots = counts.length;
  const boots = sum(counts);
  const slotsPerBin = Math.max(1, Math.ceil((EXPECTED_AT_LEAST * slots) / boots));
  const bins = Math.floor(slots / slotsPerBin);
  if (bins < 2) return undefined;
  let chiSquare = 0;
  for (const { first, end } of binsOf(slots, slotsPerBin)) {
    let seen = 0;
    for (let slot = first; slot < end; slot++) seen += counts[slot]!;
    const expected = (boots * (end - first)) / slots;
    chiSquare += (seen - expected) ** 2 / expected;
  }
  const degrees = bins - 1;
  const { atLeast, atMost } = chiSquareTails(chiSquare, degrees);
  return { bins, slotsPerBin, chiSquare, degrees, pUneven: atLeast, pEven: atMost };
}

/** Ranges of `perBin` slots each; slots that do not fill a bin go to the last one. */
function binsOf(slots: number, perBin: number): { readonly first: number; readonly end: number }[] {
  const bins = Math.max(1, Math.floor(slots / perBin));
  return Array.from({ length: bins }, (_, i) => ({
    first: i * perBin,
    end: i === bins - 1 ? slots : (i + 1) * perBin,
  }));
}

export interface CollisionTest {
  /** Boots whose slide an earlier boot had: the number of boots minus that of distinct slides. */
  readonly seen: number;
  readonly expected: number;
  readonly deviation: number;
  /** The probability of at least (pMore) or at most (pFewer) as many if all slots are equally likely. */
  readonly pMore: number;
  readonly pFewer: number;
}

/** `counts`: how often each slot was seen. */
export function testCollisions(counts: ArrayLike<number>): CollisionTest {
  const slots = counts.length;
  const boots = sum(counts);
  const distinct = countDistinct(counts);
  const occupied = occupancy(slots, boots);
  let mean = 0;
  let square = 0;
  let pMore = 0;
  let pFewer = 0;
  for (let j = 0; j <= slots; j++) {
    const p = occupied[j]!;
    mean += p * j;
    square += p * j * j;
    if (j <= distinct) pMore += p;
    if (j >= distinct) pFewer += p;
  }
  return {
    seen: boots - distinct,
    expected: boots - mean,
    deviation: Math.sqrt(Math.max(0, square - mean * mean)),
    pMore: Math.min(1, pMore),
    pFewer: Math.min(1, pFewer),
  };
}

/** Smaller probabilities are dropped: this keeps the work at a few hundred steps per boot, and no verdict depends on them. */
const NEGLIGIBLE = 1e-40;

/** The probability that `boots` uniform slides are in exactly j of `slots` slots, for each j: Knuth's algorithm S, without its percentages. */
export function occupancy(slots: number, boots: number): Float64Array {
  const p = new Float64Array(slots + 1);
  p[0] = 1;
  let low = 0;
  let high = 0;
  for (let boot = 0; boot < boots && low < slots; boot++) {
    if (high < slots) high++;
    for (let j = high; j >= low; j--) {
      const other = j === 0 ? 0 : p[j - 1]! * ((slots - j + 1) / slots);
      p[j] = p[j]! * (j / slots) + other;
    }
    while (low < slots && p[low]! < NEGLIGIBLE) p[low++] = 0;
    while (high > low && p[high]! < NEGLIGIBLE) p[high--] = 0;
  }
  return p;
}

/** The part of audits of a faulty kernel in which the fault must be found, for the number of boots to be enough. */
const POWER = 0.9;

/**
 * How many boots the collision test needs before "nothing found" means something: so many that a kernel which takes only every other slot, and so has lost
 * one bit of entropy, is found in 90% of audits. `pAtLeast`: where the test's findings begin. At least two slots.
 */
export function bootsNeeded(slots: number, pAtLeast: number): number {
  const isEnough = (boots: number): boolean => {
    // Few distinct slides are what is suspicious: the most of them that are a finding, then how often the faulty kernel has no more.
    const good = occupancy(slots, boots);
    let most = 0;
    for (let p = good[0]!; p + good[most + 1]! < pAtLeast; p += good[++most]!);
    const faulty = occupancy(Math.ceil(slots / 2), boots);
    return sum(faulty.subarray(0, most + 1)) >= POWER;
  };
  let enough = 2;
  while (!isEnough(enough)) enough *= 2;
  for (let step = enough / 2; step >= 1; step = Math.floor(step / 2)) if (isEnough(enough - step)) enough -= step;
  return enough;
}

export interface EntropyEstimate {
  /** The entropy of a uniform choice: log2 of the number of slots, if that is known. */
  readonly ideal: number | undefined;
  /** Shannon entropy with Miller and Madow's correction. Still biased low when there are fewer boots than about ten times the slots. */
  readonly shannon: number;
  /** Rényi entropy of order 2, from an unbiased estimate of the chance that two boots agree; undefined when no two did. Useful even with few boots. */
  readonly collision: number | undefined;
  /**
   * A lower bound of the min-entropy at 99% confidence, that is, of the work of an attacker who guesses the likeliest slide (NIST SP 800-90B, 6.3.1).
   * With few boots the bound is weak, because a slide that came often by chance cannot be told from one that is likely.
   */
  readonly minimumAtLeast: number;
}

/** The 0.995 quantile of the normal distribution, as SP 800-90B rounds it. */
const Z_99 = 2.576;

/** `counts`: how often each slide was seen; zeros do not matter. At least two boots. */
export function estimateEntropy(counts: ArrayLike<number>, slots?: number): EntropyEstimate {
  const boots = sum(counts);
  let shannon = 0;
  let pairs = 0;
  let most = 0;
  for (let i = 0; i < counts.length; i++) {
    const seen = counts[i]!;
    if (seen === 0) continue;
    shannon -= (seen / boots) * Math.log2(seen / boots);
    pairs += seen * (seen - 1);
    most = Math.max(most, seen);
  }
  shannon += (countDistinct(counts) - 1) / (2 * boots * Math.LN2);
  const likeliest = most / boots;
  const bound = likeliest + Z_99 * Math.sqrt((likeliest * (1 - likeliest)) / (boots - 1));
  return {
    ideal: slots === undefined ? undefined : Math.log2(slots),
    shannon,
    collision: pairs === 0 ? undefined : Math.log2((boots * (boots - 1)) / pairs),
    minimumAtLeast: Math.log2(1 / Math.min(1, bound)),
  };
}

/** The greatest common divisor; 0 for zeros alone. */
export function commonDivisor(values: Iterable<number>): number {
  let divisor = 0;
  for (let value of values) {
    while (value !== 0) [divisor, value] = [value, divisor % value];
  }
  return divisor;
}

function countDistinct(counts: ArrayLike<number>): number {
  let distinct = 0;
  for (let i = 0; i < counts.length; i++) if (counts[i]! > 0) distinct++;
  return distinct;
}

function sum(counts: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < counts.length; i++) total += counts[i]!;
  return total;
}
