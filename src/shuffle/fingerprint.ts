/**
 * Tells kernels apart that call themselves the same build: FNV-1a over 32-bit words. Against mistakes, not against attackers: who can change a kernel needs
 * no collision.
 */
import { wordsIn } from '../base/bytes.ts';

const OFFSET_BASIS = 0x811c_9dc5;
const PRIME = 0x0100_0193;

/** A u32. Bytes behind the last whole word do not count, but their number does. Four lanes, because a multiplication waits for the one before it. */
export function fingerprint(bytes: Uint8Array): number {
  const words = wordsIn(bytes.subarray(0, bytes.length - (bytes.length % 4)));
  let [a, b, c, d] = [OFFSET_BASIS, OFFSET_BASIS + 1, OFFSET_BASIS + 2, OFFSET_BASIS ^ bytes.length];
  let index = 0;
  for (const end = words.length - (words.length % 4); index < end; index += 4) {
    a = mix(a, words[index]! | 0);
    b = mix(b, words[index + 1]! | 0);
    c = mix(c, words[index + 2]! | 0);
    d = mix(d, words[index + 3]! | 0);
  }
  for (; index < words.length; index++) a = mix(a, words[index]! | 0);
  return mix(mix(mix(a, b), c), d) >>> 0;
}

function mix(hash: number, word: number): number {
  const product = Math.imul(hash ^ word, PRIME);
  return product ^ (product >>> 15); // else a word's high bits would never reach the hash's low ones
}
