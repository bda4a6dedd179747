/**
 * The checks of a bzImage around the converted kernel: `payload` (`openContainer`) and, if it has a decompressor, `container` (`checkDecompressor`).
 *
 * Setup code, header and decompressor are the original's, except the fields that describe the payload. Each byte outside the payload has one right
 * value. The compressed bytes have not: they must decode, with the right length, to the kernel that the other checks examine, and be such that the
 * decompressors in kernels decode them to the same. (How a PE signature is removed is code that this shares with the writer, bzimage/pe.ts.)
 */
import { PAGE_SIZE } from '../base/addresses.ts';
import type { FileOffset } from '../base/addresses.ts';
import { bytesOfWords, indexOfBytes, Reader } from '../base/bytes.ts';
import { buildCrc32 } from '../bzimage/crc32.ts';
import { stockCodecs } from '../codecs/formats.ts';
import type { Compression } from '../codecs/formats.ts';
import { readSetupHeader, SETUP } from '../bzimage/header.ts';
import type { SetupHeader } from '../bzimage/header.ts';
import { decodePayload, readPayload } from '../bzimage/payload.ts';
import type { Payload } from '../bzimage/payload.ts';
import { dropSignature, growImage } from '../bzimage/pe.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { endOfElf, readElf } from '../elf/read.ts';
import { hex } from '../base/errors.ts';
import { checkUnpacking } from './decompressor-model.ts';
import { refute } from './evidence.ts';
import type { Evidence } from './evidence.ts';

const CRC_SIZE = 4;
/** Bytes: three words of zeros, which a decompressor reads as three empty lists. */
const EMPTY_TABLE = 12;

/** The converted bzImage, decoded; nothing in it is compared yet. */
export interface Container {
  readonly header: SetupHeader;
  readonly payload: Payload;
  readonly unpacked: Uint8Array;
}

/** The original bzImage. */
export interface Shell {
  readonly image: Uint8Array;
  readonly header: SetupHeader;
  readonly payload: Payload;
}

/** Throws KernelImageError for a file that is not a bzImage, does not decode, or would be decoded otherwise by a kernel's decompressor. */
export async function openContainer(bytes: Uint8Array): Promise<Container> {
  const header = readSetupHeader(bytes);
  const payload = readPayload(bytes, header);
  const unpacked = await decodePayload(payload, stockCodecs);
  return { header, payload, unpacked };
}

/** Checks the decompressor and everything around it. Accounts for every byte of the file; what the payload decodes to is read by `readKernel`. */
export function checkDecompressor(file: Evidence, shell: Shell, { payload }: Container): void {
  const { image, header, payload: old } = shell;
  const { length, claimedSize } = payload;
  if (payload.offset !== old.offset || length > old.length) {
    refute('payload_offset, payload_length', SETUP.payload_offset.offset, {
      found: `${hex(payload.offset)}, ${hex(length)}`,
      expected: `${hex(old.offset)}, at most ${hex(old.length)}`,
    });
  }
  expectCompression(payload, old.compression);

  // init_size grows by what more there is to unpack, and by how much shorter the payload is; bzimage/rewrite.ts says why.
  const { initSize = 0 } = header;
  const more = claimedSize + Math.floor(claimedSize / 256) - old.claimedSize - Math.floor(old.claimedSize / 256);
  const growth = Math.ceil(Math.max(0, more + old.length - length) / PAGE_SIZE) * PAGE_SIZE;
  const { bytes } = dropSignature(image);
  const hasCrc = buildCrc32(bytes.subarray(0, -CRC_SIZE)) === new Reader(bytes).u32(bytes.length - CRC_SIZE, 'CRC-32');
  growImage(bytes, initSize, growth);

  if (file.bytes.length !== bytes.length) {
    const offset = Math.min(file.bytes.length, bytes.length);
    refute('length of the file', offset, { found: file.bytes.length, expected: bytes.length });
  }
  const pair = findPair(bytes, old);
  const fields = [
    { what: 'payload_length', offset: SETUP.payload_length.offset, value: length },
    { what: 'input_len', offset: pair, value: length },
    { what: 'output_len', offset: pair + 4, value: claimedSize },
    { what: 'init_size', offset: SETUP.init_size.offset, value: initSize + growth },
  ];
  const crcAt = bytes.length - CRC_SIZE;
  if (hasCrc) fields.push({ what: 'CRC-32', offset: crcAt, value: buildCrc32(file.bytes.subarray(0, crcAt)) });
  const elsewhere = [
    ...fields.map(({ offset }) => ({ start: offset, end: offset + 4 })),
    { start: old.offset, end: old.offset + old.length },
    { start: bytes.length, end: bytes.length },
  ];
  let at = 0;
  for (const { start, end } of elsewhere.toSorted((a, b) => a.start - b.start)) {
    file.expectBytes('byte of the original', at, bytes.subarray(at, start));
    at = end;
  }
  for (const { what, offset, value } of fields) file.expectFields(what, offset, { value: [0, 4] }, { value });
  file.accept(old.offset, old.offset + length);
  file.expectZeros("rest of the old payload's room", old.offset + length, old.offset + old.length);
}

function expectCompression({ compression, offset }: Payload, expected: Compression | undefined): void {
  if (compression === expected) return;
  refute('payload', offset, { found: compression ?? 'not compressed', expected: expected ?? 'not compressed' });
}

/** Where the original has input_len and output_len: side by side, once. `rebuildBzImage` refuses any other decompressor. */
function findPair(image: Uint8Array, { length, claimedSize }: Payload): FileOffset {
  const pair = bytesOfWords(Uint32Array.of(length, claimedSize));
  const at = indexOfBytes(image, pair);
  if (at >= 0 && indexOfBytes(image, pair, at + 1) < 0) return at;
  return refute('input_len, output_len', 0, { found: 'not once in the original', expected: 'once' });
}

/**
 * The unpacked ELF file, and its form. Either it ends with the table that the decompressor reads as well, or zeros follow it: they reach the end of
 * the kernel's memory, and the last of them are an empty table. `ownTable`: the size of the original's table.
 */
export function readKernel(
  { unpacked }: Container,
  { prefAddress = 0 }: SetupHeader,
  ownTable: number,
): { elf: Uint8Array; atEnd: boolean } {
  const elf = readElf(unpacked);
  const end = endOfElf(elf);
  if (end === unpacked.length) {
    checkUnpacking(unpacked, prefAddress, ownTable);
    return { elf: unpacked, atEnd: true };
  }
  const loads = elf.segments.filter(({ type }) => type === PT_LOAD);
  const memory = Math.max(...loads.map(({ paddr, memsz }) => paddr + memsz - prefAddress));
  const length = Math.ceil(Math.max(end, memory) / 4) * 4 + EMPTY_TABLE;
  if (unpacked.length !== length)
    refute('payload: unpacked size', Math.min(length, unpacked.length), { found: unpacked.length, expected: length });
  const nonZero = unpacked.subarray(end).findIndex((byte) => byte !== 0);
  if (nonZero >= 0) refute('payload: empty table', end + nonZero, { found: unpacked[end + nonZero]!, expected: 0 });
  checkUnpacking(unpacked, prefAddress, EMPTY_TABLE);
  return { elf: unpacked.subarray(0, end), atEnd: false };
}
