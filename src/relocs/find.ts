/**
 * Where a kernel's relocations come from: a table in a file of its own, before one behind the ELF file (a bzImage's payload), before the
 * `.rela` sections that a vmlinux from a build tree or a debug package still has.
 */
import { KernelImageError } from '../errors.ts';
import type { KernelInput } from '../input.ts';
import type { Vmlinux } from '../vmlinux.ts';
import { collectRelocations, hasRelocations } from './collect.ts';
import { readRelocationTable } from './table.ts';
import type { RelocationTable } from './table.ts';

/** Throws KernelImageError: `no-relocations`, saying where they can come from, or what is wrong with those that are there. */
export function findRelocations(kernel: Vmlinux, input: Pick<KernelInput, 'kind' | 'relocs'>): RelocationTable {
  if (input.relocs !== undefined) return readRelocationTable(input.relocs);
  if (kernel.trailer.length > 0) return readRelocationTable(kernel.trailer, kernel.elf.bytes.length);
  if (hasRelocations(kernel.elf.bytes)) return collectRelocations(kernel.elf.bytes);
  throw new KernelImageError({
    code: 'no-relocations',
    what: input.kind === 'vmlinux' ? 'vmlinux' : 'payload',
    expected:
      input.kind === 'vmlinux' ? 'a table behind the ELF file, or .rela sections' : 'a table behind the ELF file',
    hint:
      input.kind === 'vmlinux'
        ? 'relocations of this kernel are in the bzImage of the same build, in its vmlinux.unstripped, or in its vmlinux.relocs (--relocs)'
        : 'a kernel built without CONFIG_RANDOMIZE_BASE has none and cannot move',
  });
}
