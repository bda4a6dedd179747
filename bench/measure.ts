/** Timing whole processes, fairly: the two sides take turns, each starts from the same files, and the median counts. */
import { spawnSync } from 'node:child_process';
import { openSync, closeSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';

export interface Command {
  readonly args: readonly string[];
  /** The file that it makes; removed before each run, because replacing a file costs more than making one. */
  readonly output: string;
  /** Standard output goes to `output`. */
  readonly redirect?: boolean;
}

export interface Timing {
  /** Wall milliseconds. */
  readonly median: number;
  readonly least: number;
  readonly runs: number;
}

function runOnce({ args, output, redirect = false }: Command): number {
  rmSync(output, { force: true });
  const stdout = redirect ? openSync(output, 'w') : undefined;
  const [program = '', ...rest] = args;
  const start = process.hrtime.bigint();
  const { status, error } = spawnSync(program, rest, { stdio: ['ignore', stdout ?? 'ignore', 'inherit'] });
  const milliseconds = Number(process.hrtime.bigint() - start) / 1e6;
  if (stdout !== undefined) closeSync(stdout);
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${args.join(' ')} failed: exit code ${status}`);
  return milliseconds;
}

/** `rounds` turns after one that only warms the page cache. */
export function race(commands: readonly Command[], rounds: number): Timing[] {
  for (const command of commands) runOnce(command);
  const times: number[][] = commands.map(() => []);
  for (let round = 0; round < rounds; round++)
    commands.forEach((command, index) => times[index]!.push(runOnce(command)));
  return times.map((list) => {
    const sorted = list.toSorted((a, b) => a - b);
    return { median: sorted[Math.floor(sorted.length / 2)]!, least: sorted[0]!, runs: sorted.length };
  });
}

export function machine(): string {
  return `${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} CPUs, Node ${process.version}`;
}

/** Bytes at the most, from the kernel's own account of the child. */
export function peakMemory(args: readonly string[]): number {
  const { stderr, error } = spawnSync('/usr/bin/time', ['-f', '%M', ...args], { encoding: 'utf8', maxBuffer: 1 << 30 });
  if (error !== undefined) throw error;
  return Number(stderr.trim().split('\n').at(-1)) * 1024;
}
