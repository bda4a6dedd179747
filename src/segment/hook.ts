/**
 * The jump that leads into an added segment, and finding such a segment again. Apart from segment.ts because they do without the program:
 * assembling it takes longer than to move a kernel.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { Reader, Writer } from '../base/bytes.ts';
import { PT_LOAD } from '../elf/constants.ts';
import type { ElfFile, Segment } from '../elf/read.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { PARAMS, PARAMS_MAGIC, TABLE_FORMAT } from './layout.ts';

const JMP_REL32 = 0xe9;

/** A jump from the kernel's entry to the program. The rest of ENTRY_BYTES stays the kernel's. */
export function buildHook(entry: PhysAddr, segment: PhysAddr): Uint8Array {
  const hook = new Writer(new Uint8Array(5));
  hook.u8(0, JMP_REL32);
  hook.u32(1, (segment + PARAMS.size - (entry + 5)) >>> 0);
  return hook.bytes;
}

/** The segment of kslide's in this file, if there is one: it starts with the parameters' magic. Only ELF64. */
export function addedSegment({ bytes, header, segments }: ElfFile): Segment | undefined {
  if (header.bits !== 64) return undefined;
  // The version in the last byte does not matter: converting twice is wrong with any.
  const magic = PARAMS_MAGIC.slice(0, -1);
  return segments.find(
    ({ type, offset, filesz }) =>
      type === PT_LOAD && filesz >= PARAMS.size && magic.every((byte, index) => bytes[offset + index] === byte),
  );
}

/** Whether a segment of kslide's is in this kernel already. */
export function isConverted(kernel: Vmlinux): boolean {
  return addedSegment(kernel.elf) !== undefined;
}

/** What kslide has made of this kernel before: it moves itself, or it was moved by the host and says so. */
export function kindOfKernel(elf: ElfFile): 'plain' | 'self-relocating' | 'moved' {
  const segment = addedSegment(elf);
  if (segment === undefined) return 'plain';
  const format = new Reader(elf.bytes).u32(segment.offset + PARAMS.table_format, 'table_format');
  return format === TABLE_FORMAT.none ? 'moved' : 'self-relocating';
}
