/**
 * Counts the bytes of the typed arrays and of the WebAssembly memory that code asks for. Unlike the memory of a process, that number is the same in each run, so
 * tests can state bounds with it. The constructors are replaced for the whole thread; import this file first.
 *
 * Not counted: views and copies of arrays that exist (`slice`, `toSorted`), and JavaScript objects. The worker that fuzzes has a limit for these.
 */

let requested = 0;
let limit = Infinity;
let refused = false;

/** Thrown instead of allocating more than the limit. */
export class MemoryLimitError extends Error {
  override readonly name = 'MemoryLimitError';
}

function count(bytes: number): void {
  if (!(bytes > 0)) return;
  requested += bytes;
  if (requested <= limit) return;
  refused = true;
  throw new MemoryLimitError(`asks for ${requested} bytes in all, limit ${limit}`);
}

/** The bytes of `new Constructor(...args)`; a view of a buffer has none of its own. */
function bytesOf(size: number, [first]: readonly unknown[]): number {
  if (typeof first === 'number') return first * size;
  if (typeof first !== 'object' || first === null || !('length' in first)) return 0;
  return Number(first.length) * size;
}

type Constructor = new (...args: never[]) => object;

function meter(name: string, size: number): void {
  const scope = globalThis as unknown as Record<string, Constructor>;
  scope[name] = new Proxy(scope[name]!, {
    construct(target, args: unknown[], made) {
      count(bytesOf(size, args));
      return Reflect.construct(target, args, made === scope[name] ? target : made) as object;
    },
  });
}

const PAGE = 0x10000;

function meterWasm(): void {
  const scope = (globalThis as unknown as { WebAssembly: { Memory: Constructor } }).WebAssembly;
  scope.Memory = new Proxy(scope.Memory, {
    construct(target, args: [{ initial: number }]) {
      count(args[0].initial * PAGE);
      const memory = Reflect.construct(target, args) as { grow(pages: number): number };
      const grow = memory.grow.bind(memory);
      memory.grow = (pages) => {
        count(pages * PAGE);
        return grow(pages);
      };
      return memory;
    },
  });
}

meter('ArrayBuffer', 1);
for (const { name, BYTES_PER_ELEMENT } of [
  Uint8Array,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float64Array,
  BigUint64Array,
  BigInt64Array,
])
  meter(name, BYTES_PER_ELEMENT);
meterWasm();

export interface Metered<T> {
  readonly result: T;
  /** Bytes. */
  readonly allocated: number;
}

/** Runs `work`, which is stopped by a MemoryLimitError when it asks for more than `most` bytes in all. Work that catches that error gets it afterwards. */
export async function metered<T>(most: number, work: () => T | Promise<T>): Promise<Metered<T>> {
  startMeter(most);
  try {
    const result = await work();
    const allocated = stopMeter();
    return { result, allocated };
  } finally {
    limit = Infinity;
  }
}

export function startMeter(most: number): void {
  requested = 0;
  refused = false;
  limit = most;
}

/** Returns what was asked for since `startMeter`. Throws MemoryLimitError if that was more than the limit. */
export function stopMeter(): number {
  const most = limit;
  limit = Infinity;
  if (refused) throw new MemoryLimitError(`asks for ${requested} bytes in all, limit ${most}`);
  return requested;
}
