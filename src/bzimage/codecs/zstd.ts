/** zstd through the reference implementation (libzstd as WebAssembly). */
import { ZSTDDecoder } from 'zstddec';
import { Faults } from './codec.ts';

const faults = new Faults('zstd');

export async function decodeZstd(data: Uint8Array, size: number): Promise<Uint8Array> {
  const decoder = new ZSTDDecoder();
  await decoder.init();
  let decoded: Uint8Array;
  try {
    decoded = decoder.decode(data, size);
  } catch (cause) {
    throw faults.corrupt('payload', { cause });
  }
  if (decoded.length !== size) throw faults.wrongSize(decoded.length, size);
  return decoded;
}
