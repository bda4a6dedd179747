/**
 * Measures again what docs/results does not have of today's program, one script after the other, and records it:
 *
 *     npm run record                    everything that is missing or of an earlier program; on this maker's processors, where they are times
 *     npm run record -- --list          only says what that is
 *     npm run record -- NAME …          these, whatever docs/results has of them (docs/results/NAME.json)
 *     npm run record -- --busy          times as well although other work is going on
 *
 * You can stop at any time and start again: a measurement that has been recorded is not made again, and those that take hours keep their parts (scripts/docs/keep.ts). All of it takes
 * about a day. Times are measured only where the machine is quiet. What needs kernels that nothing here can fetch is listed with the command to run. Afterwards:
 * `npm run docs`, and read the diff.
 *
 * Exit code: 1 if a script failed or missed a target; 3 if something was not measured.
 */
import { spawnSync } from 'node:child_process';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MEASUREMENTS, whyToMeasure } from './docs/measurements.ts';
import type { Measurement } from './docs/measurements.ts';
import { makerHere } from './docs/record.ts';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
/** More than that, of all processors, is other work. */
const QUIET = 0.2;
/** Of a script that cannot run here, and says what it lacks (bench/claims.ts). */
const NOT_RUN = 3;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { list: { type: 'boolean', default: false }, busy: { type: 'boolean', default: false } },
});
const unknown = positionals.find((name) => !MEASUREMENTS.some((each) => each.name === name));
if (unknown !== undefined) {
  process.stderr.write(`there is no ${unknown}; there are ${MEASUREMENTS.map(({ name }) => name).join(', ')}\n`);
  process.exit(2);
}

/** By script: one may record several files. */
const wanted = new Map<string, { readonly measurement: Measurement; readonly why: string }>();
for (const measurement of MEASUREMENTS) {
  const why = positionals.length > 0 ? 'asked for' : whyToMeasure(measurement, makerHere());
  const isAsked = positionals.length === 0 || positionals.includes(measurement.name);
  if (why !== undefined && isAsked && !wanted.has(measurement.script))
    wanted.set(measurement.script, { measurement, why });
}

let isBuilt = false;
const outcomes: string[] = [];
for (const [script, { measurement, why }] of wanted) {
  const outcome = values.list ? `to measure, about ${measurement.minutes} min` : measure(script, measurement);
  outcomes.push(`${measurement.name.padEnd(22)} ${why.padEnd(38)} ${outcome}`);
}
process.stdout.write(outcomes.length === 0 ? 'everything is of today\n' : `\n${outcomes.join('\n')}\n`);

function measure(script: string, { needs, build, byMaker }: Measurement): string {
  const command = `node --import tsx ${script} --record`;
  if (needs !== undefined && needs.includes('…')) return notRun(`run: ${command} ${needs}`);
  if (byMaker && !values.busy && loadavg()[0]! / cpus().length > QUIET)
    return notRun(`the machine is busy (load ${loadavg()[0]!.toFixed(1)}); or pass --busy`);
  if (build && !isBuilt) {
    process.stdout.write('npm run build\n');
    if (spawnSync('npm', ['run', 'build'], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] }).status !== 0)
      return failed('npm run build failed');
    isBuilt = true;
  }
  process.stdout.write(`\n${command}\n`);
  const args = ['--import', 'tsx', `${ROOT}${script}`, '--record'];
  const { status } = spawnSync(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status === NOT_RUN) return notRun('it says above what it lacks');
  return status === 0 ? 'recorded' : failed(`exit code ${status}: a target missed, or a failure; see above`);
}

function notRun(text: string): string {
  process.exitCode ??= NOT_RUN;
  return `not run: ${text}`;
}

function failed(text: string): string {
  process.exitCode = 1;
  return text;
}
