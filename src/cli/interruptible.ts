const DEADLY = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A signal aborts the work, waits until it has cleaned up, and then takes its usual course. */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interrupted = new AbortController();
  let by: NodeJS.Signals | undefined;
  const stop = (signal: NodeJS.Signals): void => {
    by = signal;
    interrupted.abort();
  };
  // Not `once`: a listener that is gone would leave the end of the process to node/processes/processes.ts, which does not wait.
  for (const signal of DEADLY) process.on(signal, stop);
  try {
    return await work(interrupted.signal);
  } finally {
    for (const signal of DEADLY) process.off(signal, stop);
    if (by !== undefined) process.kill(process.pid, by);
  }
}
