/**
 * Where a kernel's relocations come from: a table in a file of its own, before one behind the ELF file (a bzImage's payload), before the
 * `.rela` sections that a vmlinux from a build tree or a debug package still has, before a section that `--keep` has filled.
 */
import { KernelImageError } from '../base/errors.ts';
import type { KernelInput } from '../kernel/input.ts';
import type { OpenedKernel } from '../kernel/open.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { collectRelocations, hasRelocations } from './tool/collect.ts';
import { findFilledSection, readFilledSection } from './reserved-section.ts';
import { checkSites, readRelocationTable } from './tables/kernel-table.ts';
import type { RelocationTable } from './tables/kernel-table.ts';

export type RelocationSource = 'relocs-file' | 'behind' | 'rela' | 'reserved';

type Given = Pick<KernelInput, 'kind' | 'relocs'>;

/** Undefined for a kernel that has none, or has left them behind. */
export function locateRelocations(kernel: Vmlinux, { relocs }: Pick<Given, 'relocs'>): RelocationSource | undefined {
  if (relocs !== undefined) return 'relocs-file';
  if (kernel.trailer.length > 0) return 'behind';
  if (hasRela(kernel)) return 'rela';
  return findFilledSection(kernel.elf) === undefined ? undefined : 'reserved';
}

/** Whether the file has relocation sections that apply to loaded ones. Without section headers it has not, and need not be one that is whole. */
export function hasRela({ elf }: Vmlinux): boolean {
  return elf.header.shnum > 0 && hasRelocations(elf.bytes);
}

/** Throws KernelImageError: what is wrong with those that are there. */
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
 * The relocations of an opened kernel; `known` where the caller has them already. Every site is known to lie inside the image: applying them cannot go wrong. Throws KernelImageError:
 * `no-relocations`, saying where they can come from, or what is wrong with those that are there.
 */
export function readRelocations({ input, kernel }: OpenedKernel, known?: RelocationTable): RelocationTable {
  const table = known ?? findRelocations(kernel, input);
  checkSites(table, kernel.loads);
  return table;
}

/** The same without a look at the sites. */
export function findRelocations(kernel: Vmlinux, input: Given): RelocationTable {
  const source = locateRelocations(kernel, input);
  if (source !== undefined) return readFrom(source, kernel, input);
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
