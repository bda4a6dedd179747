/**
 * Builds the segment that kslide adds to a kernel, in both kinds, and the hook that leads to it. layout.ts says where everything lies.
 *
 * The programs are arguments: this room knows where a program goes, and the stub room knows what it does.
 */
import type { FileOffset, PhysAddr, Slide } from '../base/addresses.ts';
import { physToVirt, PAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import { Writer } from '../base/bytes.ts';
import { PF_R, PF_W, PF_X, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS, SHT_NOTE, SHT_PROGBITS } from '../elf/constants.ts';
import { writeFields } from '../elf/fields.ts';
import type { ElfFile } from '../elf/read.ts';
import { appendOffset, offsetAfterHeaders } from '../elf/write.ts';
import type { NewSection, NewSegment } from '../elf/write.ts';
import type { Slots } from '../kaslr/slots.ts';
import {
  ENTRY_BYTES,
  HOOK_SIZE,
  layOutSegment,
  PARAMETERS,
  PARAMS,
  PARAMS_MAGIC,
  SCRATCH,
  segmentAddress,
  TABLE_FORMAT,
} from './layout.ts';
import type { SegmentLayout } from './layout.ts';
import type { StubTable } from './table.ts';

const JMP_REL32 = 0xe9;

/** What building the segment needs to know of the kernel; kernel/vmlinux.ts reads it. */
export interface HostKernel {
  readonly elf: ElfFile;
  readonly imageStart: PhysAddr;
  readonly imageEnd: PhysAddr;
  readonly entry: PhysAddr;
  readonly entryOffset: FileOffset;
}

export interface SegmentOptions {
  /** STUB_FLAGS. */
  readonly flags?: number | undefined;
  /** File offset of the segment. Undefined: after the original's bytes. */
  readonly offset?: FileOffset | undefined;
  /** The segment ends the file, and the table ends the segment; see `placeAtEnd`. */
  readonly tableAtEnd?: boolean | undefined;
}

/** Names of the sections that show the parts of a self-relocating kernel's segment to `readelf -S` and `objdump -d`. */
const SECTION = {
  params: '.kslide.params',
  text: '.kslide.text',
  table: '.kslide.table',
  notes: '.kslide.notes',
  bss: '.kslide.bss',
} as const;

/** A jump from the kernel's entry to the program. Of the ENTRY_BYTES bytes there, it replaces the first HOOK_SIZE. */
export function buildHook(entry: PhysAddr, segment: PhysAddr): Uint8Array {
  const hook = new Writer(new Uint8Array(HOOK_SIZE));
  hook.u8(0, JMP_REL32);
  hook.u32(1, (segment + PARAMS.size - (entry + HOOK_SIZE)) >>> 0);
  return hook.bytes;
}

/** The segment of a self-relocating kernel: `program` and the table. */
export function buildSegment(
  kernel: HostKernel,
  program: Uint8Array,
  slots: Slots,
  table: StubTable,
  { flags = 0, offset: wanted, tableAtEnd = false }: SegmentOptions = {},
): NewSegment {
  const layout = layOutSegment(program.length, table.bytes.length, SCRATCH.size);
  const offset = wanted ?? (tableAtEnd ? placeAtEnd(kernel, layout) : appendOffset(kernel.elf));
  const paddr = segmentAddress(kernel.imageEnd, offset);
  const params = encodeParameters(kernel.elf.bytes.subarray(kernel.entryOffset, kernel.entryOffset + ENTRY_BYTES), {
    link_base: paddr,
    entry: kernel.entry,
    image_start: kernel.imageStart,
    segment_size: layout.memsz,
    slot_count: slots.count,
    slot_align: slots.align,
    scratch: layout.scratch,
    table: layout.payload,
    table_end: layout.fileSize,
    table_format: table.format,
    flags,
  });
  return {
    ...placed({ offset, paddr, vaddr: undefined, layout }),
    content: contentOf(layout, params, program, table.bytes),
    sections: [
      ...sectionsOfProgram(layout, program),
      {
        name: SECTION.table,
        type: SHT_PROGBITS,
        start: layout.payload,
        size: table.bytes.length,
        flags: 0n,
        align: 16,
      },
      sectionOfScratch(layout, SCRATCH.size),
    ],
    endsFile: tableAtEnd,
  };
}

/** What the host did to a kernel. */
export interface MovedKernel {
  readonly virt: Slide;
  readonly phys: Slide;
  /** The ENTRY_BYTES at the entry of the moved kernel. */
  readonly entryBytes: Uint8Array;
  /** A copy of the kernel's notes for loaders to read (kernel/pvh.ts), or empty. */
  readonly notes: Uint8Array;
}

/** `notesSize`: room for notes. It is reserved even if it stays unused, so that the layout is the same for all slides. */
export function layOutFlagSegment(program: Uint8Array, notesSize: number): SegmentLayout {
  return layOutSegment(program.length, notesSize, SCRATCH.wiped);
}

/** The segment of a kernel that the host has moved: `program` sets KASLR_FLAG. `layout`: from layOutFlagSegment. */
export function buildFlagSegment(
  kernel: HostKernel,
  program: Uint8Array,
  layout: SegmentLayout,
  { virt, phys, entryBytes, notes }: MovedKernel,
): NewSegment {
  const offset = appendOffset(kernel.elf);
  const linkAddress = segmentAddress(kernel.imageEnd, offset);
  const paddr = linkAddress + phys;
  const params = encodeParameters(entryBytes, {
    link_base: paddr,
    entry: kernel.entry + phys,
    image_start: kernel.imageStart + phys,
    segment_size: layout.memsz,
    scratch: layout.scratch,
    table_format: TABLE_FORMAT.none,
    virt_slide: virt,
  });
  const sections = sectionsOfProgram(layout, program);
  if (notes.length > 0) {
    const { payload: start } = layout;
    sections.push({ name: SECTION.notes, type: SHT_NOTE, start, size: notes.length, flags: 0n, align: 4 });
  }
  return {
    ...placed({ offset, paddr, vaddr: physToVirt(linkAddress), layout }),
    content: contentOf(layout, params, program, notes),
    sections: [...sections, sectionOfScratch(layout, SCRATCH.wiped)],
  };
}

/** Fields that are not named are zero. */
function encodeParameters(
  entryBytes: Uint8Array,
  values: { readonly [name in keyof typeof PARAMETERS]?: number },
): Uint8Array {
  const params = new Writer(new Uint8Array(PARAMS.size));
  params.copy(PARAMS.magic, Uint8Array.from(PARAMS_MAGIC));
  params.copy(PARAMS.entry_bytes, entryBytes);
  writeFields(params, 0, PARAMETERS, values);
  return params.bytes;
}

interface Place {
  readonly offset: FileOffset;
  readonly paddr: PhysAddr;
  readonly vaddr: bigint | undefined;
  readonly layout: SegmentLayout;
}

function placed({
  layout,
  ...place
}: Place): Pick<NewSegment, 'flags' | 'offset' | 'paddr' | 'vaddr' | 'memsz' | 'align'> {
  return { flags: PF_R | PF_W | PF_X, ...place, memsz: layout.memsz, align: PMD_SIZE };
}

function contentOf(
  { program: programAt, payload: payloadAt }: SegmentLayout,
  params: Uint8Array,
  program: Uint8Array,
  payload: Uint8Array,
): Uint8Array[] {
  return [params, program, new Uint8Array(payloadAt - programAt - program.length), payload];
}

function sectionsOfProgram(layout: SegmentLayout, { length }: Uint8Array): NewSection[] {
  const type = SHT_PROGBITS;
  return [
    { name: SECTION.params, type, start: 0, size: PARAMS.size, flags: SHF_WRITE, align: PAGE_SIZE },
    { name: SECTION.text, type, start: layout.program, size: length, flags: SHF_EXECINSTR, align: 16 },
  ];
}

function sectionOfScratch({ scratch: start }: SegmentLayout, size: number): NewSection {
  return { name: SECTION.bss, type: SHT_NOBITS, start, size, flags: SHF_WRITE, align: PAGE_SIZE };
}

/**
 * The offset of a segment that ends the file. A decompressor unpacks that file, moves the segments to their addresses, and then reads the table
 * in place, at the end of the unpacked bytes (bzimage/unpacking.ts). So moving this segment must not overwrite the table, and the segment's memory,
 * scratch included, must end before the unpacked bytes do. In every kernel that was tried, the first offset fits. Otherwise zeros before the segment
 * move it up.
 */
function placeAtEnd(
  { elf, imageStart, imageEnd }: HostKernel,
  { payload, fileSize, memsz }: SegmentLayout,
): FileOffset {
  const { params, text, table, bss } = SECTION;
  let offset = offsetAfterHeaders(
    elf,
    [params, text, table, bss].map((name) => ({ name })),
  );
  for (; ; offset += PAGE_SIZE) {
    const target = segmentAddress(imageEnd, offset) - imageStart;
    if (target + memsz <= offset + fileSize && target + fileSize <= offset + payload) return offset;
  }
}
