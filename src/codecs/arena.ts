/**
 * The memory that a WebAssembly decoder works in, and the buffer that it fills.
 *
 *   0         slots: what loop and caller hand each other, and the loop's tables
 *   ...       a copy of the payload, or of a part of it: first touching 12 MB more costs 15 ms where one block after the other does (measured, zstd)
 *   start     the decoded bytes, up to the end; they are also the dictionary that matches copy from
 *
 * The result is a view of that memory, not a copy: first touching 57 MB costs 21 ms here (2 cores, AMD EPYC), so every copy would.
 *
 * Bounds: a loop checks each match and each literal run against `start` and its limit, so that what it computes is right or an error.
 * Where it reads or writes a few bytes further for speed, SLACK is there; and whatever a loop does, it cannot leave this memory, which
 * belongs to one decode and holds nothing else.
 */
import { Faults, type Watch } from './codec.ts';
import { wasmPlatform, type DecoderProgram, type WasmExports, type WasmMemory } from './decoder-program.ts';

const PAGE = 0x10000;
const MAX_PAGES = 0x10000;

/** How far a loop may read behind the payload, and write behind what it has output so far. */
export const SLACK = 64;

/** Compressed kernels shrink 3 to 8 times; room for 16 means that a real one never grows. */
const FIRST_GUESS = 16;
const SMALLEST = 1 << 20;

/** Whoever watches is told each time there is so much more: 4 MiB are written while as much is decoded (measured, zstd: 3 ms, 7 ms). */
const WATCH_STEP = 4 << 20;

export interface ArenaOptions {
  readonly program: DecoderProgram;
  readonly faults: Faults;
  readonly data: Uint8Array;
  /** What the payload claims to decode to. */
  readonly size: number;
  /** Bytes of slots and tables. */
  readonly slots: number;
  /** How much of the payload is in the memory at a time; all of it by default. */
  readonly window?: number | undefined;
  readonly watch?: Watch | undefined;
}

export class Arena {
  /** The whole memory; another array after `reserve`. */
  bytes: Uint8Array;
  /** As 32-bit words; another array after `reserve`. */
  words: Uint32Array;
  /** Address of the payload, or of the part of it that is loaded. */
  readonly input: number;
  /** Address behind what is loaded. */
  inputEnd = 0;
  /** Address of the output. */
  readonly start: number;
  /** Address of the next byte of output. */
  end: number;
  /** Address behind the last byte of output that may be written. */
  readonly limit: number;
  readonly #data: Uint8Array;
  readonly #window: number;
  /** Where in the payload the loaded part starts. */
  #loaded = 0;
  readonly #exports: WasmExports;
  readonly #program: DecoderProgram;
  readonly #memory: WasmMemory;
  readonly #faults: Faults;
  readonly #watch: Watch | undefined;
  /** Address behind what was shown. */
  #shown: number;
  #result: Uint8Array | undefined;

  private constructor(memory: WasmMemory, exports: WasmExports, options: ArenaOptions) {
    const { data, size, slots, faults, watch } = options;
    this.#data = data;
    this.#window = windowOf(options);
    this.#memory = memory;
    this.#exports = exports;
    this.#program = options.program;
    this.#faults = faults;
    this.#watch = watch;
    this.input = slots;
    this.start = startOf(options);
    this.end = this.start;
    this.#shown = this.start;
    this.limit = this.start + size;
    this.bytes = new Uint8Array(memory.buffer);
    this.words = new Uint32Array(memory.buffer);
    this.load(0);
  }

  /** Loads the payload from `offset` on, as much of it as the window takes. */
  load(offset: number): void {
    const part = this.#data.subarray(offset, offset + this.#window);
    this.bytes.set(part, this.input);
    this.inputEnd = this.input + part.length;
    this.#loaded = offset;
  }

  /** Where in the payload the loaded byte at `address` is. */
  offsetOf(address: number): number {
    return this.#loaded + address - this.input;
  }

