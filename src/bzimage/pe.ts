/**
 * PE/COFF (Microsoft's "PE Format"): only what is needed to find the sections of a UKI and to keep the headers of a rebuilt bzImage correct.
 *
 * A UKI (uapi-group.org, "Unified Kernel Image") is an EFI program with a kernel in its `.linux` section. A bzImage with an EFI stub is PE
 * too, so callers must ask isBzImage first.
 */
import { alignUp, copyOf, cString, Reader, Writer } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import type { FileOffset } from '../base/addresses.ts';

export const IMAGE_FILE_MACHINE_AMD64 = 0x8664;
const MZ = 0x5a4d;
const PE_SIGNATURE = 0x0000_4550; // "PE\0\0"
const E_LFANEW = 0x3c;
const COFF_HEADER_SIZE = 20;
const SECTION_HEADER_SIZE = 40;

/** Offsets in the optional header (PE32+). */
const OPTIONAL = {
  Magic: 0,
  SectionAlignment: 32,
  SizeOfImage: 56,
  CheckSum: 64,
  NumberOfRvaAndSizes: 108,
  /** Data directory 4: file offset and size. */
  CertificateTable: 112 + 4 * 8,
} as const;
const PE32_PLUS = 0x20b;
/** Offsets in a section header. */
const VIRTUAL_SIZE = 8;
const VIRTUAL_ADDRESS = 12;

export interface PeSection {
  readonly name: string;
  readonly offset: FileOffset;
  /** The size of the section's contents, without the padding up to FileAlignment. */
  readonly size: number;
}

export interface PeFile {
  readonly machine: number;
  readonly sections: readonly PeSection[];
}

export function isPe(bytes: Uint8Array): boolean {
  return bytes.length >= 2 && new Reader(bytes).u16(0, 'e_magic') === MZ;
}

/**
 * Throws KernelImageError if there is no PE header after the DOS header, or headers lie outside the file. `findPeSection` checks section contents.
 */
export function readPe(bytes: Uint8Array): PeFile {
  const { reader, coff, table, count } = locateHeaders(bytes);
  const machine = reader.u16(coff, 'Machine');
  const sections: PeSection[] = [];
  for (let index = 0; index < count; index++) sections.push(readSection(reader, table + index * SECTION_HEADER_SIZE));
  return { machine, sections };
}

interface PeHeaders {
  readonly reader: Reader;
  readonly coff: FileOffset;
  readonly optional: FileOffset;
  /** The table of `count` section headers, all of which lie in the file. */
  readonly table: FileOffset;
  readonly count: number;
}

function locateHeaders(bytes: Uint8Array): PeHeaders {
  const reader = new Reader(bytes);
  if (!isPe(bytes)) {
    throw new KernelImageError({ code: 'not-a-kernel', what: 'e_magic', offset: 0, expected: '"MZ"' });
  }
  const coff = reader.u32(E_LFANEW, 'e_lfanew') + 4;
  const signature = reader.u32(coff - 4, 'PE signature');
  if (signature !== PE_SIGNATURE) {
    throw new KernelImageError({
      code: 'not-a-kernel',
      what: 'PE signature',
      offset: coff - 4,
      found: signature,
      expected: PE_SIGNATURE,
    });
  }
  const count = reader.u16(coff + 2, 'NumberOfSections');
  const optional = coff + COFF_HEADER_SIZE;
  const table = optional + reader.u16(coff + 16, 'SizeOfOptionalHeader');
  reader.need(table, count * SECTION_HEADER_SIZE, `section table of ${count} entries`);
  return { reader, coff, optional, table, count };
}

export interface Unsigned {
  /** A copy. */
  readonly bytes: Uint8Array;
  readonly signed: boolean;
}

/**
 * Restores the image as it was before signing: without the certificates at its end, their entry in the data directory, and the checksum. An image
 * without an EFI stub is not PE and stays unchanged. Padding after the certificates goes with them. Throws KernelImageError as readPe does, and for certificates
 * that anything else follows.
 */
