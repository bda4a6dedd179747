/**
 * Every claim of the README, one after the other:
 *
 *     npm run bench [-- SCRIPT …]        SCRIPT: a file of this folder without its ending; all of them without any
 *
 * Each script is a program of its own, compares both sides in one run on this machine, and checks first that they gave the same. Here their
 * claims come together in a table. What cannot run (a judge or a kernel that is missing and cannot be fetched) is no claim kept: it
 * stands in the table as not run, with what to do about it.
 *
 * Exit code: 0 all targets met; 1 a target missed, or a script broken; 3 none missed, but something was not run, or is unknown because of other work.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { measuredOf, targetOf } from '../scripts/docs/claim.ts';
import { MEASUREMENTS } from '../scripts/docs/measurements.ts';
import { NOT_RUN, RESULTS } from './claims.ts';
import type { Result } from './claims.ts';
import { machine } from './measure.ts';

/** Those that make claims. */
const SCRIPTS = MEASUREMENTS.filter(({ claims }) => claims)
  .map(({ script }) => basename(script, '.ts'))
  .toSorted();
/** Downloads of judges included. */
const SCRIPT_MS = 3_600_000;

interface Row {
  readonly script: string;
  readonly what: string;
  readonly measured: string;
  readonly target: string;
  readonly verdict: 'ok' | 'MISSED' | 'unknown' | 'NOT RUN' | 'BROKEN';
}

async function run(script: string, results: string): Promise<Row[]> {
  process.stdout.write(`\n${script}\n`);
  const path = fileURLToPath(new URL(`${script}.ts`, import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', path], {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: { ...process.env, [RESULTS]: results },
    timeout: SCRIPT_MS,
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    process.stderr.write(text);
    errors = (errors + text).slice(-10_000);
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  const found = existsSync(results) ? readFileSync(results, 'utf8').trim().split('\n') : [];
  const rows = found.map((line): Row => {
    const result = JSON.parse(line) as Result;
    return {
      script,
      what: result.what,
      measured: measuredOf(result),
      target: targetOf(result),
      verdict: ({ met: 'ok', missed: 'MISSED', unknown: 'unknown' } as const)[result.verdict],
    };
  });
  const expected = rows.some(({ verdict }) => verdict === 'MISSED') ? 1 : 0;
  if (code === expected && rows.length > 0) return rows;
  const what = reasonIn(errors) ?? `ended by ${signal ?? `exit code ${code}`}`;
  rows.push({ script, what, measured: '', target: '', verdict: code === NOT_RUN ? 'NOT RUN' : 'BROKEN' });
  return rows;
}

/** The message of the error that ended a script. */
function reasonIn(errors: string): string | undefined {
  const lines = errors.split('\n').filter((line) => line.trim() !== '');
  const last = lines.findLast((line) => line.startsWith('not run: '))?.slice('not run: '.length);
  return last ?? lines.find((line) => /^\w*Error\b.*: /.test(line)) ?? lines.at(-1);
}

function print(rows: readonly Row[]): void {
  const cells = rows.map(({ script, what, measured, target, verdict }) => [script, what, measured, target, verdict]);
  const lines = [['script', 'claim', 'measured', 'target', ''], ...cells];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...lines.map((line) => line[column]!.length)));
  process.stdout.write(`\n${machine()}\n`);
  const [load = 0] = loadavg();
  if (load > cpus().length)
    process.stdout.write(
      `Other work is going on (load ${load.toFixed(1)}): times of programs that use several processes are not to be trusted.\n`,
    );
  process.stdout.write('\n');
  for (const line of lines)
    process.stdout.write(
      `${line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd()}\n`,
    );
  const count = (verdict: Row['verdict']): number => rows.filter((row) => row.verdict === verdict).length;
  process.stdout.write(
    `\n${count('ok')} ok, ${count('MISSED')} missed, ${count('unknown')} unknown, ${count('NOT RUN')} not run, ${count('BROKEN')} broken\n`,
  );
}

const asked = process.argv.slice(2);
const unknown = asked.find((script) => !SCRIPTS.includes(script));
if (unknown === undefined) {
  const folder = mkdtempSync(join(tmpdir(), 'kslide-claims-'));
  const rows: Row[] = [];
  try {
    for (const script of asked.length > 0 ? asked : SCRIPTS) rows.push(...(await run(script, join(folder, script))));
  } finally {
    rmSync(folder, { recursive: true });
  }
  print(rows);
  if (rows.some(({ verdict }) => verdict === 'MISSED' || verdict === 'BROKEN')) process.exitCode = 1;
  else if (rows.some(({ verdict }) => verdict === 'NOT RUN' || verdict === 'unknown')) process.exitCode = NOT_RUN;
} else {
  process.stderr.write(`there is no ${unknown}; there are ${SCRIPTS.join(', ')}\n`);
  process.exitCode = 2;
}
