/** Putting the added segment together: parameters, program and table laid out, and the hook that leads into it. See layout.ts. */
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { alignUp, Writer } from '../base/bytes.ts';
import { PF_R, PF_W, PF_X, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS, SHT_PROGBITS } from '../elf/constants.ts';
import { appendOffset, offsetBehindHeaders } from '../elf/write.ts';
import type { NewSection, NewSegment } from '../elf/write.ts';
import type { Slots } from '../kaslr/slots.ts';
import { PMD_SIZE } from '../kaslr/slots.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { STUB_PROGRAM } from '../stub/assembled.ts';
import { ENTRY_BYTES, PARAMS, PARAMS_MAGIC, SCRATCH } from './layout.ts';

const PAGE = 0x1000;

/** The relocation table in the form that the program's apply step reads; the seam where other forms come in. */
export interface StubTable {
  readonly format: number;
  readonly bytes: Uint8Array;
}

/** Names of the sections that show the segment's parts. */
const SECTIONS = [
  { name: '.kslide.params' },
  { name: '.kslide.text' },
  { name: '.kslide.table' },
  { name: '.kslide.bss' },
] as const;

export interface SegmentOptions {
  /** STUB_FLAGS. */
  readonly flags?: number | undefined;
  /** Where in the file, instead of behind all that is there. */
  readonly offset?: FileOffset | undefined;
  /** The segment, and in it the table, ends the file, in the way that `placeAtEnd` says. */
  readonly tableAtEnd?: boolean | undefined;
}

/** The program, not to be changed. */
export function stubProgram(): Uint8Array {
  return STUB_PROGRAM;
}

/**
 * The segment for this kernel. It lies behind the image in memory, at an address congruent to its file offset modulo p_align, as the ELF
 * specification wants; the gap of up to 2 MiB is memory that stays free, not bytes in the file.
 */
export function buildSegment(
  kernel: Vmlinux,
  slots: Slots,
  table: StubTable,
  { flags: stubFlags = 0, offset: wanted, tableAtEnd = false }: SegmentOptions = {},
): NewSegment {
  const program = stubProgram();
  const programAt = PARAMS.size;
  const tableAt = alignUp(programAt + program.length, 16);
  const fileSize = tableAt + table.bytes.length;
  const scratchAt = alignUp(fileSize, PAGE);
  const memsz = scratchAt + SCRATCH.size;
  const offset = wanted ?? (tableAtEnd ? placeAtEnd(kernel, { tableAt, fileSize, memsz }) : appendOffset(kernel.elf));
  const paddr = addressFor(kernel, offset);

  const params = new Writer(new Uint8Array(PARAMS.size));
  params.copy(PARAMS.magic, Uint8Array.from(PARAMS_MAGIC));
  params.u64(PARAMS.link_base, paddr);
  params.u64(PARAMS.entry, kernel.entry);
  params.copy(PARAMS.entry_bytes, kernel.elf.bytes.subarray(kernel.entryOffset, kernel.entryOffset + ENTRY_BYTES));
  params.u64(PARAMS.image_start, kernel.imageStart);
  params.u64(PARAMS.segment_size, memsz);
  params.u64(PARAMS.slot_count, slots.count);
  params.u64(PARAMS.slot_align, slots.align);
  params.u64(PARAMS.scratch, scratchAt);
  params.u64(PARAMS.table, tableAt);
  params.u64(PARAMS.table_end, fileSize);
  params.u32(PARAMS.table_format, table.format);
  params.u32(PARAMS.flags, stubFlags);

  const section = (index: number, start: number, size: number, flags: bigint, align: number): NewSection => {
    const type = index === 3 ? SHT_NOBITS : SHT_PROGBITS;
    return { ...SECTIONS[index]!, type, start, size, flags, align };
  };
  return {
    flags: PF_R | PF_W | PF_X,
    paddr,
    offset,
    memsz,
    align: PMD_SIZE,
    content: [params.bytes, program, new Uint8Array(tableAt - programAt - program.length), table.bytes],
    sections: [
      section(0, 0, PARAMS.size, SHF_WRITE, PAGE),
      section(1, programAt, program.length, SHF_EXECINSTR, 16),
      section(2, tableAt, table.bytes.length, 0n, 16),
      section(3, scratchAt, SCRATCH.size, SHF_WRITE, PAGE),
    ],
    endsFile: tableAtEnd,
  };
}

/** The first address behind the image that is congruent to the file offset. */
function addressFor({ imageEnd }: Vmlinux, offset: FileOffset): PhysAddr {
  const first = alignUp(imageEnd, PAGE);
  return first + ((((offset - first) % PMD_SIZE) + PMD_SIZE) % PMD_SIZE);
}

/**
 * Where the segment ends a file that a decompressor unpacks and whose table it then reads in place, from the end of what it unpacked
 * (bzimage/unpacking.ts). Moving the segment to its address may not touch the table, and its memory, scratch included, has to end before the
 * unpacked bytes do. The first offset is right in every kernel that was looked at; zeros push it up where it is not.
 */
function placeAtEnd(
  kernel: Vmlinux,
  { tableAt, fileSize, memsz }: { readonly tableAt: number; readonly fileSize: number; readonly memsz: number },
): FileOffset {
  let offset = offsetBehindHeaders(kernel.elf, SECTIONS);
  for (; ; offset += PAGE) {
    const target = addressFor(kernel, offset) - kernel.imageStart;
    if (target + memsz <= offset + fileSize && target + fileSize <= offset + tableAt) return offset;
  }
}
