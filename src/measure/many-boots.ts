/** What audits and benches have in common: many boots, several at a time, by one version of QEMU. */
import { runProgram } from '../node/processes/run-program.ts';

/**
 * Calls `work` for each item, in order, never more than `jobs` at a time, and waits for all of them. After the first failure no further
 * item is begun, the signal tells those under way to stop, and when they have stopped, the failure is thrown.
 *
 * The signal that `work` gets also fires when `interrupted` does; that by itself is no failure, and does not keep further items from being begun.
 */
export async function inParallel<T>(
  items: Iterable<T>,
  jobs: number,
  work: (item: T, signal: AbortSignal) => Promise<void>,
  interrupted?: AbortSignal,
): Promise<void> {
  const queue = [...items].values();
  const failed = new AbortController();
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      if (failed.signal.aborted) return;
      const signal = interrupted === undefined ? failed.signal : AbortSignal.any([interrupted, failed.signal]);
      try {
        await work(item, signal);
      } catch (error) {
        // Those under way then fail because they were told to stop: only the first failure says why.
        failed.abort(error);
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  if (failed.signal.aborted) throw failed.signal.reason;
}

/** `7.2.22`. Throws EnvironmentError when QEMU is not installed. */
export async function qemuVersion(): Promise<string> {
  const { output } = await runProgram('qemu-system-x86_64', ['--version'], { timeoutMs: 10_000 });
  return /version ([\d.]+)/.exec(output)?.[1] ?? 'unknown';
}
