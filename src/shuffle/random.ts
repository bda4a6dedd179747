/**
 * Random numbers from a seed: ChaCha20 (RFC 8439) with the seed as its key, nonce and counter from zero. A layout is a secret that is worth as much as its
 * seed, so the generator must not be the weaker of the two; and it must be the same everywhere, which no library's shuffle is.
 */
import { wordsOfBytes } from '../base/bytes.ts';

const KEY_BYTES = 32;
const CONSTANTS = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]; // "expand 32-byte k"

export interface Random {
  /** 32 bits. */
  next(): number;
  /** A whole number from 0 up to, not including, `bound`, each as likely: RFC 8439 says nothing of it; rejection does. */
  below(bound: number): number;
  /** Every order of the elements as likely as any other (Fisher and Yates). */
  shuffle(array: Uint32Array): void;
}

/** `seed`: up to KEY_BYTES bytes, zeros after it. */
export function makeRandom(seed: Uint8Array): Random {
  if (seed.length > KEY_BYTES) throw new RangeError(`a seed of ${seed.length} bytes`);
  const key = new Uint8Array(KEY_BYTES);
  key.set(seed);
  const state = new Int32Array(16); // signed, which V8 keeps in registers
  state.set(CONSTANTS);
  state.set(wordsOfBytes(key), 4);
  const block = new Int32Array(16);
  let used = 16;
  const next = (): number => {
    if (used === 16) {
      chachaBlock(state, block);
      state[12] = state[12]! + 1; // 2^32 blocks are far more than any kernel's layout takes
      used = 0;
    }
    return block[used++]! >>> 0;
  };
  const below = (bound: number): number => {
    const limit = 0x1_0000_0000 - (0x1_0000_0000 % bound);
    let value = next();
    while (value >= limit) value = next();
    return value % bound;
  };
  return {
    next,
    below,
    shuffle(array) {
      for (let last = array.length - 1; last > 0; last--) {
        const other = below(last + 1);
        const value = array[last]!;
        array[last] = array[other]!;
        array[other] = value;
      }
    },
  };
}

function chachaBlock(input: Int32Array, output: Int32Array): void {
  output.set(input);
  for (let round = 0; round < 10; round++) {
    quarterRound(output, 0, 4, 8, 12);
    quarterRound(output, 1, 5, 9, 13);
    quarterRound(output, 2, 6, 10, 14);
    quarterRound(output, 3, 7, 11, 15);
    quarterRound(output, 0, 5, 10, 15);
    quarterRound(output, 1, 6, 11, 12);
    quarterRound(output, 2, 7, 8, 13);
    quarterRound(output, 3, 4, 9, 14);
  }
  for (let word = 0; word < 16; word++) output[word] = (output[word]! + input[word]!) | 0;
}

function quarterRound(x: Int32Array, a: number, b: number, c: number, d: number): void {
  x[a] = (x[a]! + x[b]!) | 0;
  x[d] = rotateLeft(x[d]! ^ x[a]!, 16);
  x[c] = (x[c]! + x[d]!) | 0;
  x[b] = rotateLeft(x[b]! ^ x[c]!, 12);
  x[a] = (x[a]! + x[b]!) | 0;
  x[d] = rotateLeft(x[d]! ^ x[a]!, 8);
  x[c] = (x[c]! + x[d]!) | 0;
  x[b] = rotateLeft(x[b]! ^ x[c]!, 7);
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
