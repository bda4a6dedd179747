/**
 * What a script claims, and what it measured. Each claim is a line for people, and where `npm run bench` asks for it (RESULTS names a file), a line
 * of JSON for its table. A claim that is missed sets the exit code to 1. One that this machine, as busy as it is, cannot decide is unknown, which is neither.
 *
 * A script that cannot run at all, because the machine lacks a judge, a kernel or a tool, ends with exit code 3 and one line that says what
 * to do; every other error is a bug, with its stack and exit code 70.
 */
import { appendFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { measuredOf, targetOf, verdictOf } from '../scripts/docs/claim.ts';
import type { Claim, Verdict } from '../scripts/docs/claim.ts';
import { EnvironmentError, missingProgram } from '../src/node/errors.ts';

export const NOT_RUN = 3;
export const RESULTS = 'KSLIDE_BENCH_RESULTS';

export interface Result extends Claim {
  readonly verdict: Verdict;
}

/** All claims of this process so far, for `record`. */
export const claims: Claim[] = [];

export function report(claim: Claim): void {
  claims.push({ ...claim, measured: Number(claim.measured.toPrecision(6)) });
  const result: Result = { ...claim, verdict: verdictOf(claim) };
  if (result.verdict === 'missed') process.exitCode = 1;
  const verdict = { met: 'ok', missed: 'MISSED', unknown: `unknown: ${claim.unknown}` }[result.verdict];
  process.stdout.write(`  ${claim.what}: ${measuredOf(claim)}, target ${targetOf(claim)}: ${verdict}\n`);
  const file = process.env[RESULTS];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(result)}\n`);
}

/** More of all processors than that, before anything was measured, is other work. */
const BUSY = 0.5;
const load = loadavg()[0]! / cpus().length;

/** For times of whole processes: where other work is going on, a miss may be its doing, and the claim is unknown. */
export function reportTime(claim: Claim): void {
  const isBusy = load > BUSY && verdictOf(claim) === 'missed';
  report(isBusy ? { ...claim, unknown: `other work is going on (load ${loadavg()[0]!.toFixed(1)})` } : claim);
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
