/**
 * Payloads that are nearly right, for comparing decoders: a few bytes changed, moved, dropped or repeated, and then the checksums and the claimed size
 * put right, so that a decoder does not refuse them for those.
 */
import { KernelImageError } from '../../src/base/errors.ts';
import { stockCodecs, type Codecs, type Compression } from '../../src/codecs/formats.ts';
import type { Random } from './tools.ts';

export interface Made {
  /** Without the size word. */
  readonly data: Uint8Array;
  readonly size: number;
}

/** What a decoder says of it: the bytes, or the error. */
export async function attempt(
  codecs: Codecs,
  compression: Compression,
  { data, size }: Made,
): Promise<Uint8Array | KernelImageError> {
  try {
    return await codecs[compression](data, size);
  } catch (error) {
    if (error instanceof KernelImageError) return error;
    throw error;
  }
}

export function mutate(bytes: Uint8Array, random: Random): Uint8Array {
  let result = bytes.slice();
  for (let count = 1 + random.below(3); count > 0; count--) {
    // Headers are short and decide much: half of the changes are in the first 40 bytes.
    const reach = random.below(2) === 0 ? Math.min(40, result.length) : result.length;
    const at = random.below(Math.max(1, reach));
    const length = 1 + random.below(6);
    const other = random.below(Math.max(1, result.length - length));
    switch (random.below(7)) {
      case 0:
      case 1:
        result[at]! ^= 1 << random.below(8);
        break;
      case 2:
        result[at] = random.below(256);
        break;
      case 3:
        result[at] = [0, 1, 0x7f, 0x80, 0xff, 0x10, 0x20][random.below(7)]!;
        break;
      case 4:
        result.copyWithin(at, other, other + length);
        break;
      case 5:
        result = new Uint8Array([...result.subarray(0, at), ...result.subarray(at + length)]);
        break;
      default:
        result = new Uint8Array([
          ...result.subarray(0, at),
          ...result.subarray(other, other + length),
          ...result.subarray(at),
        ]);
    }
  }
  return result;
}

/** How many bytes each checksum has, and their order. */
const WIDE = /CRC64/;
const CHECKSUM = /CRC|checksum|check$/i;

/** Puts right, as far as that is possible, what keeps `stockCodecs` from decoding it: checksums, and the claimed size. */
export async function repair(compression: Compression, made: Made): Promise<Made> {
  let { size } = made;
  const data = made.data.slice();
  for (let round = 0; round < 12; round++) {
    const found = await attempt(stockCodecs, compression, { data, size });
    if (!(found instanceof KernelImageError) || found.code !== 'corrupt-data') break;
    const { what, offset, expected, found: wrong } = found.data;
    if (what.endsWith('payload size') && typeof wrong === 'number' && wrong > 0) {
      size = wrong;
      continue;
    }
    if (typeof expected !== 'number' && typeof expected !== 'bigint') break;
    if (compression === 'bzip2' && typeof wrong === 'number' && CHECKSUM.test(what)) {
      // Checksums are anywhere in a byte.
      if (!replaceBits(data, offset! * 8, wrong, Number(expected))) break;
    } else if ((CHECKSUM.test(what) || what === 'gzip size') && offset !== undefined) {
      const width = WIDE.test(what) || expected > 0xffff_ffff ? 8 : 4;
      if (offset + width > data.length) break;
      for (let i = 0; i < width; i++) {
        const place = compression === 'lzo' ? offset + width - 1 - i : offset + i;
        data[place] = Number((BigInt(expected) >> BigInt(8 * i)) & 0xffn);
      }
    } else if (/uncompressed size|frame content size/.test(what) && typeof wrong === 'number' && wrong > 0) {
      size = wrong;
    } else break;
  }
  return { data, size };
}

/** Replaces 32 bits with the value `found`, the first such after the bit `from`. */
function replaceBits(data: Uint8Array, from: number, found: number, expected: number): boolean {
  const bit = (at: number): number => (data[at >> 3]! >> (7 - (at & 7))) & 1;
  for (let start = Math.max(0, from - 8); start < Math.min(from + 200, data.length * 8 - 32); start++) {
    let value = 0;
    for (let i = 0; i < 32; i++) value = value * 2 + bit(start + i);
    if (value !== found) continue;
    for (let i = 0; i < 32; i++) {
      const at = start + i;
      const mask = 0x80 >> (at & 7);
      data[at >> 3]! &= ~mask;
      if ((expected >>> (31 - i)) & 1) data[at >> 3]! |= mask;
    }
    return true;
  }
  return false;
}
