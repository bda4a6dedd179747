/**
 * What Node adds to each format: the system's compressor, and a decoder where Node has a faster one than the core. One record a format; a format of
 * the registry (src/codecs/formats.ts) that has none here does not compile.
 */
import { gunzipSync } from 'node:zlib';
import { Faults, type Differs, type Watch } from '../codecs/codec.ts';
import { MAX_GZIP_RATIO, unknownToKernels } from '../codecs/gzip.ts';
import {
  COMPRESSIONS,
  coreCodecs,
  forEachFormat,
  tellingCodecs,
  type Codecs,
  type Compression,
  type Decoder,
} from '../codecs/formats.ts';

interface NodeFormat {
  /**
   * Compresses from standard input to standard output: the programs and options of a kernel build, scripts/Makefile.lib (cmd_gzip, cmd_zstd22 …) and
   * scripts/xz_wrap.sh, at their strongest settings. The kernel's decompressors are known to read what they write.
   */
  readonly compressor: readonly [program: string, ...args: string[]];
  /** Instead of the core's. */
  readonly decode?: Decoder;
}

const NODE_FORMATS: Readonly<Record<Compression, NodeFormat>> = {
  gzip: { compressor: ['gzip', '-n', '-f', '-9'], decode: gunzip },
  bzip2: { compressor: ['bzip2', '-9'] },
  lzma: { compressor: ['lzma', '-9'] },
  // One thread compresses a little better; the dictionary is larger than any kernel, which costs the decompressor nothing.
  xz: { compressor: ['xz', '--check=crc32', '--threads=1', '--x86', '--lzma2=dict=128MiB'] },
  lzo: { compressor: ['lzop', '-9'] },
  // The build's -9 is not the strongest.
  lz4: { compressor: ['lz4', '-l', '-12', '-', '-'] },
  // Four times the search of -22: 5 kB less, in no more time (measured).
  zstd: { compressor: ['zstd', '-22', '--ultra', '--zstd=slog=12'] },
};

export const nodeCodecs: Codecs = forEachFormat((name) => NODE_FORMATS[name].decode ?? coreCodecs[name]);

/** The same, which tell how much they have read (codecs/formats.ts). gzip's does it in one step, and tells nothing. */
export const tellingNodeCodecs = (onRead: (part: number) => void): Codecs => tellingCodecs(nodeCodecs, onRead);

export const compressorOf = (compression: Compression): NodeFormat['compressor'] =>
  NODE_FORMATS[compression].compressor;

/** The programs that compress, one a format. */
export const COMPRESSORS: readonly string[] = COMPRESSIONS.map((name) => compressorOf(name)[0]);

const faults = new Faults('gzip');

/**
 * By Node's own zlib: 57 MB in 130 ms. It reports only what a header says that kernels do not know; where a kernel's decompressor will read the payload,
 * `stockCodecs` is used instead.
 */
function gunzip(data: Uint8Array, size: number, _watch?: Watch, differs?: Differs): Uint8Array {
  const difference = differs && unknownToKernels(data);
  if (difference) differs(difference);
  if (size > data.length * MAX_GZIP_RATIO) throw faults.wrongSize(undefined, size);
  let decoded: Uint8Array;
  try {
    // One chunk that everything fits in; otherwise zlib collects small ones and copies them all. Pages of it that are never written to cost
    // nothing.
    decoded = gunzipSync(data, { chunkSize: Math.max(size + 1, 64), maxOutputLength: Math.max(size, 1) });
  } catch (cause) {
    throw faults.corrupt('payload', { cause });
  }
  if (decoded.length !== size) throw faults.wrongSize(decoded.length, size);
  return decoded;
}
