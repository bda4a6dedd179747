/**
 * Which compression a bzImage's payload is in, and decoders for all seven that work in browsers as in Node.
 *
 * A format has a file that reads its headers and checks everything that can be checked, and an inner loop in WebAssembly (wasm.ts), but
 * for gzip, which the platform has. Node's own gzip is in src/node/codecs.ts.
 */
import { bzip2Program, decodeBzip2 } from './bzip2.ts';
import type { Program } from './arena.ts';
import type { Codecs, Compression } from './codec.ts';
import { decodeGzip } from './gzip.ts';
import { lz4Program, decodeLz4 } from './lz4.ts';
import { lzmaProgram, decodeLzma } from './lzma.ts';
import { lzoProgram, decodeLzo } from './lzo.ts';
import { xzProgram, decodeXz } from './xz.ts';
import { zstdProgram, decodeZstd } from './zstd.ts';

export type { Codecs, Compression, Decoder, Encoder, Encoders, Watch } from './codec.ts';

/** As scripts/extract-vmlinux knows them: longer than the two bytes of the kernel's lib/decompress.c, which is given nothing else. */
const MAGICS: readonly (readonly [Compression, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b, 0x08]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  // Not a magic: the properties byte of lc=3 lp=0 pb=2, and a dictionary size of a multiple of 64 KiB.
  ['lzma', [0x5d, 0x00, 0x00]],
  ['lzo', [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a]],
  ['lz4', [0x02, 0x21, 0x4c, 0x18]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
];

export function detectCompression(payload: Uint8Array): Compression | undefined {
  return MAGICS.find(([, magic]) => magic.every((byte, at) => payload[at] === byte))?.[0];
}

export const coreCodecs: Codecs = {
  gzip: decodeGzip,
  bzip2: decodeBzip2,
  lzma: decodeLzma,
  xz: decodeXz,
  lzo: decodeLzo,
  lz4: decodeLz4,
  zstd: decodeZstd,
};

const PROGRAMS: Readonly<Partial<Record<Compression, Program>>> = {
  bzip2: bzip2Program,
  lzma: lzmaProgram,
  xz: xzProgram,
  lzo: lzoProgram,
  lz4: lz4Program,
  zstd: zstdProgram,
};

/** Has what decodes this compression made ready while something else is done: compiling it takes 8 ms, on another thread (measured, zstd). */
export function prepareDecoder(compression: Compression): void {
  PROGRAMS[compression]?.prepare();
}
