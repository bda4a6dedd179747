/** ELF notes: an ELF64 file with two PT_NOTE segments and nothing else that matters. */
import { NHDR_SIZE, EHDR, EHDR_SIZE, PHDR, PHDR_SIZE, NHDR, writeFields } from '../../../src/elf/fields.ts';
import { alignUp, ascii, Writer } from '../../../src/base/bytes.ts';
import { readElf, readNotes } from '../../../src/elf/read.ts';
import { describeNotes } from '../../../src/inspect/elf.ts';
import { elfFields } from '../fields.ts';
import type { Target } from '../target.ts';

const SIZE = 0x400;
const [FIRST, SECOND] = [0x100, 0x280];

function makeFile(align: number): Uint8Array {
  const file = new Writer(new Uint8Array(SIZE));
  file.copy(0, Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1));
  const ehdr = {
    e_type: 2,
    e_machine: 62,
    e_version: 1,
    e_phoff: EHDR_SIZE[64],
    e_phentsize: PHDR_SIZE[64],
    e_phnum: 2,
  };
  writeFields(file, 0, EHDR[64], ehdr);
  for (const [index, offset] of [FIRST, SECOND].entries()) {
    const phdr = { p_type: 4, p_offset: offset, p_filesz: 0x180, p_memsz: 0x180, p_align: index === 0 ? align : 4 };
    writeFields(file, EHDR_SIZE[64] + index * PHDR_SIZE[64], PHDR[64], phdr);
    let at = offset;
    for (const [name, type, desc] of [
      ['Xen', 18, 8],
      ['Xen', 19, 12],
      ['GNU', 3, 20],
      ['Linux', 257, 4],
      ['GNU', 5, 16],
    ] as const) {
      writeFields(file, at, NHDR, { n_namesz: name.length + 1, n_descsz: desc, n_type: type });
      file.copy(at + NHDR_SIZE, ascii(name));
      // The descriptor and the next note are aligned, both counted from the note's start.
      const descAt = alignUp(NHDR_SIZE + name.length + 1, index === 0 ? align : 4);
      at += alignUp(descAt + desc, index === 0 ? align : 4);
    }
  }
  return file.bytes;
}

const target: Target = {
  seeds: () => [makeFile(4), makeFile(8)],
  run(input) {
    const elf = readElf(input);
    const { notes, buildId } = describeNotes(elf);
    for (const { desc, descOffset } of readNotes(elf))
      if (descOffset + desc.length > input.length) throw new RangeError('a descriptor outside the file');
    return `${Math.min(notes.length, 12)} notes, ${buildId === null ? 'no build id' : 'a build id'}`;
  },
  fields: elfFields,
  longest: 4096,
  executions: 8000,
};
export default target;
