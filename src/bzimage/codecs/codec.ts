/**
 * What the seven decoders have in common: their type, their errors, and the buffer that they fill.
 *
 * Every decoder is given bytes that an attacker may have written and a size that an attacker may have claimed. The rules, for all of
 * them: nothing but `KernelImageError` comes out; never more than `size` bytes; memory in proportion to what was really decoded, not
 * to what a header says (see `Output`); every loop either consumes input or fills output, so that time is bounded as well.
 */
import { KernelImageError, type ErrorCode, type ErrorData } from '../../errors.ts';

/** The compressions of arch/x86/boot/compressed/Makefile, by the names of their CONFIG_KERNEL_* choices. */
export type Compression = 'gzip' | 'bzip2' | 'lzma' | 'xz' | 'lzo' | 'lz4' | 'zstd';

/**
 * Decodes a payload to exactly `size` bytes, or throws `KernelImageError`.
 *
 * `data`: the payload without the u32 that the build appends (`size_append` in scripts/Makefile.lib); gzip has its own and keeps it.
 * `size`: what the payload claims to decode to; untrusted.
 */
export type Decoder = (data: Uint8Array, size: number) => Uint8Array | Promise<Uint8Array>;

export type Codecs = Readonly<Record<Compression, Decoder>>;

type Details = Omit<ErrorData, 'code' | 'what'>;

/** Errors of one format; offsets count from the start of the payload. */
export class Faults {
  readonly #format: Compression;

  constructor(format: Compression) {
    this.#format = format;
  }

  #error(code: ErrorCode, field: string, details: Details): KernelImageError {
    return new KernelImageError({ code, what: `${this.#format} ${field}`, ...details });
  }

  corrupt(field: string, details: Details = {}): KernelImageError {
    return this.#error('corrupt-data', field, details);
  }

  unsupported(field: string, details: Details = {}): KernelImageError {
    return this.#error('unsupported', field, details);
  }

  /** The payload ends inside `field`. */
  ends(field: string, offset: number): KernelImageError {
    return this.corrupt(field, { offset, found: 'the end of the payload' });
  }

  /** Decodes to fewer (`found` known) or to more bytes than claimed. */
  wrongSize(found: number | undefined, size: number): KernelImageError {
    return this.corrupt('payload size', { found: found ?? 'larger than claimed', expected: size });
  }

  tooLarge(size: number, cause: unknown): KernelImageError {
    return this.#error('too-large', 'payload size', { found: size, hint: 'not enough memory to decode it', cause });
  }
}

/** Compressed kernels shrink 3 to 8 times; room for 16 means that a real one is never moved. */
const FIRST_GUESS = 16;
const SMALLEST = 1 << 20;

/**
 * The decoded bytes, which are also the dictionary that matches copy from.
 *
 * Starts at `size` if the input could plausibly decode to that much; else at a multiple of the input, and doubles as it fills. A lying
 * size thus costs no more than the data behind it does.
 */
export class Output {
  bytes: Uint8Array;
  length = 0;
  readonly #size: number;
  readonly #faults: Faults;

  constructor(size: number, inputLength: number, faults: Faults) {
    this.#size = size;
    this.#faults = faults;
    this.bytes = this.#allocate(Math.min(size, Math.max(SMALLEST, inputLength * FIRST_GUESS)));
  }

  #allocate(length: number): Uint8Array {
    try {
      return new Uint8Array(length);
    } catch (cause) {
      throw this.#faults.tooLarge(this.#size, cause);
    }
  }

  /** Makes room for `count` more bytes; `bytes` may be another array after that. Throws if they would pass `size`. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed > this.#size) throw this.#faults.wrongSize(undefined, this.#size);
    if (needed <= this.bytes.length) return;
    const grown = this.#allocate(Math.min(this.#size, Math.max(needed, this.bytes.length * 2)));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  /** The decoded bytes; throws unless there are exactly `size`. */
  finish(): Uint8Array {
    if (this.length !== this.#size) throw this.#faults.wrongSize(this.length, this.#size);
    return this.bytes.subarray(0, this.length);
  }
}
