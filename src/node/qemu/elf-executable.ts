/**
 * Writes a small ELF64 executable: segments that are loaded at their addresses, and at most one note. It is for programs that kslide makes itself and a
 * loader starts: QEMU starts the linux64 loader, and Linux starts the guest's /init. Rewriting a kernel is elf/write.ts.
 */
import { PAGE_SIZE } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { alignUp, ascii, Writer } from '../../base/bytes.ts';
import {
  ELF_MAGIC,
  ELFCLASS64,
  ELFDATA2LSB,
  EM_X86_64,
  ET_EXEC,
  EV_CURRENT,
  PF_R,
  PF_W,
  PF_X,
  PT_LOAD,
  PT_NOTE,
  XEN_ELFNOTE_PHYS32_ENTRY,
} from '../../elf/constants.ts';
import { EHDR, EHDR_SIZE, NHDR, NHDR_SIZE, PHDR, PHDR_SIZE, writeFields } from '../../elf/fields.ts';

export interface ExecutableSegment {
  /** Both p_paddr and p_vaddr. */
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly memsz: number;
}

export interface Executable {
  readonly entry: number;
  /** The contents of a PT_NOTE segment. */
  readonly note?: Uint8Array | undefined;
  readonly segments: readonly ExecutableSegment[];
}

/** The file, as a new array. Segments are readable, writable and executable. */
export function buildElf({ entry, note = new Uint8Array(), segments }: Executable): Uint8Array {
  // Layout: headers, note, then the segments, whose file offsets equal their addresses modulo the page size, as Linux's exec requires.
  const noteAt = EHDR_SIZE[64] + PHDR_SIZE[64] * (segments.length + 1);
  let end = noteAt + note.length;
  const offsets = segments.map(({ address, bytes }) => {
    const offset = alignUp(end, PAGE_SIZE) + (address % PAGE_SIZE);
    end = offset + bytes.length;
    return offset;
  });

  const file = new Writer(new Uint8Array(end));
  writeHeader(file, entry, segments.length + 1);
  writeProgramHeader(file, 0, {
    type: PT_NOTE,
    flags: PF_R,
    offset: noteAt,
    address: 0,
    filesz: note.length,
    memsz: 0,
    align: 4,
  });
  file.copy(noteAt, note);
  segments.forEach(({ address, bytes, memsz }, i) => {
    const offset = offsets[i] ?? 0;
    const flags = PF_R | PF_W | PF_X;
    writeProgramHeader(file, i + 1, {
      type: PT_LOAD,
      flags,
      offset,
      address,
      filesz: bytes.length,
      memsz,
      align: PAGE_SIZE,
    });
    file.copy(offset, bytes);
  });
  return file.bytes;
}

/** XEN_ELFNOTE_PHYS32_ENTRY: where a PVH loader enters, in 32-bit protected mode. The descriptor has a pointer's size. */
export function pvhNote(entry: PhysAddr): Uint8Array {
  const name = ascii('Xen\0');
  const descAt = NHDR_SIZE + name.length;
  const note = new Writer(new Uint8Array(descAt + 8));
  writeFields(note, 0, NHDR, { n_namesz: name.length, n_descsz: 8, n_type: XEN_ELFNOTE_PHYS32_ENTRY });
  note.copy(NHDR_SIZE, name);
  note.u64(descAt, entry);
  return note.bytes;
}

function writeHeader(file: Writer, entry: number, phnum: number): void {
  writeFields(file, 0, EHDR[64], {
    EI_MAG: ELF_MAGIC,
    EI_CLASS: ELFCLASS64,
    EI_DATA: ELFDATA2LSB,
    EI_VERSION: EV_CURRENT,
    e_type: ET_EXEC,
    e_machine: EM_X86_64,
    e_version: EV_CURRENT,
    e_entry: entry,
    e_phoff: EHDR_SIZE[64],
    e_ehsize: EHDR_SIZE[64],
    e_phentsize: PHDR_SIZE[64],
    e_phnum: phnum,
  });
}

interface ProgramHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly filesz: number;
  readonly memsz: number;
  readonly align: number;
}

function writeProgramHeader(file: Writer, index: number, header: ProgramHeader): void {
  writeFields(file, EHDR_SIZE[64] + PHDR_SIZE[64] * index, PHDR[64], {
    p_type: header.type,
    p_flags: header.flags,
    p_offset: header.offset,
    p_vaddr: header.address,
    p_paddr: header.address,
    p_filesz: header.filesz,
    p_memsz: header.memsz,
    p_align: header.align,
  });
}
