/** SHA-256 (FIPS 180-4) for the few bytes that a seed is mixed with: the core has no crypto of a platform's. Names are the standard's. */
import { Reader, Writer } from '../bytes.ts';

const BLOCK = 64;
const { K, H0 } = constants();

export function sha256(message: Uint8Array): Uint8Array {
  const padded = new Writer(new Uint8Array(Math.ceil((message.length + 9) / BLOCK) * BLOCK));
  padded.copy(0, message);
  padded.u8(message.length, 0x80);
  u64be(padded, padded.bytes.length - 8, message.length * 8);
  const reader = new Reader(padded.bytes);
  const H = H0.slice();
  for (let at = 0; at < reader.length; at += BLOCK) compress(H, reader, at);
  const digest = new Writer(new Uint8Array(32));
  H.forEach((word, index) => u32be(digest, index * 4, word));
  return digest.bytes;
}

function compress(H: Uint32Array, block: Reader, at: number): void {
  const W = new Uint32Array(64);
  for (let t = 0; t < 16; t++) W[t] = block.u32be(at + t * 4, 'message');
  for (let t = 16; t < 64; t++) {
    const [x, y] = [W[t - 15]!, W[t - 2]!];
    const s0 = rotr(x, 7) ^ rotr(x, 18) ^ (x >>> 3);
    const s1 = rotr(y, 17) ^ rotr(y, 19) ^ (y >>> 10);
    W[t] = W[t - 16]! + s0 + W[t - 7]! + s1;
  }
  let [a, b, c, d, e, f, g, h] = H as unknown as [number, number, number, number, number, number, number, number];
  for (let t = 0; t < 64; t++) {
    const S1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
    const S0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
    const T1 = (h + S1 + ((e & f) ^ (~e & g)) + K[t]! + W[t]!) | 0;
    const T2 = (S0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + T1) | 0, c, b, a, (T1 + T2) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, index) => (H[index] = H[index]! + word));
}

function rotr(word: number, by: number): number {
  return (word >>> by) | (word << (32 - by));
}

function u32be(writer: Writer, at: number, word: number): void {
  for (let byte = 0; byte < 4; byte++) writer.u8(at + byte, word >>> (24 - 8 * byte));
}

function u64be(writer: Writer, at: number, value: number): void {
  u32be(writer, at, Math.floor(value / 2 ** 32));
  u32be(writer, at + 4, value % 2 ** 32);
}

/** The first 32 bits of the fractional parts of cube roots (K) and square roots (H0) of the first primes: worked out, in whole numbers. */
function constants(): { K: Uint32Array; H0: Uint32Array } {
  const primes: number[] = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  const fraction = (prime: number, power: 2 | 3): number =>
    Number(BigInt.asUintN(32, integerRoot(BigInt(prime) << BigInt(32 * power), power)));
  return {
    K: Uint32Array.from(primes, (prime) => fraction(prime, 3)),
    H0: Uint32Array.from(primes.slice(0, 8), (prime) => fraction(prime, 2)),
  };
}

/** The greatest whole number whose `power` is at most `value`. */
function integerRoot(value: bigint, power: 2 | 3): bigint {
  let root = 0n;
  for (let bit = 1n << 40n; bit > 0n; bit >>= 1n) if ((root + bit) ** BigInt(power) <= value) root += bit;
  return root;
}
