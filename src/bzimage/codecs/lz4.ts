/**
 * The legacy frame of LZ4, which is what `lz4 -l` writes and the only one that kernels use.
 *
 *   u32 magic 0x184C2102 | (u32 compressed size | block) ...
 *
 * Each block decodes to 8 MiB, the last to less, and is independent of the others. There is no end mark and no checksum: the data
 * ends where the file does. Sources: lz4_Frame_format.md, "Legacy frame"; lz4_Block_format.md; lib/decompress_unlz4.c in the kernel.
 */
import { Reader } from '../../bytes.ts';
import { Faults, Output } from './codec.ts';

const MAGIC = 0x184c2102;
const BLOCK_SIZE = 8 << 20;
const MIN_MATCH = 4;

const faults = new Faults('lz4');

export function decodeLz4(data: Uint8Array, size: number): Uint8Array {
  if (data.length < 4) throw faults.ends('magic', data.length);
  const reader = new Reader(data);
  const magic = reader.u32(0, 'magic');
  if (magic !== MAGIC) throw faults.corrupt('magic', { offset: 0, found: magic, expected: MAGIC });
  const output = new Output(size, data.length, faults);
  let at = 4;
  while (at < data.length) {
    if (data.length - at < 4) throw faults.ends('block size', data.length);
    const length = reader.u32(at, 'block size');
    at += 4;
    if (length > data.length - at) {
      throw faults.corrupt('block size', { offset: at - 4, found: length, expected: `at most ${data.length - at}` });
    }
    const room = Math.min(BLOCK_SIZE, size - output.length);
    output.reserve(room);
    output.length = decodeBlock(data, at, at + length, output.bytes, output.length, output.length + room);
    at += length;
  }
  return output.finish();
}

/** Decodes data[from..end) to out[start..limit) and returns where it ended. */
function decodeBlock(
  data: Uint8Array,
  from: number,
  end: number,
  out: Uint8Array,
  start: number,
  limit: number,
): number {
  let at = from;
  let to = start;
  while (at < end) {
    const token = data[at++]!;
    let literals = token >> 4;
    if (literals === 15) {
      let more: number;
      do {
        if (at >= end) throw faults.ends('literal length', at);
        more = data[at++]!;
        literals += more;
      } while (more === 255);
    }
    if (literals > end - at) throw faults.ends('literals', end);
    if (literals > limit - to) throw faults.wrongSize(undefined, limit);
    if (literals > 32) {
      out.set(data.subarray(at, at + literals), to);
      at += literals;
      to += literals;
    } else {
      for (const stop = at + literals; at < stop;) out[to++] = data[at++]!;
    }
    // The last sequence has no match.
    if (at === end) return to;

    if (end - at < 2) throw faults.ends('match offset', end);
    const offset = data[at]! | (data[at + 1]! << 8);
    at += 2;
    let length = (token & 15) + MIN_MATCH;
    if (length === 15 + MIN_MATCH) {
      let more: number;
      do {
        if (at >= end) throw faults.ends('match length', at);
        more = data[at++]!;
        length += more;
      } while (more === 255);
    }
    if (offset === 0 || offset > to - start) throw faults.corrupt('match offset', { offset: at, found: offset });
    if (length > limit - to) throw faults.wrongSize(undefined, limit);
    if (offset >= length && length > 32) {
      out.copyWithin(to, to - offset, to - offset + length);
      to += length;
    } else {
      let source = to - offset;
      for (const stop = to + length; to < stop;) out[to++] = out[source++]!;
    }
  }
  throw faults.ends('block', end);
}
