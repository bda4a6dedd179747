/**
 * Whether a vmlinux still has the relocations of its code.
 *
 * Builds strip `.rela` sections by name, and leave some: Linux 6.11 to 6.14 those of runtime constants (`.relaruntime_…`), other tools those of data or of debug
 * information. What is left makes a table that reads well, and a kernel moved by it dies. Every kernel's .text has relocations, so one that
 * applies to it must be there.
 */
import { KernelImageError } from '../../base/errors.ts';
import { SHF_ALLOC, SHF_EXECINSTR, SHT_REL, SHT_RELA } from '../../elf/constants.ts';
import { REL_SIZE } from '../../elf/fields.ts';
import { short } from '../../base/text.ts';
import type { RelocsImage } from './image.ts';
import type { SectionTable } from './sections.ts';

/** Relocation sections of a file that has none for its code. */
export interface LeftSections {
  readonly count: number;
  /** Section numbers: the first of all, and the first that applies to loaded bytes. */
  readonly first: number | undefined;
  readonly loaded: number | undefined;
}

const LOADED_CODE = SHF_ALLOC | SHF_EXECINSTR;

/**
 * Undefined for a file with relocations of its code. `text`: number of section .text, or -1: then any section with loaded code counts. A
 * relocation section that applies to none counts, because its reader reports it.
 */
export function findLeftSections(sections: SectionTable, text: number): LeftSections | undefined {
  const wanted = sections.bits === 64 ? SHT_RELA : SHT_REL;
  let [count, first, loaded]: [number, number | undefined, number | undefined] = [0, undefined, undefined];
  for (let index = 0; index < sections.count; index++) {
    if (sections.word(index, 'sh_type') !== wanted) continue;
    if (sections.address(index, 'sh_size') < REL_SIZE[sections.bits]) continue;
    const target = sections.word(index, 'sh_info');
    if (target >= sections.count) return undefined;
    const flags = BigInt(sections.word(target, 'sh_flags'));
    if (text < 0 ? (flags & LOADED_CODE) === LOADED_CODE : target === text) return undefined;
    count++;
    first ??= index;
    if ((flags & SHF_ALLOC) !== 0n) loaded ??= index;
  }
  return { count, first, loaded };
}

/** `nameOf`: of a section, by its number. */
export function describeLeft({ count, first, loaded }: LeftSections, nameOf: (index: number) => string): string {
  const example = loaded ?? first;
  if (example === undefined) return 'vmlinux has no relocation sections';
  const sections = count === 1 ? 'one relocation section,' : `${count} relocation sections, such as`;
  return `vmlinux has ${sections} ${short(nameOf(example))}, but none that applies to its code`;
}

/** Throws KernelImageError for a file without relocations of its code. The kernel's own tool makes a table of what is left. */
export function expectRelocatedText({ sections, findSection, sectionTitle }: RelocsImage): void {
  const left = findLeftSections(sections, findSection('.text'));
  if (left === undefined) return;
  throw new KernelImageError({
    code: 'no-relocations',
    what: describeLeft(left, sectionTitle),
    expected: 'all that the linker leaves with --emit-relocs',
    hint: 'take the vmlinux.unstripped of the build, or its vmlinux before it was stripped',
  });
}