export function dropSignature(image: Uint8Array): Unsigned {
  if (!isPe(image)) return { bytes: copyOf(image), signed: false };
  const { reader, optional } = locateHeaders(image);
  expectPe32Plus(reader, optional);
  const entry = optional + OPTIONAL.CertificateTable;
  const [offset, size] = [reader.u32(entry, 'CertificateTable'), reader.u32(entry + 4, 'CertificateTable size')];
  if (offset !== 0 && !isPadding(image, offset + size)) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'CertificateTable',
      offset: entry,
      found: `${hex(offset)} to ${hex(offset + size)}`,
      expected: `certificates that end the file, at ${hex(image.length)}, but for padding`,
    });
  }
  const writer = new Writer(copyOf(image.subarray(0, offset === 0 ? image.length : offset)));
  // Without certificates nobody has signed and set a checksum: the kernel's build leaves it 0.
  if (offset === 0) return { bytes: writer.bytes, signed: false };
  if (entry + 8 > offset) {
    throw new KernelImageError({ code: 'bad-value', what: 'CertificateTable', offset: entry, found: offset });
  }
  writer.u64(entry, 0);
  writer.u32(optional + OPTIONAL.CheckSum, 0);
  return { bytes: writer.bytes, signed: true };
}

/**
 * Whether nothing but padding follows: zeros, as in a UKI that ukify 257 made from a signed kernel and in a partition that is larger than the kernel, or
 * 0xff, as in erased flash. False if `start` is beyond the end.
 */
function isPadding(image: Uint8Array, start: FileOffset): boolean {
  const [first = 0] = image.subarray(start);
  return (
    start <= image.length && (first === 0 || first === 0xff) && image.subarray(start).every((byte) => byte === first)
  );
}

export function isSigned(image: Uint8Array): boolean {
  return dropSignature(image).signed;
}

/**
 * Gives more memory to an EFI stub that decompresses inside its own image, as stubs before 6.6 do: their SizeOfImage is at least `initSize`. Newer
 * stubs ask the firmware for memory, so nothing is changed for them. Works in place.
 */
export function growImage(image: Uint8Array, initSize: number, growth: number): void {
  if (!isPe(image) || growth === 0) return;
  const { reader, optional, table, count } = locateHeaders(image);
  expectPe32Plus(reader, optional);
  const size = reader.u32(optional + OPTIONAL.SizeOfImage, 'SizeOfImage');
  if (size < initSize) return;
  const more = alignUp(growth, Math.max(1, reader.u32(optional + OPTIONAL.SectionAlignment, 'SectionAlignment')));
  const writer = new Writer(image);
  writer.u32(optional + OPTIONAL.SizeOfImage, size + more);
  const headers = Array.from({ length: count }, (_, index) => table + index * SECTION_HEADER_SIZE);
  const addressOf = (at: FileOffset): number => reader.u32(at + VIRTUAL_ADDRESS, 'VirtualAddress');
  const last = headers.toSorted((a, b) => addressOf(b) - addressOf(a))[0];
  if (last !== undefined) writer.u32(last + VIRTUAL_SIZE, reader.u32(last + VIRTUAL_SIZE, 'VirtualSize') + more);
}

function expectPe32Plus(reader: Reader, optional: FileOffset): void {
  reader.need(optional, OPTIONAL.CertificateTable + 8, 'optional header');
  const magic = reader.u16(optional + OPTIONAL.Magic, 'optional header Magic');
  const directories = reader.u32(optional + OPTIONAL.NumberOfRvaAndSizes, 'NumberOfRvaAndSizes');
  if (magic === PE32_PLUS && directories > 4) return;
  throw new KernelImageError({
    code: 'unsupported',
    what: 'optional header Magic, NumberOfRvaAndSizes',
    offset: optional,
    found: `${hex(magic)}, ${directories}`,
    expected: `${hex(PE32_PLUS)} (PE32+), at least 5`,
  });
}

/** A view of the first section with this name; undefined if there is none. Throws KernelImageError as readPe does, and if the section is cut off. */
export function findPeSection(bytes: Uint8Array, name: string): Uint8Array | undefined {
  const section = readPe(bytes).sections.find((candidate) => candidate.name === name);
  return section && new Reader(bytes).slice(section.offset, section.size, `${name} section`);
}

function readSection(reader: Reader, at: FileOffset): PeSection {
  // VirtualSize is the exact size, and SizeOfRawData is padded. If VirtualSize is larger, the rest is zeros that exist only in memory.
  const virtualSize = reader.u32(at + 8, 'VirtualSize');
  const rawSize = reader.u32(at + 16, 'SizeOfRawData');
  return {
    name: cString(reader.bytes, at, 8),
    offset: reader.u32(at + 20, 'PointerToRawData'),
    size: virtualSize === 0 ? rawSize : Math.min(virtualSize, rawSize),
  };
}
