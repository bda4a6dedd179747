/**
 * Finds a kernel's relocations. In this order: a table in a file of its own (`--relocs`), a table after the ELF file (as in a bzImage's payload), the
 * `.rela` sections that a vmlinux from a build tree or a debug package still has, and the reserved section that `relocs --keep` has filled.
 */
import { KernelImageError } from '../base/errors.ts';
import type { KernelInput } from '../kernel/input.ts';
import type { OpenedKernel } from '../kernel/open.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { collectRelocations, hasRelocations } from './tool/collect.ts';
import { findFilledSection, readFilledSection } from './reserved-section.ts';
import { checkSites, readRelocationTable } from './tables/kernel-table.ts';
import type { RelocationTable } from './tables/kernel-table.ts';

/** `behind`: the table after the ELF file. The name stays, because `inspect --json` prints it. */
export type RelocationSource = 'relocs-file' | 'behind' | 'rela' | 'reserved';

type Given = Pick<KernelInput, 'kind' | 'relocs'>;

/** Undefined for a kernel that was built without relocations or stripped of them. */
export function locateRelocations(kernel: Vmlinux, { relocs }: Pick<Given, 'relocs'>): RelocationSource | undefined {
  if (relocs !== undefined) return 'relocs-file';
  if (kernel.trailer.length > 0) return 'behind';
  if (hasRela(kernel)) return 'rela';
  return findFilledSection(kernel.elf) === undefined ? undefined : 'reserved';
}

/** Whether the file has relocation sections that apply to loaded ones. A file without section headers has none, and `hasRelocations` may refuse it. */
export function hasRela({ elf }: Vmlinux): boolean {
  return elf.header.shnum > 0 && hasRelocations(elf.bytes);
}

/** Throws KernelImageError if the relocations there are broken. */
export function readFrom(
  source: RelocationSource,
  { elf, trailer }: Vmlinux,
  { relocs }: Pick<Given, 'relocs'>,
): RelocationTable {
  if (source === 'relocs-file') return readRelocationTable(relocs!);
  if (source === 'behind') return readRelocationTable(trailer, elf.bytes.length);
  return source === 'rela' ? collectRelocations(elf.bytes) : readFilledSection(findFilledSection(elf)!);
}

/**
 * Returns the relocations of an opened kernel, or `known` if the caller has them already. Every site has been checked to be inside the image, so they can be
 * applied without further checks. Throws KernelImageError: `no-relocations` with a hint where to find them, or another code if they are broken.
 */
export function readRelocations({ input, kernel }: OpenedKernel, known?: RelocationTable): RelocationTable {
  const table = known ?? findRelocations(kernel, input);
  checkSites(table, kernel.loads);
  return table;
}

/** The same, but the sites are not checked. */
export function findRelocations(kernel: Vmlinux, input: Given): RelocationTable {
  const source = locateRelocations(kernel, input);
  if (source !== undefined) return readFrom(source, kernel, input);
  throw new KernelImageError({
    code: 'no-relocations',
    what: input.kind === 'vmlinux' ? 'vmlinux' : 'payload',
    expected: input.kind === 'vmlinux' ? 'a table after the ELF file, or .rela sections' : 'a table after the ELF file',
    hint:
      input.kind === 'vmlinux'
        ? 'relocations of this kernel are in the bzImage of the same build, in its vmlinux.unstripped, or in its vmlinux.relocs (--relocs)'
        : 'a kernel built without CONFIG_RANDOMIZE_BASE has none and cannot move',
  });
}
