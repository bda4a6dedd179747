/**
 * Runs programs that do not outlive this process.
 *
 * A child is ended when its time is up, when its AbortSignal fires, and when this process exits or a signal ends it (signals.ts): then each child is
 * killed first, by its own pid. Only a SIGKILL of this process leaves children running.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { EnvironmentError, isSystemError, missingProgram, reasonOf } from '../errors.ts';
import { onProcessEnd } from '../signals.ts';
import type { RealPipe } from './real-pipe.ts';

export interface RunOptions {
  /** The child is ended after this long. There is no default, because only the caller knows how long the program may take. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly directory?: string | undefined;
  /** Descriptors of this process that become the child's standard input and output. By default there is nothing to read, and `output` gets what is written. */
  readonly stdin?: number | undefined;
  readonly stdout?: number | undefined;
  /** `output` is read from this pipe, whose other end becomes the child's standard output. Both ends are closed here. */
  readonly pipe?: RealPipe | undefined;
  /** Descriptors of this process that become the child's 3, 4 and so on. */
  readonly files?: readonly number[] | undefined;
  /** Standard output as it comes. */
  readonly onOutput?: ((text: string) => void) | undefined;
}

export interface Ended {
  /** What ended the program: `itself`, or a timeout or an abort from this side. */
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

function endGently(child: ChildProcess): void {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
  child.once('close', () => clearTimeout(timer));
}

/**
 * Runs a program to its end. Rejects with an EnvironmentError if it is not installed. An exit code, a timeout and an abort are results, not errors.
 */
export function runProgram(program: string, args: readonly string[], options: RunOptions): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    let by: Ended['by'] = 'itself';
    let output = '';
    let errors = '';

    const { stdin = 'ignore', pipe, stdout = pipe?.writer ?? 'pipe', files = [] } = options;
    const stdio = [stdin, stdout, 'pipe', ...files] as const;
    let child: ChildProcess;
    try {
      child = spawn(program, args, { stdio: [...stdio], cwd: options.directory });
    } catch (error) {
      // Node throws some errors and emits others. An argument of more than 128 KiB is thrown (E2BIG). An open pipe would keep this process alive.
      pipe?.reader.destroy();
      reject(startFailure(program, error));
      return;
    } finally {
      if (pipe !== undefined) closeSync(pipe.writer);
    }
    const forget = onProcessEnd(() => child.kill('SIGKILL'));
    const end = (reason: Ended['by']): void => {
      by = reason;
      endGently(child);
    };
    const onAbort = (): void => end('abort');
    const timer = setTimeout(() => end('timeout'), options.timeoutMs);
    if (options.signal?.aborted === true) onAbort();
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const settle = (): void => {
      forget();
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
      reject(startFailure(program, error));
    });
    child.once('close', async (code) => {
      if (pipe !== undefined && !pipe.reader.closed) await once(pipe.reader, 'close');
      settle();
      resolve({ by, code, output, errors, milliseconds: Math.round(performance.now() - started) });
    });
  });
}

/** Also for what is no failure of the system's. */
function startFailure(program: string, error: unknown): unknown {
  if (!isSystemError(error)) return error;
  if (error.code === 'ENOENT') return missingProgram(program, error);
  const what = `${program} cannot be started: ${reasonOf(error)}`;
  return new EnvironmentError({ problem: 'command-failed', what, cause: error });
}
