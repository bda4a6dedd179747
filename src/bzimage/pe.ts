/**
 * PE/COFF, as much of it as finds the sections of a UKI: Microsoft's "PE Format", "COFF File Header" and "Section Table".
 *
 * A UKI (uapi-group.org, "Unified Kernel Image") is an EFI program with a kernel in its `.linux` section. A bzImage with an EFI stub is PE
 * too, so a caller asks isBzImage first.
 */
import { cString, Reader } from '../bytes.ts';
import { KernelImageError } from '../errors.ts';
import type { FileOffset } from '../addresses.ts';

export const IMAGE_FILE_MACHINE_AMD64 = 0x8664;
const MZ = 0x5a4d;
const PE_SIGNATURE = 0x0000_4550; // "PE\0\0"
const E_LFANEW = 0x3c;
const COFF_HEADER_SIZE = 20;
const SECTION_HEADER_SIZE = 40;

export interface PeSection {
  readonly name: string;
  readonly offset: FileOffset;
  /** What the section holds, without the padding up to FileAlignment. */
  readonly size: number;
}

export interface PeFile {
  readonly machine: number;
  readonly sections: readonly PeSection[];
}

export function isPe(bytes: Uint8Array): boolean {
  return bytes.length >= 2 && new Reader(bytes).u16(0, 'e_magic') === MZ;
}

/** Throws KernelImageError: no PE header behind the DOS header, or headers outside the file. Section contents are checked when asked for. */
export function readPe(bytes: Uint8Array): PeFile {
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
  const machine = reader.u16(coff, 'Machine');
  const count = reader.u16(coff + 2, 'NumberOfSections');
  const table = coff + COFF_HEADER_SIZE + reader.u16(coff + 16, 'SizeOfOptionalHeader');
  reader.need(table, count * SECTION_HEADER_SIZE, `section table of ${count} entries`);
  const sections: PeSection[] = [];
  for (let index = 0; index < count; index++) sections.push(readSection(reader, table + index * SECTION_HEADER_SIZE));
  return { machine, sections };
}

/** The first section of that name: a view, or undefined when there is none. Throws KernelImageError as readPe, or when it is cut off. */
export function findPeSection(bytes: Uint8Array, name: string): Uint8Array | undefined {
  const section = readPe(bytes).sections.find((candidate) => candidate.name === name);
  return section && new Reader(bytes).slice(section.offset, section.size, `${name} section`);
}

function readSection(reader: Reader, at: FileOffset): PeSection {
  // VirtualSize is the exact size and SizeOfRawData is padded; where VirtualSize is the larger one, the rest is zeros in memory only.
  const virtualSize = reader.u32(at + 8, 'VirtualSize');
  const rawSize = reader.u32(at + 16, 'SizeOfRawData');
  return {
    name: cString(reader.bytes, at, 8),
    offset: reader.u32(at + 20, 'PointerToRawData'),
    size: virtualSize === 0 ? rawSize : Math.min(virtualSize, rawSize),
  };
}
