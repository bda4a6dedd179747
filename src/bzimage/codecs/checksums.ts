/**
 * The checksums of the containers: CRC-32 (xz, lzop), CRC-64 (xz) and Adler-32 (lzop).
 *
 * Both CRCs are of the reflected kind. CRC-32 runs "slicing by 8" (M. Kounavis, F. Berry: A Systematic Approach to Building High
 * Performance, Software-based, CRC Generators, 2005): eight tables turn eight bytes into one step without a chain of dependent
 * lookups.
 */
import { viewOf } from '../../bytes.ts';

/** IEEE 802.3, reflected. */
const CRC32_POLYNOMIAL = 0xedb88320;
const SLICES = 8;

function crc32Tables(): Uint32Array {
  const tables = new Uint32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ CRC32_POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let entry = 256; entry < tables.length; entry++) {
    const before = tables[entry - 256]!;
    tables[entry] = (before >>> 8) ^ tables[before & 0xff]!;
  }
  return tables;
}

let tables32: Uint32Array | undefined;

export function crc32(bytes: Uint8Array): number {
  const t = (tables32 ??= crc32Tables());
  const view = viewOf(bytes);
  const end = bytes.length;
  let crc = -1;
  let at = 0;
  for (; at + 8 <= end; at += 8) {
    const low = view.getInt32(at, true) ^ crc;
    const high = view.getInt32(at + 4, true);
    crc =
      t[1792 + (low & 0xff)]! ^
      t[1536 + ((low >>> 8) & 0xff)]! ^
      t[1280 + ((low >>> 16) & 0xff)]! ^
      t[1024 + (low >>> 24)]! ^
      t[768 + (high & 0xff)]! ^
      t[512 + ((high >>> 8) & 0xff)]! ^
      t[256 + ((high >>> 16) & 0xff)]! ^
      t[high >>> 24]!;
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ t[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}

/** ECMA-182, reflected: two halves, since a BigInt a byte would take minutes. */
const CRC64_POLYNOMIAL = { low: 0xd7870f42, high: 0xc96c5795 };

export function crc64(bytes: Uint8Array): bigint {
  const lows = new Int32Array(256);
  const highs = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let low = byte;
    let high = 0;
    for (let bit = 0; bit < 8; bit++) {
      const odd = low & 1;
      low = (low >>> 1) | (high << 31);
      high >>>= 1;
      if (odd) {
        low ^= CRC64_POLYNOMIAL.low;
        high ^= CRC64_POLYNOMIAL.high;
      }
    }
    lows[byte] = low;
    highs[byte] = high;
  }
  let low = -1;
  let high = -1;
  for (let at = 0; at < bytes.length; at++) {
    const entry = (low ^ bytes[at]!) & 0xff;
    low = ((low >>> 8) | (high << 24)) ^ lows[entry]!;
    high = (high >>> 8) ^ highs[entry]!;
  }
  return (BigInt(~high >>> 0) << 32n) | BigInt(~low >>> 0);
}

/** RFC 1950, section 9. The sums stay below 2^53 for longer than a lzop block lasts, but below 2^31 only for 5552 bytes. */
export function adler32(bytes: Uint8Array): number {
  let a = 1;
  let b = 0;
  for (let at = 0; at < bytes.length;) {
    for (const end = Math.min(at + 5552, bytes.length); at < end; at++) {
      a += bytes[at]!;
      b += a;
    }
    a %= 65521;
    b %= 65521;
  }
  return ((b << 16) | a) >>> 0;
}
