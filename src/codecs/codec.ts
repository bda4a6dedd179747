/**
 * What the decoders of all formats have in common: their type, their record in the registry, and their errors.
 *
 * Each is given bytes that an attacker may have written, and a size that an attacker may have claimed. The rules, for all of them:
 *
 * - nothing but `KernelImageError` is thrown;
 * - the result is never more than `size` bytes;
 * - memory grows with what was really decoded, not with what a header claims (`Arena.create`);
 * - every round of a loop consumes input or produces output, so time is bounded as well.
 */
import { KernelImageError, type ErrorCode, type ErrorData } from '../base/errors.ts';
import type { DecoderProgram } from './decoder-program.ts';

/**
 * Decodes a payload to exactly `size` bytes, or throws `KernelImageError`.
 *
 * `data`: the payload without the u32 that the build appends (`size_append` in scripts/Makefile.lib); gzip has its own and keeps it.
 * `size`: what the payload claims to decode to; untrusted.
 * `watch`: sees the bytes while they are decoded.
 * `differs`: is told where the decompressors in kernels would not read this payload as the decoder does.
 * `onRead`: is told how much of `data` has been read.
 */
export type Decoder = (
  data: Uint8Array,
  size: number,
  watch?: Watch,
  differs?: Differs,
  onRead?: OnRead,
) => Uint8Array | Promise<Uint8Array>;

/**
 * Called when the first `end` of `bytes` are decoded. They will not change, but the rest may still turn out to be corrupt. `bytes` is the array that
 * the decoder returns in the end, the same one in each call. A decoder calls this as often as it likes, or never.
 */
export type Watch = (bytes: Uint8Array, end: number) => void;

/**
 * Called with each place where a decompressor in a kernel from 5.4 on (lib/decompress_*.c) would not read the stream as our decoder does: it would
 * refuse it, or decode other bytes. The decoder goes on, unless this throws.
 *
 * Our decoders may read more than the kernel's. What both read, both must read alike: docs/codecs.md, "What kernels read".
 */
export type Differs = (difference: KernelImageError) => void;

/**
 * Called with how many bytes of the payload have been read, which says more about the time that is left than how many were written. The numbers rise; the
 * last may be less than all. Each call is after another hundredth of the payload or more. A decoder of a platform may never call it.
 */
export type OnRead = (bytes: number) => void;

/** The way back: makes a stream that the kernel's own decompressor reads, without the size word that the build appends. */
export type Encoder = (data: Uint8Array) => Promise<Uint8Array>;

/** A format, as the registry has it (formats.ts). */
export interface Format {
  /** The first bytes, as scripts/extract-vmlinux knows them: more than the two that suffice for lib/decompress.c, which sees nothing but payloads. */
  readonly magic: readonly number[];
  readonly decode: Decoder;
  /** The WebAssembly that `decode` uses, to be compiled ahead of time. */
  readonly program?: DecoderProgram;
}

/** A magic that the format's specification has as a little-endian u32. */
export function magicBytes(word: number): number[] {
  return [0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff);
}

type Details = Omit<ErrorData, 'code' | 'what'>;

/** Errors of one format; offsets count from the start of the payload. */
export class Faults {
  readonly #format: string;

  constructor(format: string) {
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

  /** Something that our decoder reads, and the kernel's reads differently or not at all. */
  differs(field: string, details: Details): KernelImageError {
    return this.#error('read-differently', field, details);
  }

  /** The payload ends inside `field`. */
  ends(field: string, offset: number): KernelImageError {
    return this.corrupt(field, { offset, found: 'the end of the payload' });
  }

  /** It decodes to fewer bytes than claimed, `found`, or to more: then `found` is undefined, as decoding stopped. */
  wrongSize(found: number | undefined, size: number): KernelImageError {
    return this.corrupt('payload size', { found: found ?? 'larger than claimed', expected: size });
  }

  tooLarge(size: number, cause: unknown): KernelImageError {
    return this.#error('too-large', 'payload size', { found: size, hint: 'not enough memory to decode it', cause });
  }
}
