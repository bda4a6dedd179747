/**
 * The .lzma format ("LZMA_Alone"): 13 bytes of header, then one LZMA stream.
 *
 *   0  u8   properties: (pb * 5 + lp) * 9 + lc
 *   1  u32  dictionary size
 *   5  u64  uncompressed size, or all ones: unknown, the stream then ends with a marker
 *
 * There is no checksum: damaged bytes are noticed if they break the structure, or change the size. Source: lzma-specification.txt in
 * the LZMA SDK; the kernel's reader is lib/decompress_unlzma.c.
 */
import { Reader } from '../../bytes.ts';
import { Faults, Output } from './codec.ts';
import { LzmaDecoder, MATCH_MAX_LEN, propertiesOf } from './lzma-decoder.ts';

const HEADER_SIZE = 13;
const UNKNOWN_SIZE = 0xffff_ffff_ffff_ffffn;

const faults = new Faults('lzma');

export function decodeLzma(data: Uint8Array, size: number): Uint8Array {
  if (data.length < HEADER_SIZE) throw faults.ends('header', data.length);
  const reader = new Reader(data);
  const properties = propertiesOf(data[0]!);
  if (!properties) throw faults.corrupt('properties', { offset: 0, found: data[0], expected: 'less than 0xe1' });
  const claimed = reader.u64(5, 'uncompressed size');
  if (claimed !== UNKNOWN_SIZE && claimed !== BigInt(size)) {
    throw faults.corrupt('uncompressed size', { offset: 5, found: claimed, expected: size });
  }

  const decoder = new LzmaDecoder(faults);
  decoder.setProperties(properties);
  decoder.resetState();
  decoder.startRange(data, HEADER_SIZE, data.length);
  const output = new Output(size, data.length, faults);
  for (;;) {
    const capacity = output.bytes.length;
    const full = capacity === size;
    const known = claimed !== UNKNOWN_SIZE && output.length < size;
    const stopAt = full ? (known ? size : size + 1) : capacity - MATCH_MAX_LEN;
    const reached = decoder.run(data, data.length, output.bytes, output.length, stopAt, capacity, 0);
    if (decoder.position > data.length) throw faults.ends('data', data.length);
    output.length = reached < 0 ? ~reached : reached;
    if (reached < 0) break;
    // The size was known, so there need not be a marker, but there may be one.
    if (full && decoder.position === data.length) break;
    if (!full) output.reserve(MATCH_MAX_LEN + 1 < size - output.length ? MATCH_MAX_LEN + 1 : size - output.length);
  }
  if (decoder.position !== data.length) {
    throw faults.corrupt('data', { offset: decoder.position, found: 'bytes after the end of the stream' });
  }
  return output.finish();
}
