/** A claim: a figure and what it has to be. Verdicts are given here, for the bench scripts and for the pages. */

export interface Claim {
  /** `convert of vmlinuz-6.12 (zstd), of extract-vmlinux's time`. */
  readonly what: string;
  readonly measured: number;
  /** What it has to be at most, or at least. */
  readonly atMost?: number;
  readonly atLeast?: number;
  /** Follows the numbers; none for a ratio. */
  readonly unit?: string;
  /** Why the figure decides nothing, as when times vary too much. */
  readonly unknown?: string | undefined;
}

export type Verdict = 'met' | 'missed' | 'unknown';

export function verdictOf({ measured, atMost = Infinity, atLeast = -Infinity, unknown }: Claim): Verdict {
  if (unknown !== undefined || Number.isNaN(measured)) return 'unknown';
  return measured <= atMost && measured >= atLeast ? 'met' : 'missed';
}

export function measuredOf({ measured, unit }: Claim): string {
  return withUnit(measured, unit);
}

export function targetOf({ atMost, atLeast, unit }: Claim): string {
  return atMost === undefined ? `≥ ${withUnit(atLeast!, unit)}` : `≤ ${withUnit(atMost, unit)}`;
}

function withUnit(value: number, unit: string | undefined): string {
  const digits = Number.isInteger(value) ? `${value}` : value < 0.001 ? value.toExponential(1) : value.toPrecision(3);
  return unit === undefined ? digits : `${digits} ${unit}`;
}

export type Aim = Pick<Claim, 'atMost'>;

/** Those that more than a bench script shows: docs/performance.md has them in its first table. */
export const AIMS = {
  stubInstructions: { atMost: 5 },
  tableRatio: { atMost: 0.16 },
  applyCold: { atMost: 0.8 },
  applyWarm: { atMost: 0.9 },
  convert: { atMost: 1 },
  convertNode24: { atMost: 0.9 },
} as const satisfies Readonly<Record<string, Aim>>;