  /**
   * The output has room for `size` if the input could plausibly decode to that much; else for a multiple of the input, and doubles as
   * it fills. A lying size thus costs no more than the data behind it does.
   */
  static async create(options: ArenaOptions): Promise<Arena> {
    const { program, faults, data, size } = options;
    if (!wasmPlatform) throw faults.unsupported('payload', { hint: 'this platform has no WebAssembly' });
    if (startOf(options) + size + SLACK > MAX_PAGES * PAGE) throw faults.tooLarge(size, undefined);
    const module = await program.compile(wasmPlatform);
    const guess = Math.min(size, Math.max(SMALLEST, data.length * FIRST_GUESS));
    const pages = Math.ceil((startOf(options) + guess + SLACK) / PAGE);
    let memory: WasmMemory;
    try {
      memory = new wasmPlatform.Memory({ initial: pages });
    } catch (cause) {
      throw faults.tooLarge(size, cause);
    }
    const { exports } = await wasmPlatform.instantiate(module, { env: { memory } });
    return new Arena(memory, exports, options);
  }

  /** Makes room for `count` more bytes of output. Throws if they would pass `size`. */
  reserve(count: number): void {
    const needed = this.end + count;
    if (needed > this.limit) throw this.#faults.wrongSize(undefined, this.limit - this.start);
    const pages = this.bytes.length / PAGE;
    const least = Math.ceil((needed + SLACK) / PAGE);
    if (least <= pages) return;
    const most = Math.ceil((this.limit + SLACK) / PAGE);
    try {
      this.#memory.grow(Math.max(least, Math.min(most, pages * 2, MAX_PAGES)) - pages);
    } catch (cause) {
      throw this.#faults.tooLarge(this.limit - this.start, cause);
    }
    this.bytes = new Uint8Array(this.#memory.buffer);
    this.words = new Uint32Array(this.#memory.buffer);
  }

  /**
   * Appends `count` times the same byte.
   *
   * Zeros are there already, but for what loops may have left in the slack behind the end: nothing else is ever written there before it
   * is output. A third of a kernel of 57 MB is zeros, and not touching them saves 7 ms and 20 MB of real memory.
   */
  appendRun(byte: number, count: number): void {
    this.reserve(count);
    this.bytes.fill(byte, this.end, this.end + (byte === 0 ? Math.min(count, SLACK) : count));
    this.end += count;
  }

  /**
   * What is output so far will stay as it is: a decoder says so where that is true, and whoever watches sees it. Not while the memory may yet
   * grow: others would be left with memory that is no more.
   */
  settle(): void {
    if (this.#watch === undefined || this.end - this.#shown < WATCH_STEP) return;
    if (this.limit + SLACK > this.bytes.length) return;
    this.#shown = this.end;
    this.#watch(this.#whole, this.end - this.start);
  }

  get #whole(): Uint8Array {
    return (this.#result ??= this.bytes.subarray(this.start, this.limit));
  }

  /** Reads a slot, as an unsigned number. */
  get(address: number): number {
    return this.words[address / 4]!;
  }

  set(address: number, value: number): void {
    this.words[address / 4] = value;
  }

  /**
   * Calls a function of the program, and throws what it says is wrong with the data. `at` is where in the payload it works, for errors.
   *
   * All bounds are checked before a trap could happen. Should one happen, it is the data that brought it about.
   */
  call(name: string, parameters: Readonly<Record<string, number>>, at?: number): number {
    const { parameterNames, failures } = this.#program.functions.get(name)!;
    const offset = at === undefined ? undefined : this.offsetOf(at);
    let result: number;
    try {
      result = this.#exports[name]!(...parameterNames.map((parameter) => parameters[parameter]!));
    } catch (cause) {
      if (cause instanceof wasmPlatform!.RuntimeError) throw this.#faults.corrupt('data', { offset, cause });
      throw cause;
    }
    if (result < 0 && failures.length > 0) throw this.#faults.corrupt('data', { offset, found: failures[-1 - result] });
    return result;
  }

  /** The decoded bytes; throws unless there are exactly `size`. */
  finish(): Uint8Array {
    if (this.end !== this.limit) throw this.#faults.wrongSize(this.end - this.start, this.limit - this.start);
    return this.#whole;
  }
}

function startOf(options: ArenaOptions): number {
  return Math.ceil((options.slots + windowOf(options) + SLACK) / 4096) * 4096;
}

function windowOf({ data, window = data.length }: ArenaOptions): number {
  return Math.min(data.length, window);
}
