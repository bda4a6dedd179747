/**
 * The memory of one decode: a WebAssembly memory that the loops work in, and a window onto it for TypeScript.
 *
 *   address
 *   0             workspace    variables that TypeScript and the loops hand each other, and the loops' tables (workspace.ts)
 *   input         payload      a copy of it, or of the part that is loaded: up to inputEnd
 *                 slack
 *   start         output       the decoded bytes, up to end; they are also the dictionary that matches copy from
 *   end           room         for the rest of the output, up to limit = start + size; the memory grows while it fills
 *   limit         slack
 *
 * The result is a view of that memory, not a copy: first touching 57 MB costs 21 ms here (2 cores, AMD EPYC), and a copy would cost that again.
 * For the same reason zstd loads its payload in parts: first touching 12 MB more costs 15 ms (measured).
 *
 * Bounds: a loop checks each match and each literal run against `start` and its limit, so it computes the right bytes or reports an error. Where it
 * reads or writes a few bytes further for speed, there is slack; and whatever a loop does, it cannot leave this memory, which belongs to one decode
 * and holds nothing else. docs/codecs.md has the whole story.
 */
import { alignUp } from '../base/bytes.ts';
import { Faults, type Differs, type OnRead, type Watch } from './codec.ts';
import { wasmPlatform, type DecoderProgram, type WasmExports, type WasmMemory } from './decoder-program.ts';
import { CACHE_LINE } from './workspace.ts';

/** A page of WebAssembly memory, and how many there can be. */
const PAGE = 0x10000;
const MAX_PAGES = 0x10000;

/** The output begins on a page of the machine. */
const OUTPUT_ALIGNMENT = 0x1000;

/** How many bytes a loop may read after the payload, and write after the output so far. */
export const SLACK = 64;

/** Compressed kernels shrink 3 to 8 times; with room for 16, the memory of a real one never grows. */
const FIRST_GUESS = 16;
const SMALLEST = 1 << 20;

/** Watchers are notified every 4 MiB: writing that much takes 3 ms, decoding it 7 (measured, zstd). */
const WATCH_STEP = 4 << 20;

/** `onRead` is called at most so often. */
const TELLS = 100;

/** What the build appends to a payload, which decoders do not get. */
const SIZE_WORD = 4;

export interface ArenaOptions {
  readonly program: DecoderProgram;
  readonly faults: Faults;
  readonly data: Uint8Array;
  /** What the payload claims to decode to. */
  readonly size: number;
  /** Bytes. */
  readonly workspace: number;
  /** How many bytes of the payload are in memory at a time; all of them by default. */
  readonly window?: number | undefined;
  readonly watch?: Watch | undefined;
  readonly differs?: Differs | undefined;
  readonly onRead?: OnRead | undefined;
  /** Kernels decompress in place; see `Arena.pace`. zstd's have more room. */
  readonly extra?: number | undefined;
}

/**
 * Kernels decompress in place: the payload lies at the end of a buffer of this many bytes more than the output, and 1/256 of the output (header.S in
 * arch/x86/boot, ZO_z_extra_bytes; kernels without zstd's decompressor have 64 KiB, others twice that).
 */
const EXTRA = 64 << 10;
export const EXTRA_WITH_ZSTD = 128 << 10;

/** The addresses of the picture above that do not change. */
interface MemoryLayout {
  /** Of the payload, or of the part of it that is loaded. */
  readonly input: number;
  /** How much of it can be loaded. */
  readonly window: number;
  /** Of the output. */
  readonly start: number;
  /** After the last byte of output that may be written. */
  readonly limit: number;
}

function layOutMemory({ data, size, workspace, window = data.length }: ArenaOptions): MemoryLayout {
  const input = alignUp(workspace, CACHE_LINE);
  const loadable = Math.min(data.length, window);
  const start = alignUp(input + loadable + SLACK, OUTPUT_ALIGNMENT);
  return { input, window: loadable, start, limit: start + size };
}

/** How many pages hold the output up to the address `end`. */
function pagesUpTo(end: number): number {
  return Math.ceil((end + SLACK) / PAGE);
}

export class Arena {
  /** The whole memory; another array after `reserve`. */
  bytes: Uint8Array;
  /** The same as 32-bit words; another array after `reserve`. */
  words: Uint32Array;
  readonly input: number;
  /** Address after the loaded part of the payload. */
  inputEnd = 0;
  readonly start: number;
  /** Address of the next byte of output. */
  end: number;
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
  readonly #differs: Differs | undefined;
  readonly #onRead: OnRead | undefined;
  /** How much of the payload must be read before `onRead` is called again; and by how much that grows. */
  #tellAt: number;
  readonly #tellStep: number;
  /** How far the output may be ahead of the input, in bytes, and where it was further ahead. */
  readonly #mostAhead: number;
  #tooFarAhead: number | undefined;
  /** Address up to which the watcher has been notified. */
  #shown: number;
  #result: Uint8Array | undefined;

