/**
 * The formats that the payload of a bzImage can be in: the registry. Everything that depends on the format is a loop over it, and the names in it
 * are the type `Compression`; docs/codecs.md says how to add one. src/node/codecs.ts has what Node adds to each format.
 */
import { bzip2 } from './bzip2.ts';
import type { Decoder, Encoder, Format } from './codec.ts';
import { gzip } from './gzip.ts';
import { lz4 } from './lz4.ts';
import { lzma } from './lzma.ts';
import { lzo } from './lzo.ts';
import { xz } from './xz.ts';
import { zstd } from './zstd.ts';

export type { Decoder, Differs, Encoder, OnRead, Watch } from './codec.ts';

/** The compressions of arch/x86/boot/compressed/Makefile, by the names of their CONFIG_KERNEL_* choices; messages list them in this order. */
const FORMATS = { gzip, bzip2, lzma, xz, lzo, lz4, zstd } as const satisfies Readonly<Record<string, Format>>;

export type Compression = keyof typeof FORMATS;

export type Codecs = Readonly<Record<Compression, Decoder>>;

export type Encoders = Readonly<Record<Compression, Encoder>>;

export const COMPRESSIONS = Object.keys(FORMATS) as readonly Compression[];

/** An object with a property for each format, as `make` makes it. */
export function forEachFormat<T>(make: (compression: Compression) => T): Readonly<Record<Compression, T>> {
  return Object.fromEntries(COMPRESSIONS.map((name) => [name, make(name)])) as Record<Compression, T>;
}

/** Decoders that work in browsers as in Node. */
export const coreCodecs: Codecs = forEachFormat((name) => FORMATS[name].decode);

/**
 * For payloads that a kernel's decompressor will read: these decode only what the decompressors in kernels from 5.4 on read the same, and throw
 * `read-differently` for the rest (docs/codecs.md, "What kernels read"). The checks are made while decoding. The
 * platform's decoders are not used: they do not say enough.
 */
export const stockCodecs: Codecs = forEachFormat(
  (name) => (data, size, watch) =>
    FORMATS[name].decode(data, size, watch, (difference) => {
      throw difference;
    }),
);

/** The same decoders, which tell how much of the payload they have read: a part of 1, rising. */
export function tellingCodecs(codecs: Codecs, onRead: (part: number) => void): Codecs {
  return forEachFormat(
    (name) => (data, size, watch, differs) =>
      codecs[name](data, size, watch, differs, (bytes) => onRead(bytes / data.length)),
  );
}

export function detectCompression(payload: Uint8Array): Compression | undefined {
  return COMPRESSIONS.find((name) => FORMATS[name].magic.every((byte, at) => payload[at] === byte));
}

/**
 * Starts to compile the decoder of a format on another thread, so that it is ready when the payload has been read: compiling takes 8 ms (measured,
 * zstd).
 */
export function prepareDecoder(compression: Compression): void {
  FORMATS[compression].program?.prepare();
}
