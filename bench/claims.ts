/**
 * What a script claims, and what it measured. Each claim is a line for people, and where `npm run bench` asks for it (RESULTS names a file), a line
 * of JSON for its table. A claim that is missed sets the exit code to 1. One that this machine, as busy as it is, cannot decide is unknown, which is neither.
 *
 * A script that cannot run at all, because the machine lacks a judge, a kernel or a tool, ends with exit code 3 and one line that says what
 * to do; every other error is a bug, with its stack and exit code 70.
 */
import { appendFileSync } from 'node:fs';
import { EnvironmentError, missingProgram } from '../src/node/errors.ts';

export const NOT_RUN = 3;
export const RESULTS = 'KSLIDE_BENCH_RESULTS';

export interface Claim {
  /** `convert of vmlinuz-6.12 (zstd), of extract-vmlinux's time`. */
  readonly what: string;
  readonly measured: number;
  /** What it has to be at most, or at least. */
  readonly atMost?: number;
  readonly atLeast?: number;
  /** Behind the numbers; none for a ratio. */
  readonly unit?: string;
  /** Why what was measured says nothing: the claim is then unknown, whether it looks kept or missed. */
  readonly unknown?: string | undefined;
}

export interface Result extends Claim {
  readonly ok: boolean;
}

export function report(claim: Claim): void {
  const { measured, atMost = Infinity, atLeast = -Infinity, unknown } = claim;
  const result: Result = { ...claim, ok: unknown === undefined && measured <= atMost && measured >= atLeast };
  const verdict = verdictOf(result);
  if (verdict === 'MISSED') process.exitCode = 1;
  const why = unknown === undefined ? '' : `: ${unknown}`;
  process.stdout.write(`  ${result.what}: ${measuredOf(result)}, target ${targetOf(result)}: ${verdict}${why}\n`);
  const file = process.env[RESULTS];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(result)}\n`);
}

export function verdictOf({ ok, unknown }: Result): 'ok' | 'MISSED' | 'UNKNOWN' {
  if (unknown !== undefined) return 'UNKNOWN';
  return ok ? 'ok' : 'MISSED';
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

process.on('uncaughtException', (error: Error) => {
  const missing = whatIsMissing(error);
  process.stderr.write(missing === undefined ? `${error.stack}\n` : `not run: ${missing}\n`);
  process.exit(missing === undefined ? 70 : NOT_RUN);
});

/** Undefined when it is a bug. */
function whatIsMissing(error: Error): string | undefined {
  if (error instanceof EnvironmentError) return error.message;
  const { code, path, status } = error as { code?: unknown; path?: unknown; status?: unknown };
  if (code === 'ENOENT' && error.message.startsWith('spawn')) return missingProgram(String(path)).message;
  // Our own scripts end so when they can install nothing, and have said what is to be run; apt says it in its own words.
  const [first = ''] = error.message.split('\n');
  if (status === NOT_RUN || /^Command failed: (apt-get|apt-cache|dpkg-deb)\b/.test(first)) return first;
  return undefined;
}
