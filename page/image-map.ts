/**
 * The kernel's image in memory, as data for a picture: which parts are loaded, what is in them, and where the relocations are.
 *
 * Its size does not depend on the file's claims: a hostile file may have 65,000 segments and sections.
 */
import { SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS } from '../src/elf/constants.ts';
import type { Inspection } from '../src/inspect.ts';
import { loadedSections } from '../src/inspect/site-locations.ts';
import type { LoadedSection } from '../src/inspect/site-locations.ts';
import type { Vmlinux } from '../src/kernel/vmlinux.ts';

/** In the order of the legend. */
export const KINDS = {
  code: 'code',
  constants: 'constants',
  data: 'data',
  start: 'used at start only',
  zeros: 'zeros',
} as const;
export type Kind = keyof typeof KINDS;

/** Physical link addresses; `end` is one past the last byte. */
export interface Stretch {
  readonly start: number;
  readonly end: number;
}

export interface ImageMap extends Stretch {
  readonly entry: number;
  /** The largest, by address. `filled`: the end of what comes from the file; zeros follow. */
  readonly segments: readonly (Stretch & { readonly filled: number; readonly flags: string })[];
  readonly contents: readonly (Stretch & { readonly kind: Kind })[];
  /** Null for a kernel without relocations. */
  readonly sites: { readonly start: number; readonly cell: number; readonly counts: readonly number[] } | null;
  /** Of a converted file. */
  readonly added: Stretch | null;
}

const MOST_SEGMENTS = 32;
/** More than a screen has pixels for the picture. */
const COLUMNS = 1024;

export function mapImage(kernel: Vmlinux, { converted, relocations }: Inspection): ImageMap {
  const { imageStart: start, imageEnd: end, loads, entry } = kernel;
  const addedAt = converted?.segment.paddr;
  const segments = loads
    .filter(({ paddr, memsz }) => memsz > 0 && paddr !== addedAt)
    .toSorted((a, b) => b.memsz - a.memsz)
    .slice(0, MOST_SEGMENTS)
    .toSorted((a, b) => a.paddr - b.paddr)
    .map(({ paddr, filesz, memsz, flags }) => ({
      start: paddr,
      filled: paddr + filesz,
      end: paddr + memsz,
      flags: `${flags & 4 ? 'r' : '-'}${flags & 2 ? 'w' : '-'}${flags & 1 ? 'x' : '-'}`,
    }));
  return {
    start,
    end,
    entry,
    segments,
    contents: findContents(kernel),
    sites: relocations?.map ?? null,
    added: converted === null ? null : { start: addedAt!, end: addedAt! + converted.segment.memory },
  };
}

/** The kind that has most of each column's bytes; neighbours of one kind are joined. Columns without a section have none. */
function findContents(kernel: Vmlinux): (Stretch & { kind: Kind })[] {
  const { imageStart, imageEnd } = kernel;
  const width = (imageEnd - imageStart) / COLUMNS;
  const names = Object.keys(KINDS) as Kind[];
  const bytes = names.map(() => new Float64Array(COLUMNS));
  for (const section of loadedSections(kernel)) {
    const amounts = bytes[names.indexOf(kindOf(section))]!;
    const from = Math.max(section.start, imageStart) - imageStart;
    const to = Math.min(section.end, imageEnd) - imageStart;
    for (let column = Math.floor(from / width); column < Math.min(COLUMNS, to / width); column++)
      amounts[column]! += Math.min(to, (column + 1) * width) - Math.max(from, column * width);
  }
  const found: { start: number; end: number; kind: Kind }[] = [];
  for (let column = 0; column < COLUMNS; column++) {
    let most = 0;
    for (let kind = 1; kind < names.length; kind++) if (bytes[kind]![column]! > bytes[most]![column]!) most = kind;
    if (bytes[most]![column] === 0) continue;
    const start = imageStart + column * width;
    const last = found.at(-1);
    if (last !== undefined && last.kind === names[most] && Math.abs(last.end - start) < width / 2)
      last.end = start + width;
    else found.push({ start, end: start + width, kind: names[most]! });
  }
  return found;
}

/** Sections that the kernel frees after its start have names like these (include/asm-generic/vmlinux.lds.h). */
const START_ONLY =
  /^\.(init|exit|alt_?instr|parainst|retpoline|return_sites|call_sites|smp_locks|iommu|apicdrivers|x86_cpu|ibt)/;

function kindOf({ name, header: { type, flags } }: LoadedSection): Kind {
  if (type === SHT_NOBITS) return 'zeros';
  if (START_ONLY.test(name)) return 'start';
  if ((flags & SHF_EXECINSTR) !== 0n) return 'code';
  // .rodata has the flag SHF_WRITE in Debian's kernels: some of it is written at the start.
  return (flags & SHF_WRITE) === 0n || name.startsWith('.rodata') ? 'constants' : 'data';
}
