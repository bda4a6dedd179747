/**
 * What the seven decoders have in common: their type and their errors.
 *
 * Each is given bytes that an attacker may have written, and a size that an attacker may have claimed. The rules, for all of them:
 * nothing but `KernelImageError` comes out; never more than `size` bytes; memory in proportion to what was really decoded, not to what
 * a header says (`Arena.create`); every round of a loop takes input or gives output, so that time is bounded as well.
 */
import { KernelImageError, type ErrorCode, type ErrorData } from '../base/errors.ts';

/** The compressions of arch/x86/boot/compressed/Makefile, by the names of their CONFIG_KERNEL_* choices. */
export type Compression = 'gzip' | 'bzip2' | 'lzma' | 'xz' | 'lzo' | 'lz4' | 'zstd';

/**
 * Decodes a payload to exactly `size` bytes, or throws `KernelImageError`.
 *
 * `data`: the payload without the u32 that the build appends (`size_append` in scripts/Makefile.lib); gzip has its own and keeps it.
 * `size`: what the payload claims to decode to; untrusted.
 * `watch`: who wants to see it while it comes in.
 */
export type Decoder = (data: Uint8Array, size: number, watch?: Watch) => Uint8Array | Promise<Uint8Array>;

/**
 * The first `end` of `bytes` are there, and will not change; whether the rest can be decoded is not known. `bytes` is the array that the decoder
 * gives in the end, the same one in each call. A decoder calls this as often as it likes, and need not.
 */
export type Watch = (bytes: Uint8Array, end: number) => void;

export type Codecs = Readonly<Record<Compression, Decoder>>;

/** The way back: a stream that the kernel's own decompressor reads, without the size word that the build appends. */
export type Encoder = (data: Uint8Array) => Promise<Uint8Array>;

export type Encoders = Readonly<Record<Compression, Encoder>>;

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
