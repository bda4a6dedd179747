/**
 * How this process ends when a signal asks it to. All listeners for deadly signals are here.
 *
 * By default SIGINT, SIGTERM and SIGHUP end a process at once: temporary files stay, and children go on. Three things are done about that:
 *
 * - `onProcessEnd` registers what must not be left behind. It is cleaned up when the process exits, or when one of the signals arrives; then the
 *   process sends itself the signal again with nobody listening, so that its parent sees which signal ended it.
 * - `interruptible` is for work that has an end of its own to reach first, such as guests that it waits for. A signal aborts the work, and is sent
 *   again after the work has returned.
 * - `forwardSignals` is for a process that stands in for another: the other process gets the signals, and decides.
 *
 * SIGKILL cannot be caught. What must not survive that either needs other means (files/temporary-file.ts, processes/launch.ts).
 */
import process from 'node:process';
import { isatty } from 'node:tty';

const DEADLY = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const cleanUps = new Set<() => void>();

/**
 * Has `cleanUp` called when this process ends, until the returned function is called. `cleanUp` must be synchronous, and may be called more than once:
 * when another listener keeps the process alive after a signal, its exit comes later.
 */
export function onProcessEnd(cleanUp: () => void): () => void {
  if (cleanUps.size === 0) {
    process.on('exit', cleanUpAll);
    for (const signal of DEADLY) process.on(signal, die);
  }
  cleanUps.add(cleanUp);
  return () => {
    cleanUps.delete(cleanUp);
    if (cleanUps.size === 0) stopListening();
  };
}

function cleanUpAll(): void {
  for (const cleanUp of cleanUps) cleanUp();
}

function stopListening(): void {
  process.off('exit', cleanUpAll);
  for (const signal of DEADLY) process.off(signal, die);
}

function die(signal: NodeJS.Signals): void {
  cleanUpAll();
  for (const deadly of DEADLY) process.off(deadly, die);
  // Another listener, `interruptible` among them, decides itself how this process ends.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
}

/** Runs `work`. A signal aborts it, and ends this process as usual once `work` has returned or thrown. */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interrupted = new AbortController();
  let by: NodeJS.Signals | undefined;
  const stop = (signal: NodeJS.Signals): void => {
    by = signal;
    interrupted.abort();
  };
  // Not `once`: without this listener, `die` would end the process before the work has cleaned up.
  for (const signal of DEADLY) process.on(signal, stop);
  try {
    return await work(interrupted.signal);
  } finally {
    for (const signal of DEADLY) process.off(signal, stop);
    if (by !== undefined) process.kill(process.pid, by);
  }
}

/** All signals that can be caught and that a program may want to receive. */
const FORWARDED = [
  'SIGINT',
  'SIGTERM',
  'SIGHUP',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGCONT',
  'SIGWINCH',
] as const;
/** A terminal sends these to all processes in its foreground, so a child has already received its own. */
const FROM_TERMINAL = new Set<NodeJS.Signals>(['SIGINT', 'SIGQUIT', 'SIGWINCH']);

/** Passes signals to `send` instead of ending this process, until the returned function is called. */
export function forwardSignals(send: (signal: NodeJS.Signals) => void): () => void {
  const atTerminal = isatty(0);
  const forward = (signal: NodeJS.Signals): void => {
    if (!(atTerminal && FROM_TERMINAL.has(signal))) send(signal);
  };
  for (const signal of FORWARDED) process.on(signal, forward);
  return () => {
    for (const signal of FORWARDED) process.off(signal, forward);
  };
}
