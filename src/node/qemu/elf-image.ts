/**
 * Writes a small ELF64 executable: segments that are loaded where they say, and at most one note. For programs of our own that a
 * loader must start: QEMU's for the linux64 loader, Linux's for the guest's /init. Rewriting a kernel is elf/write.ts.
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
import { EHDR_SIZE, PHDR_SIZE } from '../../elf/fields.ts';

export interface ImageSegment {
  /** Both p_paddr and p_vaddr. */
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly memsz: number;
}

export interface Image {
  readonly entry: number;
  /** The contents of a PT_NOTE segment. */
  readonly note?: Uint8Array | undefined;
  readonly segments: readonly ImageSegment[];
}

/** The file, as a new array. Segments are readable, writable and executable. */
export function buildElf({ entry, note = new Uint8Array(), segments }: Image): Uint8Array {
  // Layout: headers, note, then the segments, whose file offsets equal their addresses modulo the page size, as Linux's exec wants.
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
  const note = new Writer(new Uint8Array(12 + name.length + 8));
  note.u32(0, name.length);
  note.u32(4, 8);
  note.u32(8, XEN_ELFNOTE_PHYS32_ENTRY);
  note.copy(12, name);
  note.u64(12 + name.length, entry);
  return note.bytes;
}

function writeHeader(file: Writer, entry: number, phnum: number): void {
  file.u32(0, ELF_MAGIC); // e_ident
  file.u8(4, ELFCLASS64);
  file.u8(5, ELFDATA2LSB);
  file.u8(6, EV_CURRENT);
  file.u16(16, ET_EXEC); // e_type
  file.u16(18, EM_X86_64); // e_machine
  file.u32(20, EV_CURRENT); // e_version
  file.u64(24, entry); // e_entry
  file.u64(32, EHDR_SIZE[64]); // e_phoff
  file.u16(52, EHDR_SIZE[64]); // e_ehsize
  file.u16(54, PHDR_SIZE[64]); // e_phentsize
  file.u16(56, phnum); // e_phnum
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
  const at = EHDR_SIZE[64] + PHDR_SIZE[64] * index;
  file.u32(at, header.type);
  file.u32(at + 4, header.flags);
  file.u64(at + 8, header.offset);
  file.u64(at + 16, header.address);
  file.u64(at + 24, header.address);
  file.u64(at + 32, header.filesz);
  file.u64(at + 40, header.memsz);
  file.u64(at + 48, header.align);
}
