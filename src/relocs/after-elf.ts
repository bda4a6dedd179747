/**
 * What follows a vmlinux in its file: the relocation table, in a bzImage's payload and where somebody has appended it; and what files collect at their end:
 * zeros, where a block device or an archive pads them, and a signature, where scripts/sign-file of the kernel was run over them.
 */
import type { FileOffset } from '../base/addresses.ts';
import { ascii, Reader, wordsOfBytes } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { readRelocationTable } from './tables/kernel-table.ts';
import type { RelocationTable } from './tables/kernel-table.ts';

/** MODULE_SIG_STRING (include/linux/module_signature.h), at the file's end. */
const SIGNATURE_END = '~Module signature appended~\n';
/** struct module_signature, before it: algo, hash, id_type, signer_len, key_id_len, 3 bytes of padding, sig_len as big-endian u32; the signature is before that. */
const SIGNATURE_INFO = 12;
const PKEY_ID_PKCS7 = 2;

/** A first word of zero and then the low half of a link address: nothing else starts like that. Empty lists do, and no kernel has those. */
export function startsLikeTable(bytes: Uint8Array): boolean {
  if (bytes.length < 8) return false;
  const reader = new Reader(bytes);
  const first = reader.u32(4, 'table');
  return reader.u32(0, 'table') === 0 && first >= 0x8000_0000 && first < 0xc000_0000;
}

/** `bytes` without a well-formed signature at their end. */
function withoutSignature(bytes: Uint8Array): Uint8Array {
  const info = bytes.length - SIGNATURE_END.length - SIGNATURE_INFO;
  if (info < 0) return bytes;
  const end = ascii(SIGNATURE_END);
  if (end.some((byte, index) => bytes[info + SIGNATURE_INFO + index] !== byte)) return bytes;
  const reader = new Reader(bytes);
  const size = new DataView(bytes.buffer, bytes.byteOffset + info + 8, 4).getUint32(0, false);
  const plain = [0, 1, 3, 4, 5, 6, 7].every((field) => bytes[info + field] === 0);
  if (!plain || bytes[info + 2] !== PKEY_ID_PKCS7 || size === 0 || size > info) return bytes;
  // PKCS#7 in DER: a SEQUENCE of that length.
  const start = info - size;
  if (size < 4 || bytes[start] !== 0x30) return bytes;
  const lengthBytes = bytes[start + 1]! & 0x7f;
  if (bytes[start + 1]! < 0x81 || lengthBytes > 2) return bytes;
  let length = 0;
  for (let index = 0; index < lengthBytes; index++) length = length * 256 + reader.u8(start + 2 + index, 'signature');
  return 2 + lengthBytes + length === size ? bytes.subarray(0, start) : bytes;
}

/** Nothing but padding and a signature. */
export function isPadding(bytes: Uint8Array): boolean {
  return withoutSignature(bytes).every((byte) => byte === 0);
}

/**
 * The table of a kernel at the start of `bytes`, whatever padding and signature follow. How many lists there are follows from the kernel and not from the bytes: three exactly
 * if per-cpu data is linked at 0. (Kernels up to 6.14 without SMP have an inverse list that is empty: two zeros, where a list of no 32-bit sites would be.)
 * `origin` is where `bytes` start in their file. Throws KernelImageError.
 */
export function readKernelTable(bytes: Uint8Array, perCpu: boolean, origin: FileOffset = 0): RelocationTable {
  const unsigned = withoutSignature(bytes);
  const whole = unsigned.subarray(0, unsigned.length & ~3);
  const words = wordsOfBytes(whole);
  if (words[0] !== 0 || words.length < 2) return readRelocationTable(bytes, origin);
  const first = words.indexOf(0, 1);
  let last = first;
  if (first >= 0 && (perCpu || words[first + 1] === 0)) last = words.indexOf(0, first + 1);
  if (first < 0 || last < 0) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'relocation table',
      offset: origin,
      found: first < 0 ? 'one list' : 'two lists',
      expected: perCpu
        ? 'three: a program header is linked at 0x0, for per-cpu data'
        : 'two: no program header is linked at 0x0, for per-cpu data',
    });
  }
  const end = words.indexOf(0, last + 1);
  const length = (end < 0 ? words.length : end) * 4;
  const rest = unsigned.subarray(length);
  const odd = rest.findIndex((byte) => byte !== 0);
  if (odd >= 0) {
    const more = end >= 0 && !perCpu && startsLikeTable(rest);
    throw new KernelImageError({
      code: 'bad-value',
      what: more ? 'relocation table' : 'bytes after the relocation table',
      offset: origin + (more ? 0 : length + odd),
      found: more ? 'three lists or more' : hex(rest[odd]!),
      expected: more
        ? 'two: no program header is linked at 0x0, for per-cpu data'
        : "zeros, or a signature as the kernel's sign-file appends it",
    });
  }
  return readRelocationTable(whole.subarray(0, length), origin);
}
