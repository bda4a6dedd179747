/**
 * Tells kernels apart that call themselves the same build: FNV-1a over 32-bit words. Against mistakes, not against attackers: who can change a kernel needs
 * no collision.
 */
import { wordsOfBytes } from '../bytes.ts';

const OFFSET_BASIS = 0x811c_9dc5;
const PRIME = 0x0100_0193;

/** A u32. Bytes behind the last whole word do not count, but their number does. */
export function fingerprint(bytes: Uint8Array): number {
  const words = wordsOfBytes(bytes.subarray(0, bytes.length - (bytes.length % 4)));
  let hash = OFFSET_BASIS ^ bytes.length;
  for (let index = 0; index < words.length; index++) {
    hash = Math.imul(hash ^ words[index]!, PRIME);
    hash ^= hash >>> 15; // else a word's high bits would never reach the hash's low ones
  }
  return hash >>> 0;
}
