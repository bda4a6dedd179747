/**
 * The payload of a bzImage: vmlinux.bin followed by the relocation table, compressed, as arch/x86/boot/compressed/Makefile packs it.
 *
 * The build appends the uncompressed size as a u32 to every compressed stream except gzip's, whose own trailer ends in the same word (ISIZE).
 * That word is untrusted input, and it decides how much memory is allocated. So it is checked against a limit before anything is decoded.
 */
import { Reader, Writer } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { KERNEL_IMAGE_SIZE, type FileOffset } from '../base/addresses.ts';
import { isElf } from '../elf/read.ts';
import {
  COMPRESSIONS,
  detectCompression,
  type Codecs,
  type Compression,
  type Differs,
  type Encoders,
  type Watch,
} from '../codecs/formats.ts';
import { SETUP, type SetupHeader } from './header.ts';

export interface Payload {
  /** Undefined for a payload that is the ELF file itself. */
  readonly compression: Compression | undefined;
  /** The input for a decoder: the payload without the size word that the build appended. A view. */
  readonly data: Uint8Array;
  /** The size after decompression that the image claims. More than 0, and at most KERNEL_IMAGE_SIZE and what `MOST` allows. */
  readonly claimedSize: number;
  /** The place of the whole payload, size word included. */
  readonly offset: FileOffset;
  readonly length: number;
}

const SIZE_WORD = 4;

/**
 * What a payload may decode to: so much for each of its bytes, and a constant. Kernels have 3 to 8, with the longest runs of zeros 20. Without this limit,
 * a payload of some kilobytes could cost a gigabyte, because all formats but gzip can write that much with it.
 */
const MOST = { ratio: 256, constant: 0x400_0000 } as const;

/** Throws KernelImageError for a payload outside the file, with an unknown compression, or with a size that no kernel has. */
export function readPayload(bytes: Uint8Array, header: SetupHeader): Payload {
  const offset = header.protectedModeStart + header.payloadOffset;
  const length = header.payloadLength;
  if (length <= SIZE_WORD) {
    throw new KernelImageError({
      code: 'bad-value',
      what: SETUP.payload_length.name,
      offset: SETUP.payload_length.offset,
      found: length,
      expected: 'a compressed kernel',
    });
  }
  const payload = new Reader(bytes).slice(offset, length, 'payload (payload_offset, payload_length)');
  if (isElf(payload)) {
    checkSize(header, length, offset);
    return { compression: undefined, data: payload, claimedSize: length, offset, length };
  }
  const compression = detectCompression(payload);
  if (compression === undefined) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'payload',
      offset,
      found: `data that starts with ${hexBytes(payload.subarray(0, 4))}`,
      expected: `${COMPRESSIONS.join(', ')} or ELF`,
    });
  }
  const claimedSize = new Reader(payload, offset).u32(length - SIZE_WORD, 'uncompressed size');
  checkSize(header, claimedSize, offset + length - SIZE_WORD);
  checkRatio(length, claimedSize, offset + length - SIZE_WORD);
  const data = compression === 'gzip' ? payload : payload.subarray(0, length - SIZE_WORD);
  return { compression, data, claimedSize, offset, length };
}

/**
 * Returns vmlinux.bin and what follows it: new memory, or a view if the payload is not compressed. Throws KernelImageError for corrupt or unsupported
 * data.
 */
export async function decodePayload(
  { compression, data, claimedSize }: Payload,
  codecs: Codecs,
  watch?: Watch,
  differs?: Differs,
): Promise<Uint8Array> {
  return compression === undefined ? data : codecs[compression](data, claimedSize, watch, differs);
}

/** Makes a payload as a kernel's build does: compressed, then the size word. */
export async function encodePayload(
  data: Uint8Array,
  compression: Compression,
  encoders: Encoders,
): Promise<Uint8Array> {
  const stream = await encoders[compression](data);
  if (compression === 'gzip') return stream;
  const payload = new Writer(new Uint8Array(stream.length + SIZE_WORD));
  payload.copy(0, stream);
  payload.u32(stream.length, data.length);
  return payload.bytes;
}

/**
 * The decompressor unpacks the whole file, table included, inside the `init_size` bytes that the boot loader provides. header.S computes
 * `init_size` as at least output_len + the decompressor's own size. Measured: 1.2 to 1.7% larger than output_len on four kernels of Debian 6.1 and
 * 6.12.
 */
function checkSize(header: SetupHeader, size: number, offset: FileOffset): void {
  const what = 'uncompressed size';
  if (size === 0) throw new KernelImageError({ code: 'bad-value', what, offset, found: size, expected: 'more than 0' });
  const initSize = header.initSize ?? KERNEL_IMAGE_SIZE;
  const [limit, reason] =
    initSize < KERNEL_IMAGE_SIZE ? [initSize, 'init_size'] : [KERNEL_IMAGE_SIZE, 'KERNEL_IMAGE_SIZE'];
  if (size <= limit) return;
  throw new KernelImageError({
    code: 'too-large',
    what,
    offset,
    found: size,
    expected: `at most ${hex(limit)} (${reason})`,
  });
}

function checkRatio(length: number, size: number, offset: FileOffset): void {
  const limit = MOST.constant + MOST.ratio * length;
  if (size <= limit) return;
  throw new KernelImageError({
    code: 'too-large',
    what: 'uncompressed size',
    offset,
    found: size,
    expected: `at most ${hex(limit)}, for a payload of ${hex(length)} bytes`,
  });
}

function hexBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}
