/** bzip2 through the reference implementation (libbz2 as WebAssembly), which checks the CRCs of all blocks and of the whole. */
import Bzip2 from '@foxglove/wasm-bz2';
import { Faults } from './codec.ts';

const faults = new Faults('bzip2');

export async function decodeBzip2(data: Uint8Array, size: number): Promise<Uint8Array> {
  // A new instance each time: its memory grows and never shrinks, so a kept one would hold the largest kernel for good.
  const library = await Bzip2.init();
  let decoded: Uint8Array;
  try {
    decoded = library.decompress(data, size);
  } catch (cause) {
    throw faults.corrupt('payload', { cause });
  }
  if (decoded.length !== size) throw faults.wrongSize(decoded.length, size);
  return decoded;
}
