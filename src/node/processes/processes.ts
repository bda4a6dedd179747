/**
 * Runs programs that never outlive us.
 *
 * A child ends when its time is up, when its AbortSignal fires, when this process exits, and when it gets SIGINT, SIGTERM or SIGHUP:
 * then the children go first (each by its own pid), and the signal takes its usual course afterwards. Only SIGKILL leaves them behind.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { missingProgram } from '../environment.ts';
import type { RealPipe } from './real-pipe.ts';

export interface RunOptions {
  /** The child is ended after this long. There is no default: whoever starts a program knows how long it may take. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly directory?: string | undefined;
  /** Descriptors of ours that the child has as standard input and output; without them, nothing to read, and `output`. */
  readonly stdin?: number | undefined;
  readonly stdout?: number | undefined;
  /** Takes `output` from here, and closes it; the child has the other end as standard output. */
  readonly pipe?: RealPipe | undefined;
  /** Descriptors of ours that the child has as 3, 4 and so on. */
  readonly files?: readonly number[] | undefined;
  /** Standard output as it comes. */
  readonly onOutput?: ((text: string) => void) | undefined;
}

export interface Ended {
  /** What ended the program: itself, or one of our reasons to end it. */
  readonly by: 'itself' | 'timeout' | 'abort';
  /** Exit code, or null when a signal killed it. */
  readonly code: number | null;
  /** At most OUTPUT_LIMIT characters of each stream. */
  readonly output: string;
  readonly errors: string;
  readonly milliseconds: number;
}

/** A guest in an endless loop of messages must not fill the host's memory. */
const OUTPUT_LIMIT = 16 << 20;
/** From SIGTERM to SIGKILL. */
const GRACE_MS = 2_000;
const DEADLY = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const running = new Set<ChildProcess>();

function endGently(child: ChildProcess): void {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
  child.once('close', () => clearTimeout(timer));
}

function killAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

function dieAfterChildren(signal: NodeJS.Signals): void {
  killAll();
  for (const deadly of DEADLY) process.off(deadly, dieAfterChildren);
  // Another listener means that someone else (the command line) decides how this process ends.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
}

function track(child: ChildProcess): void {
  if (running.size === 0) {
    process.on('exit', killAll);
    for (const deadly of DEADLY) process.on(deadly, dieAfterChildren);
  }
  running.add(child);
}

function untrack(child: ChildProcess): void {
  running.delete(child);
  if (running.size > 0) return;
  process.off('exit', killAll);
  for (const deadly of DEADLY) process.off(deadly, dieAfterChildren);
}

/**
 * Runs a program to its end, whatever its exit code. Rejects with an EnvironmentError if it is not installed, and with nothing else:
 * a timeout and an abort are ends like others.
 */
export function runProgram(program: string, args: readonly string[], options: RunOptions): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    let by: Ended['by'] = 'itself';
    let output = '';
    let errors = '';

    const { stdin = 'ignore', pipe, stdout = pipe?.writer ?? 'pipe', files = [] } = options;
    const stdio = [stdin, stdout, 'pipe', ...files] as const;
    const child = spawn(program, args, { stdio: [...stdio], cwd: options.directory });
    if (pipe !== undefined) closeSync(pipe.writer);
    track(child);
    const end = (reason: Ended['by']): void => {
      by = reason;
      endGently(child);
    };
    const onAbort = (): void => end('abort');
    const timer = setTimeout(() => end('timeout'), options.timeoutMs);
    if (options.signal?.aborted === true) onAbort();
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const settle = (): void => {
      untrack(child);
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
    };

    const out = pipe?.reader ?? child.stdout;
    out?.setEncoding('utf8').on('data', (text: string) => {
      if (output.length < OUTPUT_LIMIT) output += text;
      options.onOutput?.(text);
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (errors.length < OUTPUT_LIMIT) errors += text;
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      pipe?.reader.destroy();
      settle();
      reject(error.code === 'ENOENT' ? missingProgram(program, error) : error);
    });
    child.once('close', async (code) => {
      if (pipe !== undefined && !pipe.reader.closed) await once(pipe.reader, 'close');
      settle();
      resolve({ by, code, output, errors, milliseconds: Math.round(performance.now() - started) });
    });
  });
}
