/**
 * A relocation table in a file: after a vmlinux, as in a bzImage's payload, or in a file of its own. Files collect things at their end: zeros, where a block
 * device or an archive pads them, and a signature, where the kernel's scripts/sign-file was run over them. Neither is part of the table.
 *
 * How many lists a table has follows from the kernel and never from counting zero words: padding is zero words too.
 */
import type { FileOffset } from '../base/addresses.ts';
import { ascii, Reader, wordsOfBytes } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import { readRelocationTable } from './tables/kernel-table.ts';
import type { RelocationTable } from './tables/kernel-table.ts';

/** MODULE_SIG_STRING (include/linux/module_signature.h), at the file's end. */
const SIGNATURE_END = ascii('~Module signature appended~\n');
/** struct module_signature, before it: algo, hash, id_type, signer_len, key_id_len, 3 bytes of padding, sig_len as big-endian u32. Before that, the signature. */
const SIGNATURE_INFO = 12;
const PKEY_ID_PKCS7 = 2;

/** A first word of zero and then the low half of a link address: nothing else starts like that. */
export function startsLikeTable(bytes: Uint8Array): boolean {
  if (bytes.length < 8) return false;
  const reader = new Reader(bytes);
  const first = reader.u32(4, 'table');
  return reader.u32(0, 'table') === 0 && first >= 0x8000_0000 && first < 0xc000_0000;
}

/** Bytes without the zeros and the signature at their end. */
interface Core {
  readonly bytes: Uint8Array;
  /** The signature has no readable length: `bytes` ends with it, all but its last line. */
  readonly open: boolean;
  readonly signed: boolean;
}

function coreOf(given: Uint8Array): Core {
  const bytes = withoutZeros(given);
  const end = bytes.length - SIGNATURE_END.length;
  if (end < 0 || SIGNATURE_END.some((byte, index) => bytes[end + index] !== byte))
    return { bytes, open: false, signed: false };
  const size = signatureSize(bytes.subarray(0, end));
  return size === undefined
    ? { bytes: bytes.subarray(0, end), open: true, signed: true }
    : { bytes: withoutZeros(bytes.subarray(0, end - size)), open: false, signed: true };
}

/** No list ends with a zero byte: the last byte of an entry is 0x80 or more. */
function withoutZeros(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return bytes.subarray(0, end);
}

/** Size of the well-formed signature and module_signature that end `bytes`. */
function signatureSize(bytes: Uint8Array): number | undefined {
  const info = bytes.length - SIGNATURE_INFO;
  if (info < 0) return undefined;
  const size = new DataView(bytes.buffer, bytes.byteOffset + info + 8, 4).getUint32(0, false);
  const plain = [0, 1, 3, 4, 5, 6, 7].every((field) => bytes[info + field] === 0);
  if (!plain || bytes[info + 2] !== PKEY_ID_PKCS7 || size === 0 || size > info) return undefined;
  return size + SIGNATURE_INFO;
}

/** Nothing but zeros and a signature. */
export function isPadding(bytes: Uint8Array): boolean {
  const core = coreOf(bytes);
  return core.bytes.length === 0 || (core.open && !startsLikeTable(core.bytes));
}

export interface FoundTable {
  readonly table: RelocationTable;
  /** What follows the table in `bytes`, in words. */
  readonly ignored: string | undefined;
}

export interface TableContext {
  /** Per-cpu data is linked at 0: the table has three lists. */
  readonly perCpu: boolean;
  /** Where `bytes` start in their file, for errors. */
  readonly origin?: FileOffset | undefined;
  /** Whether a table entry names a 32-bit site that holds an address of the kernel. */
  readonly isSite: (entry: number) => boolean;
}

/** Throws KernelImageError. Kernels up to 6.14 without SMP have an empty inverse list, although no segment of theirs is linked at 0. */
export function readTableOf(bytes: Uint8Array, { perCpu, origin = 0, isSite }: TableContext): FoundTable {
  const core = coreOf(bytes);
  const words = wordsOfBytes(core.bytes.subarray(0, core.bytes.length & ~3));
  if (words.length < 2 || words[0] !== 0) return { table: readRelocationTable(bytes, origin), ignored: undefined };
  const second = words.indexOf(0, 1);
  const third = second >= 0 && (perCpu || words[second + 1] === 0) ? words.indexOf(0, second + 1) : second;
  if (third < 0) throw wrongLists(origin, second < 0 ? 'one list' : 'two lists', perCpu);
  // The words of a table that was cut inside one.
  if (!core.open && core.bytes.length % 4 !== 0)
    readRelocationTable(bytes.length % 4 === 0 ? core.bytes : bytes, origin);
  let end = core.bytes.length;
  if (core.open) {
    end = (third + 1 + countAscending(words.subarray(third + 1))) * 4;
    if (!isSite(words[end / 4 - 1]!)) throw unknownEnd(origin + end);
  } else {
    const more = words.indexOf(0, third + 1);
    if (more >= 0) throw wrongLists(origin, 'larger', perCpu);
  }
  return { table: readRelocationTable(bytes.subarray(0, end), origin), ignored: nameRest(bytes, end, core) };
}

function countAscending(list: Uint32Array): number {
  let count = 0;
  while (count < list.length && list[count]! >= 0x8000_0000 && (count === 0 || list[count]! > list[count - 1]!))
    count++;
  return count;
}

function nameRest(bytes: Uint8Array, end: number, { signed }: Core): string | undefined {
  const length = bytes.length - end;
  if (length === 0) return undefined;
  return signed ? `a signature (with what surrounds it ${length} bytes)` : `${length} zero bytes`;
}

function wrongLists(offset: FileOffset, found: string, perCpu: boolean): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: 'number of lists in relocation table',
    offset,
    found,
    expected: perCpu
      ? 'three: a program header is linked at 0x0, for per-cpu data'
      : 'two: no program header is linked at 0x0, for per-cpu data',
  });
}

function unknownEnd(offset: FileOffset): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: 'end of relocation table',
    offset,
    expected: 'a signature that says how long it is, or one that cannot be taken for sites',
  });
}
