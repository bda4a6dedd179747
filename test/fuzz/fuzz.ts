/** Runs a target's loop in a thread, and watches it: an execution that does not end, or that uses up the thread's memory, is a find too. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Fault } from './execute.ts';
import { LONGEST, timeLimit } from './target.ts';
import { loadTarget } from './targets.ts';
import { SHARED } from './worker.ts';
import type { EndMessage, FoundMessage, LoopOptions } from './worker.ts';

export interface FuzzOptions {
  readonly seed: number;
  readonly executions: number;
  readonly seconds: number;
}

export interface Find {
  readonly input: Uint8Array;
  readonly fault: Fault;
}

export interface Fuzzed {
  readonly executions: number;
  /** By name, sorted. */
  readonly outcomes: readonly string[];
  readonly finds: readonly Find[];
  /** Of the loop, without the start of the thread; 0 if it was ended. */
  readonly ms: number;
}

/** Objects of one execution, beside typed arrays: MiB. */
const HEAP = 768;
/** How much longer than its limit an execution may run before it is ended. A busy machine makes everything slow. */
const PATIENCE = 20;

/** In Node 20 a thread does not inherit tsx, which reads TypeScript, from the process: it is loaded again. */
const START = `
  import { register } from ${JSON.stringify(import.meta.resolve('tsx/esm/api'))};
  register();
  await import(${JSON.stringify(new URL('worker.ts', import.meta.url).href)});
`;

export async function fuzz(name: string, { seed, executions, seconds }: FuzzOptions): Promise<Fuzzed> {
  const { longest = LONGEST } = await loadTarget(name);
  const shared = new SharedArrayBuffer(SHARED.words * 4 + Math.max(longest, 4 * LONGEST));
  const state = new Int32Array(shared, 0, SHARED.words);
  const workerData: LoopOptions = { target: name, seed, executions, seconds, shared };
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(START)}`), {
    workerData,
    execArgv: ['--enable-source-maps'],
    resourceLimits: { maxOldGenerationSizeMb: HEAP },
  });
  const finds: Find[] = [];
  const current = (): Uint8Array =>
    new Uint8Array(shared, SHARED.words * 4).slice(0, Atomics.load(state, SHARED.length));

  return new Promise((resolve, reject) => {
    let last = { started: 0, at: Date.now() };
    let outcomes: readonly string[] = [];
    let done = 0;
    let ms = 0;
    const watch = setInterval(() => {
      const started = Atomics.load(state, SHARED.started);
      if (started !== last.started || started === 0) {
        last = { started, at: Date.now() };
        return;
      }
      const wait = Date.now() - last.at;
      const limit = timeLimit(Atomics.load(state, SHARED.length));
      if (wait < PATIENCE * limit) return;
      finds.push({ input: current(), fault: { key: 'hang', text: `has not ended after ${wait} ms` } });
      void worker.terminate();
    }, 200);
    worker.on('message', (message: FoundMessage | EndMessage) => {
      if ('fault' in message) finds.push(message);
      else ({ outcomes, executions: done, ms } = message);
    });
    worker.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ERR_WORKER_OUT_OF_MEMORY') {
        clearInterval(watch);
        reject(error);
        return;
      }
      finds.push({ input: current(), fault: { key: 'heap', text: `uses more than ${HEAP} MiB of objects` } });
    });
    worker.on('exit', () => {
      clearInterval(watch);
      const count = done || Atomics.load(state, SHARED.started);
      resolve({ executions: count, outcomes, finds, ms });
    });
  });
}

export const CORPUS = fileURLToPath(new URL('corpus/', import.meta.url));

/** Writes an input to the corpus, named by its contents, and returns the path. */
export function saveInput(target: string, input: Uint8Array): string {
  const folder = `${CORPUS}${target}/`;
  mkdirSync(folder, { recursive: true });
  const path = `${folder}${createHash('sha256').update(input).digest('hex').slice(0, 12)}`;
  writeFileSync(path, input);
  return path;
}

/** The saved inputs of a target, by name. */
export function readCorpus(target: string): { readonly name: string; readonly input: Uint8Array }[] {
  const folder = `${CORPUS}${target}/`;
  let names: string[];
  try {
    names = readdirSync(folder).toSorted();
  } catch {
    return [];
  }
  return names.map((name) => ({ name, input: new Uint8Array(readFileSync(folder + name)) }));
}
