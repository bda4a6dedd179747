/** The worker: does what it is told in one message, and says how far it is. The page ends it afterwards, which frees its memory. */
import type { Order, Report } from './messages.ts';
import { work } from './work.ts';

/** What is used of DedicatedWorkerGlobalScope. TypeScript's types for pages and for workers exclude each other. */
interface WorkerScope {
  addEventListener(type: 'message', listener: (event: MessageEvent<Order>) => void): void;
  postMessage(message: Report): void;
}

// oxlint-disable unicorn/require-post-message-target-origin -- a worker has none
const scope = globalThis as unknown as WorkerScope;
scope.addEventListener('message', ({ data }) => void work(data, (message) => scope.postMessage(message)));
