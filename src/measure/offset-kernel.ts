/** What `offset` takes from the kernel's file: where it is linked and may go, where its symbols are, and whether the host has moved it. */
import { virtToPhys } from '../base/addresses.ts';
import type { VirtAddr } from '../base/addresses.ts';
import { cString, Reader } from '../base/bytes.ts';
import { SHN_ABS, SHN_UNDEF, SHT_SYMTAB } from '../elf/constants.ts';
import { readField, readNumber, SYM, SYM_SIZE } from '../elf/fields.ts';
import { readElf, sectionBytes } from '../elf/read.ts';
import type { ElfFile } from '../elf/read.ts';
import { readImageLimit } from '../kernel/image-limit.ts';
import { linkedText, slideWithKaslrOff } from '../kernel/slide-of-file.ts';
import { readVmlinuxFrom } from '../kernel/vmlinux.ts';
import type { OffsetKernel } from './offset.ts';

/** Throws KernelImageError if this is not an x86-64 vmlinux. One that `kslide randomize` has moved is one. */
export function readOffsetKernel(bytes: Uint8Array): OffsetKernel {
  const elf = readElf(bytes);
  const addressOf = symbolsOf(elf);
  const text = linkedText(elf);
  // A file that was not moved tells nothing of the kernel that ran: that may have been a copy which the host moved.
  const moved = text === undefined ? undefined : slideWithKaslrOff(elf);
  if (moved !== undefined && moved > 0) return { text, addressOf, whenDisabled: moved };
  return { text, addressOf, limit: readImageLimit(readVmlinuxFrom(elf)).bytes };
}

/** Addresses in the kernel's map, of names that only one symbol has, without absolute symbols, which do not move. The table is read at the first question. */
function symbolsOf(elf: ElfFile): (name: string) => VirtAddr | undefined {
  let known: Map<string, VirtAddr | undefined> | undefined;
  return (name) => (known ??= readSymbols(elf)).get(name);
}

function readSymbols(elf: ElfFile): Map<string, VirtAddr | undefined> {
  const known = new Map<string, VirtAddr | undefined>();
  const section = elf.sections.find(({ type }) => type === SHT_SYMTAB);
  const names = section && elf.sections[section.link];
  if (section === undefined || names === undefined) return known;
  const strings = sectionBytes(elf, names);
  const bytes = sectionBytes(elf, section);
  const reader = new Reader(bytes, section.offset);
  for (let at = 0; at + SYM_SIZE[64] <= bytes.length; at += SYM_SIZE[64]) {
    const address = readField(reader, at, SYM[64].st_value, 'st_value');
    if (virtToPhys(address) === undefined) continue;
    const index = readNumber(reader, at, SYM[64].st_shndx, 'st_shndx');
    if (index === SHN_UNDEF || index === SHN_ABS) continue;
    const start = readNumber(reader, at, SYM[64].st_name, 'st_name');
    const name = start < strings.length ? cString(strings, start, LONGEST_NAME) : '';
    known.set(name, known.has(name) && known.get(name) !== address ? undefined : address);
  }
  return known;
}

/** KSYM_NAME_LEN is 512 (include/linux/kallsyms.h). */
const LONGEST_NAME = 512;
