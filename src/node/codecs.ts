/** The decoders that Node has natively, over those of the core. */
import zlib from 'node:zlib';
import { Faults } from '../bzimage/codecs/codec.ts';
import { coreCodecs, type Codecs, type Decoder } from '../bzimage/codecs/index.ts';

/** Runs one of zlib's one-shot functions; they throw on corrupt data, and on more than `maxOutputLength` bytes. */
function checked(faults: Faults, size: number, decode: () => Uint8Array): Uint8Array {
  let decoded: Uint8Array;
  try {
    decoded = decode();
  } catch (cause) {
    throw faults.corrupt('payload', { cause });
  }
  if (decoded.length !== size) throw faults.wrongSize(decoded.length, size);
  return decoded;
}

const gzip: Decoder = (data, size) =>
  checked(new Faults('gzip'), size, () => zlib.gunzipSync(data, { maxOutputLength: Math.max(size, 1) }));

/** From Node 22.15 on. */
const { zstdDecompressSync } = zlib as { zstdDecompressSync?: (data: Uint8Array, options: object) => Uint8Array };

const zstd: Decoder = zstdDecompressSync
  ? (data, size) =>
      checked(new Faults('zstd'), size, () => zstdDecompressSync(data, { maxOutputLength: Math.max(size, 1) }))
  : coreCodecs.zstd;

export const nodeCodecs: Codecs = { ...coreCodecs, gzip, zstd };
