/** The ELF file itself: its segments, its sections, and the notes that boot loaders and debuggers look for. */
import { Reader } from '../base/bytes.ts';
import {
  NT_GNU_BUILD_ID,
  PF_R,
  PF_W,
  PF_X,
  PT_LOAD,
  PT_NOTE,
  SHF_ALLOC,
  SHT_RELA,
  SHT_SYMTAB,
  XEN_ELFNOTE_PHYS32_ENTRY,
  XEN_ELFNOTE_PHYS32_RELOC,
} from '../elf/constants.ts';
import { findSection, readNotes } from '../elf/read.ts';
import type { ElfFile } from '../elf/read.ts';
import { hex } from '../base/errors.ts';

/** A program header. Addresses that do not fit a double are text in hex. */
export interface SegmentFacts {
  readonly type: string;
  /** "r-x" */
  readonly flags: string;
  readonly offset: number;
  readonly vaddr: string;
  readonly paddr: number;
  readonly filesz: number;
  readonly memsz: number;
  readonly align: number;
}

export interface SectionFacts {
  readonly count: number;
  readonly symbols: boolean;
  readonly debug: boolean;
  readonly rela: boolean;
}

export interface NoteFacts {
  readonly owner: string;
  readonly type: number;
  /** For the notes that kslide knows. */
  readonly name: string | null;
  readonly bytes: number;
  /** For two Xen notes: XEN_ELFNOTE_PHYS32_ENTRY has one word, XEN_ELFNOTE_PHYS32_RELOC has alignment, lowest and highest address. */
  readonly words: readonly number[] | null;
}

const PT_NAMES: Readonly<Record<number, string>> = {
  [PT_LOAD]: 'PT_LOAD',
  [PT_NOTE]: 'PT_NOTE',
  2: 'PT_DYNAMIC',
  7: 'PT_TLS',
  0x6474_e551: 'PT_GNU_STACK',
};

export function describeSegments({ segments }: ElfFile): SegmentFacts[] {
  return segments.map(({ type, flags, offset, vaddr, paddr, filesz, memsz, align }) => ({
    type: PT_NAMES[type] ?? hex(type),
    flags: `${flags & PF_R ? 'r' : '-'}${flags & PF_W ? 'w' : '-'}${flags & PF_X ? 'x' : '-'}`,
    offset,
    vaddr: hex(vaddr),
    paddr,
    filesz,
    memsz,
    align,
  }));
}

export function describeSections(elf: ElfFile): SectionFacts {
  const { sections } = elf;
  return {
    count: sections.length,
    symbols: sections.some(({ type, size }) => type === SHT_SYMTAB && size > 0),
    debug: findSection(elf, '.debug_info') !== undefined,
    rela: sections.some(({ type, info }) => type === SHT_RELA && isLoaded(elf, info)),
  };
}

function isLoaded({ sections }: ElfFile, index: number): boolean {
  const section = sections[index];
  return section !== undefined && (section.flags & SHF_ALLOC) !== 0n;
}

const NOTE_NAMES: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  Xen: {
    [XEN_ELFNOTE_PHYS32_ENTRY]: 'XEN_ELFNOTE_PHYS32_ENTRY',
    [XEN_ELFNOTE_PHYS32_RELOC]: 'XEN_ELFNOTE_PHYS32_RELOC',
  },
  GNU: { [NT_GNU_BUILD_ID]: 'NT_GNU_BUILD_ID' },
};

export function describeNotes(elf: ElfFile): { readonly notes: NoteFacts[]; readonly buildId: string | null } {
  let buildId: string | null = null;
  const notes = readNotes(elf).map(({ owner, type, desc, descOffset }): NoteFacts => {
    const name = NOTE_NAMES[owner]?.[type] ?? null;
    if (name === 'NT_GNU_BUILD_ID') buildId ??= hexDigits(desc);
    const isPvh = name === 'XEN_ELFNOTE_PHYS32_ENTRY' || name === 'XEN_ELFNOTE_PHYS32_RELOC';
    return { owner, type, name, bytes: desc.length, words: isPvh ? pvhWords(name, desc, descOffset) : null };
  });
  return { notes, buildId };
}

/** Both notes hold u32 words. The entry note of a 64-bit kernel is 8 bytes long; loaders read the first 4. */
function pvhWords(name: string, desc: Uint8Array, offset: number): number[] {
  const reader = new Reader(desc, offset);
  const most = name === 'XEN_ELFNOTE_PHYS32_ENTRY' ? 1 : 3;
  const count = Math.min(most, Math.floor(desc.length / 4));
  return Array.from({ length: count }, (_, index) => reader.u32(index * 4, name));
}

function hexDigits(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
