/**
 * What a vmlinux's relocation sections hold, whether or not the table needs it: the linker's own words, which are the longest way to say it.
 */
import { viewOf } from '../../base/bytes.ts';
import { SHT_RELA } from '../../elf/constants.ts';
import { memorySource } from './byte-source.ts';
import { openRelocsImage } from './image.ts';
import { isPcRelative, relocationTypeName } from './types.ts';
import { PIECE, readPieces, relocationSections, REL_SIZE, typeOf } from './walk.ts';

export interface RelaCensus {
  /** Entries that apply to loaded sections, and how many of them are relative to their own place. */
  readonly entries: number;
  readonly pcRelative: number;
  /** Entries by type, the most frequent first. */
  readonly types: readonly { readonly type: string; readonly entries: number }[];
  /** Bytes of the sections that apply to something else: debug information. */
  readonly unloadedBytes: number;
}

/** Elf64_Rela. */
export const RELA_BYTES = REL_SIZE[64];

/** Throws KernelImageError as `collectRelocations`, but takes any type. `vmlinux`: ELF64. */
export function countRela(vmlinux: Uint8Array): RelaCensus {
  const image = openRelocsImage(memorySource(vmlinux));
  const { sections } = image;
  const byType = new Map<number, number>();
  let loadedBytes = 0;
  const scratch = new Uint8Array(PIECE * RELA_BYTES);
  for (const section of relocationSections(image)) {
    loadedBytes += sections.address(section.index, 'sh_size');
    for (const { bytes, count } of readPieces(image, section, scratch)) {
      const view = viewOf(bytes);
      for (let entry = 0; entry < count; entry++) {
        const type = typeOf(view, entry * RELA_BYTES, 64);
        byType.set(type, (byType.get(type) ?? 0) + 1);
      }
    }
  }
  let allBytes = 0;
  for (let index = 0; index < sections.count; index++)
    if (sections.word(index, 'sh_type') === SHT_RELA) allBytes += sections.address(index, 'sh_size');
  const types = [...byType].toSorted(([a, many], [b, more]) => more - many || a - b);
  const sum = (numbers: readonly (readonly [number, number])[]): number => numbers.reduce((all, [, n]) => all + n, 0);
  return {
    entries: sum(types),
    pcRelative: sum(types.filter(([type]) => isPcRelative(type))),
    types: types.map(([type, entries]) => ({ type: relocationTypeName(64, type) ?? `type ${type}`, entries })),
    unloadedBytes: allBytes - loadedBytes,
  };
}
