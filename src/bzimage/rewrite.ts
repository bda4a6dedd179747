/**
 * Puts another payload into a bzImage. Everything else stays unchanged, except the fields that depend on the payload's length.
 *
 *     boot sector, setup code | decompressor head | payload | decompressor text, rodata, data | CRC-32 |   signature
 *                                                   ^ in place, up to the old end                        ^ dropped
 *
 * The decompressor's code depends on where its payload ends, so the new payload must fit into the old one's place. Besides the payload, this patches:
 *
 * - `payload_length`, and the pair (input_len, output_len), which piggy.S puts into the decompressor's read-only data (since 5.10);
 * - `init_size`, see `initSizeFor`. If the image has an EFI stub that decompresses in place (before 6.6), SizeOfImage and the last section grow with
 *   it;
 * - the CRC-32 after the image, if tools/build wrote one;
 * - the PE signature, which is now invalid: the certificate table is removed, and CheckSum is 0 again, as before signing.
 */
import { PAGE_SIZE } from '../base/addresses.ts';
import type { FileOffset } from '../base/addresses.ts';
import { alignUp, indexOfBytes, Reader, Writer } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { buildCrc32 } from './crc32.ts';
import { SETUP } from './header.ts';
import type { SetupHeader } from './header.ts';
import type { Payload } from './payload.ts';
import { dropSignature, growImage } from './pe.ts';

const CRC_SIZE = 4;

export interface NewPayload {
  /** The bytes that the decompressor reads: for all compressions except gzip, the size word follows the data. */
  readonly data: Uint8Array;
  /** Its size after decompression. */
  readonly unpackedSize: number;
  /** The kernel's own table follows the kernel, which a smaller table would avoid. */
  readonly tableAtEnd: boolean;
}

export interface Rewritten {
  readonly bytes: Uint8Array;
  readonly initSize: number;
  /** Whether there was a PE signature. It is removed. */
  readonly signatureDropped: boolean;
}

/** Throws KernelImageError if the payload does not fit, or if the decompressor's lengths of its payload cannot be found. */
export function rewritePayload(image: Uint8Array, header: SetupHeader, old: Payload, payload: NewPayload): Rewritten {
  const lengthsAt = findLengths(image, header, old);
  if (payload.data.length > old.length) throw tooLarge(payload, old.length);
  const { bytes, signed } = dropSignature(image);
  const end = Math.max(old.offset + old.length, lengthsAt + 8);
  if (bytes.length < end) throw signatureInside(bytes.length, end);
  const hasCrc = buildCrc32(bytes.subarray(0, -CRC_SIZE)) === new Reader(bytes).u32(bytes.length - CRC_SIZE, 'CRC-32');

  const initSize = initSizeFor(header, old, payload);
  const writer = new Writer(bytes);
  bytes.fill(0, old.offset, old.offset + old.length);
  writer.copy(old.offset, payload.data);
  writer.u32(SETUP.payload_length.offset, payload.data.length);
  writer.u32(lengthsAt, payload.data.length);
  writer.u32(lengthsAt + 4, payload.unpackedSize);
  if (header.initSize !== undefined) {
    writer.u32(SETUP.init_size.offset, initSize);
    growImage(bytes, header.initSize, initSize - header.initSize);
  }
  // Last: it covers all of the above.
  if (hasCrc) writer.u32(bytes.length - CRC_SIZE, buildCrc32(bytes.subarray(0, -CRC_SIZE)));
  return { bytes, initSize, signatureDropped: signed };
}

/**
 * init_size: how much memory a boot loader must find free, from the address where the image runs. header.S computes it as the larger of two sizes:
 *
 *     _end - _text of the kernel, and
 *     size of the decompressor + output_len + (output_len >> 8) + 128 KiB - input_len, rounded up to pages
 *
 * The decompressor puts itself at the end of that memory and unpacks to its start; the second size keeps the unpacked bytes from overtaking
 * the compressed ones. The decompressor's own size is not stored anywhere, so only the differences are added: by how much the unpacked size grows,
 * and by how much the compressed data shrinks. output_len reaches the added segment's end (unpacking.ts), so the segment lies below the decompressor
 * as well. The stub needs that: it runs on the decompressor's page tables.
 */
export function initSizeFor({ initSize = 0 }: SetupHeader, old: Payload, payload: NewPayload): number {
  const margin = (size: number): number => size + (size >>> 8);
  const unpacked = margin(payload.unpackedSize) - margin(old.claimedSize);
  const packed = old.length - payload.data.length;
  const needed = initSize + alignUp(Math.max(0, unpacked + packed), PAGE_SIZE);
  if (needed <= 0xffff_ffff) return needed;
  throw new KernelImageError({
    code: 'too-large',
    what: 'new init_size',
    found: needed,
    expected: 'at most 0xffffffff, what its field holds',
  });
}

/** Where the decompressor has the two lengths of its payload: side by side, exactly once. */
function findLengths(image: Uint8Array, header: SetupHeader, { offset, length, claimedSize }: Payload): FileOffset {
  const pair = new Writer(new Uint8Array(8));
  pair.u32(0, length);
  pair.u32(4, claimedSize);
  const found: FileOffset[] = [];
  for (let at = header.protectedModeStart; found.length < 2; at = found.at(-1)! + 1) {
    const next = indexOfBytes(image, pair.bytes, at);
    if (next < 0) break;
    found.push(next);
  }
  // A match inside the compressed bytes is there by chance. Then the real one makes two.
  const [at] = found;
  if (found.length === 1 && at !== undefined && (at >= offset + length || at + 8 <= offset)) return at;
  throw new KernelImageError({
    code: 'unsupported',
    what: 'decompressor',
    found: `one with ${found.length === 0 ? 'no' : 'more than one'} pair ${hex(length)}, ${hex(claimedSize)}`,
    expected: 'input_len and output_len side by side, once, as in kernels since 5.10',
  });
}

function signatureInside(found: FileOffset, end: FileOffset): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: 'CertificateTable',
    found,
    expected: `at least ${hex(end)}: certificates lie after payload and decompressor`,
  });
}

function tooLarge({ data: { length: found }, tableAtEnd }: NewPayload, room: number): KernelImageError {
  const smaller = tableAtEnd ? 'without --table-at-end the table is one sixth the size; ' : '';
  return new KernelImageError({
    code: 'too-large',
    what: 'new payload',
    found,
    expected: `at most ${hex(room)}, the old one's room: ${found - room} bytes too many`,
    hint: `${smaller}with --compression none there is no such limit`,
  });
}
