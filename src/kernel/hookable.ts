/** What a kernel must be so that a program can be put in front of it: conditions that all who rewrite kernels share. */
import { START_KERNEL_MAP } from '../base/addresses.ts';
import { Reader } from '../base/bytes.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { EHDR, EHDR_SIZE, PHDR_SIZE } from '../elf/fields.ts';
import { isElf, readElf } from '../elf/read.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { ENTRY_BYTES, PARAMS } from '../segment/layout.ts';
import { addedSegment, kindOfKernel } from '../segment/hook.ts';
import { fileOffsetOf } from './vmlinux.ts';
import type { Vmlinux } from './vmlinux.ts';

/** Before anything else is read: a kernel that was moved physically is no longer linked where it is loaded, and would be refused for that. */
export function refuseConverted(vmlinux: Uint8Array): void {
  if (addedSegment(readElf(vmlinux)) === undefined) return;
  throw new KernelImageError({
    code: 'already-converted',
    what: 'vmlinux',
    hint: 'convert the kernel that it was made from',
  });
}

/**
 * A kernel that `randomize` has moved is named as such, with its slides, where one is wanted that moves itself or stays. Says nothing of bytes
 * that are no ELF file: others do.
 */
export function refuseMoved(vmlinux: Uint8Array): void {
  if (!isElf(vmlinux)) return;
  const elf = readElf(vmlinux);
  const added = addedSegment(elf);
  if (added === undefined || kindOfKernel(elf) !== 'moved') return;
  const virt = new Reader(vmlinux).u64AsNumber(added.offset + PARAMS.virt_slide, 'virt_slide');
  const image = elf.segments.find(({ type, vaddr }) => type === PT_LOAD && vaddr >= START_KERNEL_MAP);
  const phys = image === undefined ? 0 : image.paddr - Number(image.vaddr - START_KERNEL_MAP);
  throw new KernelImageError({
    code: 'unsupported',
    what: 'vmlinux',
    found: `moved by the host (kslide randomize), virtual slide ${hex(virt)}, physical slide ${hex(phys)}`,
    hint: 'take the kernel that it was made from',
  });
}

/** What is rewritten must be in memory nowhere (the headers) or once (the hook): then the image in memory is the original's. */
export function refuseSharedBytes({ elf, loads }: Vmlinux): void {
  const { phoff, phnum } = elf.header;
  if (phoff < EHDR_SIZE[64]) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'e_phoff',
      offset: EHDR[64].e_phoff[0],
      found: phoff,
      expected: `${hex(EHDR_SIZE[64])} or above: program headers of their own, not the ELF header's bytes`,
    });
  }
  const taken = [
    { what: 'the ELF header', start: 0, end: EHDR_SIZE[64] },
    { what: 'the program headers', start: phoff, end: phoff + (phnum + 1) * PHDR_SIZE[64] },
  ];
  for (const { index, offset, filesz } of loads) {
    if (filesz === 0) continue;
    const other = taken.find(({ start, end }) => offset < end && offset + filesz > start);
    if (other !== undefined) {
      throw new KernelImageError({
        code: 'unsupported',
        what: `program header ${index}: p_offset`,
        found: offset,
        expected: `file bytes of its own: those of ${other.what} are loaded with it`,
      });
    }
    taken.push({ what: `program header ${index}`, start: offset, end: offset + filesz });
  }
}

/** The program puts ENTRY_BYTES back at the entry, so they must all be there. */
export function checkEntry(kernel: Vmlinux): Vmlinux {
  if (fileOffsetOf(kernel.loads, kernel.entry + ENTRY_BYTES - 1) === kernel.entryOffset + ENTRY_BYTES - 1)
    return kernel;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'e_entry',
    offset: 24,
    found: kernel.entry,
    expected: `at least ${ENTRY_BYTES} bytes before its segment's end`,
  });
}
