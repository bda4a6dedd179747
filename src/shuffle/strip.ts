/**
 * An unstripped vmlinux without what a shuffle makes untrue: its symbols, its `.rela` sections, its debug information. Of such a file only the part up to
 * the end of the last segment is kept, without section headers; a stripped one, as in a bzImage, is kept as it is.
 */
import { copyOf, Writer } from '../base/bytes.ts';
import { SHT_RELA, SHT_SYMTAB } from '../elf/constants.ts';
import { EHDR } from '../elf/fields.ts';
import { readVmlinux } from '../kernel/vmlinux.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';

export function withoutSymbols(kernel: Vmlinux): Vmlinux {
  const { elf } = kernel;
  if (!elf.sections.some(({ type }) => type === SHT_SYMTAB || type === SHT_RELA)) return kernel;
  const end = elf.segments.reduce((last, { offset, filesz }) => Math.max(last, offset + filesz), 0);
  const writer = new Writer(copyOf(elf.bytes.subarray(0, end)));
  writer.u64(EHDR[64].e_shoff[0], 0);
  writer.u16(EHDR[64].e_shnum[0], 0);
  writer.u16(EHDR[64].e_shstrndx[0], 0);
  return readVmlinux(writer.bytes);
}
