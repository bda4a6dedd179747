/** Values of options: checked, and refused in the words of the command line. */
import { UsageError } from './failure.ts';

export function oneOf<T extends string>(option: string, allowed: readonly T[], value: string): T {
  const found = allowed.find((name) => name === value);
  if (found === undefined)
    throw new UsageError(`${option} is ${JSON.stringify(value)}, expected ${allowed.join(' or ')}`);
  return found;
}

/** Timers are int32 in milliseconds: one that is set longer ends at once. */
export const LONGEST_SECONDS = 2_000_000;
/** Of boots that are asked for: each is an item of a list before the first one begins. */
export const MOST_BOOTS = 10_000_000;

/** Decimal or 0x hex, from `least` to `most`. */
export function integer(option: string, value: string, least = 0, most = Number.MAX_SAFE_INTEGER): number {
  const number = /^(0x[0-9a-f]+|\d+)$/i.test(value) ? Number(value) : Number.NaN;
  if (number >= least && number <= most) return number;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`;
  throw new UsageError(`${option} is ${JSON.stringify(value)}, expected a whole number ${range}`);
}
