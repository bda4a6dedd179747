/** bzImages and UKIs with a PE header. */
import { Writer } from '../../../src/base/bytes.ts';

const COFF = 0x40;
const OPTIONAL = COFF + 24;
/** PE32+ with five data directories, of which the last is that of the certificates. */
const OPTIONAL_SIZE = 112 + 5 * 8;

/** Puts a PE header into the boot sector, as an EFI stub has one, and certificates of the given size after the image. */
export function addPe(image: Uint8Array, certificates: number): Uint8Array {
  const made = new Uint8Array(image.length + certificates);
  made.set(image);
  const pe = new Writer(made);
  pe.u16(0, 0x5a4d);
  pe.u32(0x3c, COFF);
  pe.u32(COFF, 0x4550);
  pe.u16(COFF + 4, 0x8664);
  pe.u16(COFF + 6, 1);
  pe.u16(COFF + 20, OPTIONAL_SIZE);
  pe.u16(OPTIONAL, 0x20b);
  pe.u32(OPTIONAL + 32, 0x1000);
  pe.u32(OPTIONAL + 36, 0x20);
  pe.u32(OPTIONAL + 56, 0x100_0000);
  pe.u32(OPTIONAL + 108, 5);
  if (certificates > 0) {
    pe.u32(OPTIONAL + 144, image.length);
    pe.u32(OPTIONAL + 148, certificates);
    pe.u32(image.length, certificates);
  }
  const section = OPTIONAL + OPTIONAL_SIZE;
  pe.u32(section + 8, image.length);
  pe.u32(section + 12, 0x1000);
  pe.u32(section + 16, image.length);
  pe.u32(section + 20, 0x200);
  return made;
}
