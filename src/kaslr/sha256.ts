/** SHA-256 (FIPS 180-4), for the few bytes that a seed is mixed with. The core cannot use a platform's crypto functions. Names are the standard's. */
import { Reader, Writer } from '../base/bytes.ts';

const BLOCK = 64;
/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes, and of the square roots of the first 8. */
const K = Uint32Array.of(
  0x428a_2f98,
  0x7137_4491,
  0xb5c0_fbcf,
  0xe9b5_dba5,
  0x3956_c25b,
  0x59f1_11f1,
  0x923f_82a4,
  0xab1c_5ed5,
  0xd807_aa98,
  0x1283_5b01,
  0x2431_85be,
  0x550c_7dc3,
  0x72be_5d74,
  0x80de_b1fe,
  0x9bdc_06a7,
  0xc19b_f174,
  0xe49b_69c1,
  0xefbe_4786,
  0x0fc1_9dc6,
  0x240c_a1cc,
  0x2de9_2c6f,
  0x4a74_84aa,
  0x5cb0_a9dc,
  0x76f9_88da,
  0x983e_5152,
  0xa831_c66d,
  0xb003_27c8,
  0xbf59_7fc7,
  0xc6e0_0bf3,
  0xd5a7_9147,
  0x06ca_6351,
  0x1429_2967,
  0x27b7_0a85,
  0x2e1b_2138,
  0x4d2c_6dfc,
  0x5338_0d13,
  0x650a_7354,
  0x766a_0abb,
  0x81c2_c92e,
  0x9272_2c85,
  0xa2bf_e8a1,
  0xa81a_664b,
  0xc24b_8b70,
  0xc76c_51a3,
  0xd192_e819,
  0xd699_0624,
  0xf40e_3585,
  0x106a_a070,
  0x19a4_c116,
  0x1e37_6c08,
  0x2748_774c,
  0x34b0_bcb5,
  0x391c_0cb3,
  0x4ed8_aa4a,
  0x5b9c_ca4f,
  0x682e_6ff3,
  0x748f_82ee,
  0x78a5_636f,
  0x84c8_7814,
  0x8cc7_0208,
  0x90be_fffa,
  0xa450_6ceb,
  0xbef9_a3f7,
  0xc671_78f2,
);
const H0 = Uint32Array.of(
  0x6a09_e667,
  0xbb67_ae85,
  0x3c6e_f372,
  0xa54f_f53a,
  0x510e_527f,
  0x9b05_688c,
  0x1f83_d9ab,
  0x5be0_cd19,
);

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
