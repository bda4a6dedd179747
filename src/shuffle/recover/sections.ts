/** The loaded sections of a debug vmlinux, by address. */
import type { PhysAddr } from '../../addresses.ts';
import { SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS } from '../../elf/constants.ts';
import { NOWHERE } from '../debug-kernel.ts';
import type { DebugKernel } from '../debug-kernel.ts';
import { pieceBefore } from '../fields.ts';

export interface Extent {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
}

export interface LoadedSection extends Extent {
  readonly index: number;
  readonly name: string;
  readonly executable: boolean;
  /** Nothing but code. Since 6.14 some is in .data, that of kexec, which is copied elsewhere before it runs. */
  readonly isCode: boolean;
}

/** Those that have bytes in the file, by rising address. */
export function sectionsOf({ image, placeOfSection }: DebugKernel): LoadedSection[] {
  const { sections } = image;
  const found: LoadedSection[] = [];
  for (let index = 0; index < sections.count; index++) {
    const flags = sections.word(index, 'sh_flags');
    const size = sections.address(index, 'sh_size');
    if ((flags & Number(SHF_ALLOC)) === 0 || sections.word(index, 'sh_type') === SHT_NOBITS || size === 0) continue;
    const start = placeOfSection(index);
    if (start === NOWHERE) continue;
    const executable = (flags & Number(SHF_EXECINSTR)) !== 0;
    const isCode = executable && (flags & Number(SHF_WRITE)) === 0;
    found.push({ index, name: image.sectionTitle(index), start, end: start + size, executable, isCode });
  }
  return found.toSorted((a, b) => a.start - b.start);
}

/** Whether a place is in one of them; `extents` by rising start. An end counts, for what is empty may be there. */
export function makeExtents(extents: readonly Extent[]): (place: PhysAddr) => boolean {
  const starts: number[] = [];
  const ends: number[] = [];
  for (const { start, end } of extents) {
    if (starts.length > 0 && start <= ends.at(-1)!) ends[ends.length - 1] = Math.max(end, ends.at(-1)!);
    else {
      starts.push(start);
      ends.push(end);
    }
  }
  return (place) => {
    const before = pieceBefore(starts, place);
    return before >= 0 && place <= ends[before]!;
  };
}
