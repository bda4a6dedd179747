/** Work on a list, a few items at a time. */

/**
 * Calls `work` for each item, in order, never more than `jobs` at a time, and waits for all of them. After the first failure no further
 * item is begun, `signal` tells those under way to stop, and when they have, the failure is thrown.
 */
export async function inParallel<T>(
  items: Iterable<T>,
  jobs: number,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const queue = [...items].values();
  const failed = new AbortController();
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      if (failed.signal.aborted) return;
      try {
        await work(item, failed.signal);
      } catch (error) {
        failed.abort();
        throw error;
      }
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: jobs }, worker));
  const failure = ends.find((end) => end.status === 'rejected');
  if (failure !== undefined) throw failure.reason;
}
