/** The loaded sections of a debug vmlinux, and the symbols in each: what the file says, for the writer and for who proves its work. */
import type { PhysAddr } from '../base/addresses.ts';
import { SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS } from '../elf/constants.ts';
import { NOWHERE } from './read/debug-kernel.ts';
import type { DebugKernel } from './read/debug-kernel.ts';
import type { Extent } from './ranges.ts';

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

/** By number of the section. */
export function symbolsBySection({ symbols, places }: DebugKernel): ReadonlyMap<number, readonly PhysAddr[]> {
  const found = new Map<number, PhysAddr[]>();
  for (let symbol = 0; symbol < symbols.count; symbol++) {
    const section = symbols.sectionIndex(symbol);
    const members = found.get(section);
    if (members === undefined) found.set(section, [places[symbol]!]);
    else members.push(places[symbol]!);
  }
  return found;
}
