/**
 * The loop, in a thread of its own: it mutates, executes and judges. Before each execution it copies the input into memory that it shares with fuzz.ts, which
 * watches: an execution that does not end can still be saved, and the thread be ended.
 */
import './meter.ts';
import { parentPort, workerData } from 'node:worker_threads';
import { Random } from '../codecs/tools.ts';
import { execute } from './execute.ts';
import type { Fault } from './execute.ts';
import { mutate } from './mutate.ts';
import { loadTarget } from './targets.ts';
import { timeLimit } from './target.ts';
import type { Target } from './target.ts';

/** Words of the shared memory; the input follows them. */
export const SHARED = { started: 0, length: 1, outcomes: 2, words: 4 } as const;

export interface LoopOptions {
  readonly target: string;
  readonly seed: number;
  readonly executions: number;
  readonly seconds: number;
  readonly shared: SharedArrayBuffer;
}

export interface FoundMessage {
  readonly input: Uint8Array;
  readonly fault: Fault;
}

export interface EndMessage {
  readonly executions: number;
  readonly outcomes: readonly string[];
  readonly ms: number;
}

/** Inputs that gave an outcome that none before them gave. More than these do not help. */
const POOL = 512;
const FINDS = 10;

async function loop({ target: name, seed, executions, seconds, shared }: LoopOptions): Promise<void> {
  const target = await loadTarget(name);
  const random = new Random(seed);
  for (let spin = 0; spin < 8; spin++) random.next();
  const state = new Int32Array(shared, 0, SHARED.words);
  const copy = new Uint8Array(shared, SHARED.words * 4);
  const seeds = await target.seeds();
  const pool = [...seeds];
  const outcomes = new Set<string>();
  const finds = new Set<string>();
  const start = performance.now();
  let done = 0;
  for (; done < executions && finds.size < FINDS; done++) {
    if (done % 16 === 0 && performance.now() - start >= seconds * 1000) break;
    const input = done < seeds.length ? seeds[done]! : mutate(random, random.below(2) === 0 ? seeds : pool, target);
    copy.set(input.subarray(0, copy.length));
    Atomics.store(state, SHARED.length, input.length);
    Atomics.store(state, SHARED.started, done + 1);
    const began = performance.now();
    const { outcome, fault } = await execute(target, input);
    const took = performance.now() - began;
    const wrong = fault ?? (took > timeLimit(input.length) ? await judgeTime(target, input) : undefined);
    if (!outcomes.has(outcome)) {
      outcomes.add(outcome);
      Atomics.store(state, SHARED.outcomes, outcomes.size);
      if (pool.length < POOL) pool.push(new Uint8Array(input));
    }
    if (wrong === undefined || finds.has(wrong.key)) continue;
    finds.add(wrong.key);
    parentPort!.postMessage({ input, fault: wrong } satisfies FoundMessage, []);
  }
  const ms = performance.now() - start;
  parentPort!.postMessage({ executions: done, outcomes: [...outcomes].toSorted(), ms } satisfies EndMessage, []);
}

/** Other work on the machine makes executions slow. So what counts is the CPU time of two more; the process does nothing else meanwhile. */
async function judgeTime(target: Target, input: Uint8Array): Promise<Fault | undefined> {
  let least = Infinity;
  for (let round = 0; round < 2; round++) {
    const before = process.cpuUsage();
    await execute(target, input);
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, (user + system) / 1000);
  }
  if (least <= timeLimit(input.length)) return undefined;
  const text = `takes ${Math.round(least)} ms of CPU time, limit ${Math.round(timeLimit(input.length))} ms`;
  return { key: 'slow', text };
}

if (parentPort !== null) await loop(workerData as LoopOptions);