  private constructor(memory: WasmMemory, exports: WasmExports, layout: MemoryLayout, options: ArenaOptions) {
    this.#data = options.data;
    this.#window = layout.window;
    this.#memory = memory;
    this.#exports = exports;
    this.#program = options.program;
    this.#faults = options.faults;
    this.#watch = options.watch;
    this.#differs = options.differs;
    const { data, size, extra = EXTRA } = options;
    this.#onRead = options.onRead;
    this.#tellStep = data.length / TELLS;
    this.#tellAt = options.onRead === undefined ? Infinity : this.#tellStep;
    this.#mostAhead = Math.max(0, size - data.length - SIZE_WORD) + (size >>> 8) + extra;
    this.input = layout.input;
    this.start = layout.start;
    this.end = layout.start;
    this.#shown = layout.start;
    this.limit = layout.limit;
    this.bytes = new Uint8Array(memory.buffer);
    this.words = new Uint32Array(memory.buffer);
    this.load(0);
  }

  /** Loads the payload from `offset` on, as much of it as the window holds. */
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
   * The output has room for `size` if the input could plausibly decode to that much; otherwise for a multiple of the input, and doubles as it
   * fills. So a size that is a lie costs no more than the data that comes with it.
   */
  static async create(options: ArenaOptions): Promise<Arena> {
    const { program, faults, data, size } = options;
    if (!wasmPlatform) throw faults.unsupported('payload', { hint: 'this platform has no WebAssembly' });
    const layout = layOutMemory(options);
    if (pagesUpTo(layout.limit) > MAX_PAGES) throw faults.tooLarge(size, undefined);
    const module = await program.compile(wasmPlatform);
    const guess = Math.min(size, Math.max(SMALLEST, data.length * FIRST_GUESS));
    let memory: WasmMemory;
    try {
      memory = new wasmPlatform.Memory({ initial: pagesUpTo(layout.start + guess) });
    } catch (cause) {
      throw faults.tooLarge(size, cause);
    }
    const { exports } = await wasmPlatform.instantiate(module, { env: { memory } });
    return new Arena(memory, exports, layout, options);
  }

  /** Makes room for `count` more bytes of output. Throws if they would pass `size`. */
  reserve(count: number): void {
    const needed = this.end + count;
    if (needed > this.limit) throw this.#faults.wrongSize(undefined, this.limit - this.start);
    const pages = this.bytes.length / PAGE;
    const least = pagesUpTo(needed);
    if (least <= pages) return;
    const most = pagesUpTo(this.limit);
    try {
      this.#memory.grow(Math.max(least, Math.min(most, pages * 2, MAX_PAGES)) - pages);
    } catch (cause) {
      throw this.#faults.tooLarge(this.limit - this.start, cause);
    }
    this.bytes = new Uint8Array(this.#memory.buffer);
    this.words = new Uint32Array(this.#memory.buffer);
  }

  /**
   * Appends the same byte `count` times.
   *
   * New memory is zeros, and only the slack after the end can have been written to: so zeros need not be written further than that. A third of a
   * kernel of 57 MB is zeros, and not touching them saves 7 ms and 20 MB of real memory.
   */
  appendRun(byte: number, count: number): void {
    this.reserve(count);
    this.bytes.fill(byte, this.end, this.end + (byte === 0 ? Math.min(count, SLACK) : count));
    this.end += count;
  }

  /**
   * Decoders call this where the output so far will not change any more; the watcher is then notified. Not while the memory may still grow, because
   * growing detaches the array that the watcher was given.
   */
  settle(): void {
    if (this.#watch === undefined || this.end - this.#shown < WATCH_STEP) return;
    if (this.limit + SLACK > this.bytes.length) return;
    this.#shown = this.end;
    this.#watch(this.#whole, this.end - this.start);
  }

  /** Reports something that the decompressors in kernels read differently, or not at all. */
  differs(field: string, details: Parameters<Faults['differs']>[1]): void {
    this.#differs?.(this.#faults.differs(field, details));
  }

  /**
   * Decoders call this when all output so far was made from input before `offset`, or could have been while input from there on was not read yet.
   *
   * A kernel's decompressor writes its output over its input. It must have read each byte before it writes there. No compressor makes streams for which
   * that fails. By hand it is easy: well-compressed data first, and then many blocks that hold next to nothing.
   */
  pace(offset: number): void {
    if (offset >= this.#tellAt) this.#tell(offset);
    if (this.end - this.start - offset > this.#mostAhead) this.#tooFarAhead ??= offset;
  }

  #tell(offset: number): void {
    this.#tellAt = offset + this.#tellStep;
    this.#onRead!(offset);
  }

  get #whole(): Uint8Array {
    return (this.#result ??= this.bytes.subarray(this.start, this.limit));
  }

  /** The unsigned word at `address`, a multiple of 4. */
  get(address: number): number {
    return this.words[address / 4]!;
  }

  set(address: number, value: number): void {
    this.words[address / 4] = value;
  }

  /**
   * Calls a function of the program, and throws the failure that it reports, if any. `at` is where in the payload it works, for errors.
   *
   * Loops check all bounds before a trap could happen. If one happens all the same, the data caused it.
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
    if (this.#tooFarAhead !== undefined) {
      this.differs('payload', {
        offset: this.#tooFarAhead,
        found: 'overwritten by its own output, when it is decompressed in place',
        expected: 'input that gives as much output from here on as it has bytes',
      });
    }
    return this.#whole;
  }
}
