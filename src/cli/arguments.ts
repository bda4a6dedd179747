/** Values of options: checked, and refused in the words of the command line. */
import { UsageError } from './failure.ts';

export function oneOf<T extends string>(option: string, allowed: readonly T[], value: string): T {
  const found = allowed.find((name) => name === value);
  if (found === undefined)
    throw new UsageError(`${option} is ${JSON.stringify(value)}, expected ${allowed.join(' or ')}`);
  return found;
}

/** Decimal or 0x hex, at least `least`. */
export function integer(option: string, value: string, least = 0): number {
  const number = /^(0x[0-9a-f]+|\d+)$/i.test(value) ? Number(value) : Number.NaN;
  if (Number.isSafeInteger(number) && number >= least) return number;
  throw new UsageError(`${option} is ${JSON.stringify(value)}, expected a whole number from ${least}`);
}
