/**
 * Values of ELF fields by their names: System V ABI, chapters 4 and 5, and the x86-64 psABI. Only what kslide uses. Where the fields lie: fields.ts.
 */
export const ELF_MAGIC = 0x464c457f; // "\x7fELF", little-endian
export const ELFCLASS32 = 1;
export const ELFCLASS64 = 2;
export const ELFDATA2LSB = 1;
export const EV_CURRENT = 1;

export const ET_REL = 1;
export const ET_EXEC = 2;
export const ET_DYN = 3;

export const EM_386 = 3;
export const EM_X86_64 = 62;

export const PT_NULL = 0;
export const PT_LOAD = 1;
export const PT_NOTE = 4;
export const PF_X = 1;
export const PF_W = 2;
export const PF_R = 4;
/** e_phnum if the real count does not fit 16 bits. The count is then in sh_info of section 0. */
export const PN_XNUM = 0xffff;

export const SHT_NULL = 0;
export const SHT_PROGBITS = 1;
export const SHT_SYMTAB = 2;
export const SHT_STRTAB = 3;
export const SHT_RELA = 4;
export const SHT_NOTE = 7;
export const SHT_NOBITS = 8;
export const SHT_REL = 9;
export const SHT_SYMTAB_SHNDX = 18;
export const SHF_WRITE = 1n;
export const SHF_ALLOC = 2n;
export const SHF_EXECINSTR = 4n;

export const SHN_UNDEF = 0;
export const SHN_LORESERVE = 0xff00;
export const SHN_ABS = 0xfff1;
export const SHN_COMMON = 0xfff2;
/** A section number that does not fit 16 bits. A symbol's is then in SHT_SYMTAB_SHNDX; the ELF header's e_shstrndx in section 0. */
export const SHN_XINDEX = 0xffff;

/** Xen notes (include/xen/interface/elfnote.h), owner "Xen". */
export const XEN_ELFNOTE_PHYS32_ENTRY = 18;
export const XEN_ELFNOTE_PHYS32_RELOC = 19;
/** Owner "GNU". */
export const NT_GNU_BUILD_ID = 3;
