/**
 * Counts the entries of a vmlinux's `.rela` sections by type, whether or not the relocation table needs them. The linker left them; they are the
 * largest form that relocations have.
 */
import { viewOf } from '../base/bytes.ts';
import { SHT_RELA } from '../elf/constants.ts';
import { REL_SIZE } from '../elf/fields.ts';
import { memorySource } from '../relocs/tool/byte-source.ts';
import { openRelocsImage } from '../relocs/tool/image.ts';
import { PIECE, readPieces, relocationSections, typeOf } from '../relocs/tool/relocation-entries.ts';
import { isPcRelative, relocationTypeName } from '../relocs/tool/types.ts';

export interface RelaStatistics {
  /** Entries that apply to loaded sections, and how many of these are PC-relative. */
  readonly entries: number;
  readonly pcRelative: number;
  /** Entries by type, the most frequent first. */
  readonly types: readonly { readonly type: string; readonly entries: number }[];
  /** Bytes of the sections that apply to something else: debug information. */
  readonly unloadedBytes: number;
}

/** `vmlinux`: ELF64. Throws KernelImageError where `collectRelocations` does, but accepts every relocation type. */
export function relaStatistics(vmlinux: Uint8Array): RelaStatistics {
  const image = openRelocsImage(memorySource(vmlinux));
  const { sections } = image;
  const byType = new Map<number, number>();
  let loadedBytes = 0;
  const scratch = new Uint8Array(PIECE * REL_SIZE[64]);
  for (const section of relocationSections(image)) {
    loadedBytes += sections.address(section.index, 'sh_size');
    for (const { bytes, count } of readPieces(image, section, scratch)) {
      const view = viewOf(bytes);
      for (let entry = 0; entry < count; entry++) {
        const type = typeOf(view, entry * REL_SIZE[64], 64);
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
