/**
 * The segment that `randomize` adds: parameters and the program that sets KASLR_FLAG, laid out as layout.ts says, without a table. Behind the
 * program there may be a copy of the kernel's notes for loaders to read (see pvh.ts); scratch memory is the one page that the program uses.
 */
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { physToVirt } from '../base/addresses.ts';
import { alignUp, Writer } from '../base/bytes.ts';
import { PF_R, PF_W, PF_X, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS, SHT_NOTE, SHT_PROGBITS } from '../elf/constants.ts';
import type { NewSection, NewSegment } from '../elf/write.ts';
import { PMD_SIZE } from '../kaslr/slots.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { PARAMS, PARAMS_MAGIC, SCRATCH, TABLE_FORMAT } from './layout.ts';
import { FLAG_PROGRAM } from '../stub/assembled.ts';

const PAGE = 0x1000;

export interface FlagSegment {
  /** Where it lies behind an image that was not moved, and what memory it takes. */
  readonly linkAddress: PhysAddr;
  readonly memsz: number;
  /** Offset of the notes in it. */
  readonly notesAt: number;
}

export interface Moved {
  readonly virt: Slide;
  readonly phys: Slide;
  /** 8 bytes that stand at the entry in the moved kernel. */
  readonly entryBytes: Uint8Array;
  readonly notes: Uint8Array;
}

/** `offset`: where in the file it will be. `notesSize`: room for notes, used or not. */
export function layOutFlagSegment(kernel: Vmlinux, offset: number, notesSize: number): FlagSegment {
  const first = alignUp(kernel.imageEnd, PAGE);
  const linkAddress = first + ((((offset - first) % PMD_SIZE) + PMD_SIZE) % PMD_SIZE);
  const notesAt = alignUp(PARAMS.size + FLAG_PROGRAM.length, 16);
  return { linkAddress, notesAt, memsz: alignUp(notesAt + notesSize, PAGE) + SCRATCH.wiped };
}

export function buildFlagSegment(kernel: Vmlinux, layout: FlagSegment, offset: number, moved: Moved): NewSegment {
  const { linkAddress, notesAt, memsz } = layout;
  const { virt, phys, entryBytes, notes } = moved;
  const paddr = linkAddress + phys;
  const scratchAt = memsz - SCRATCH.wiped;
  const code = FLAG_PROGRAM;

  const params = new Writer(new Uint8Array(PARAMS.size));
  params.copy(PARAMS.magic, Uint8Array.from(PARAMS_MAGIC));
  params.u64(PARAMS.link_base, paddr);
  params.u64(PARAMS.entry, kernel.entry + phys);
  params.copy(PARAMS.entry_bytes, entryBytes);
  params.u64(PARAMS.image_start, kernel.imageStart + phys);
  params.u64(PARAMS.segment_size, memsz);
  params.u64(PARAMS.scratch, scratchAt);
  params.u32(PARAMS.table_format, TABLE_FORMAT.none);
  params.u64(PARAMS.virt_slide, virt);

  const sections: NewSection[] = [
    section('.kslide.params', SHT_PROGBITS, { start: 0, size: PARAMS.size, flags: SHF_WRITE, align: PAGE }),
    section('.kslide.text', SHT_PROGBITS, { start: PARAMS.size, size: code.length, flags: SHF_EXECINSTR, align: 16 }),
  ];
  if (notes.length > 0)
    sections.push(section('.kslide.notes', SHT_NOTE, { start: notesAt, size: notes.length, flags: 0n, align: 4 }));
  sections.push(
    section('.kslide.bss', SHT_NOBITS, { start: scratchAt, size: SCRATCH.wiped, flags: SHF_WRITE, align: PAGE }),
  );
  return {
    flags: PF_R | PF_W | PF_X,
    paddr,
    vaddr: physToVirt(linkAddress),
    offset,
    memsz,
    align: PMD_SIZE,
    content: [params.bytes, code, new Uint8Array(notesAt - PARAMS.size - code.length), notes],
    sections,
  };
}

function section(name: string, type: number, place: Omit<NewSection, 'name' | 'type'>): NewSection {
  return { name, type, ...place };
}
