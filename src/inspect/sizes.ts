/**
 * The size of the same relocations in each form that has been proposed for carrying them. For comparison only: kslide itself writes the kernel's table
 * and the compact one. The sizes of forms that exist only in the file's own `.rela` sections are null if it has none.
 */
import type { Sites } from '../relocs/tables/apply.ts';
import { REL_SIZE } from '../elf/fields.ts';
import { encodeCompactTable } from '../relocs/tables/compact.ts';
import { countRelocations } from '../relocs/tables/kernel-table.ts';
import type { RelaStatistics } from './rela-statistics.ts';
import { encodeRelr, sitesForRelr } from './relr.ts';

export interface FormSizes {
  /** The `.rela` sections that apply to loaded ones, as the linker left them. */
  readonly rela: EntriesSize | null;
  /** The same without PC-relative entries, except those that the table's inverse list needs: they name per-cpu data, which does not move. */
  readonly relaWithoutPcRelative: EntriesSize | null;
  /** An Elf64_Rela for each site of the table and nothing else. */
  readonly relaOfSites: EntriesSize;
  /** The kernel's own table, with as many lists as this kernel reads. */
  readonly kernelTable: number;
  /** SHT_RELR holds only aligned 64-bit sites: `sites` of them in `bytes`. `rest`: the others in the kernel's table. */
  readonly relr: { readonly bytes: number; readonly sites: number; readonly rest: EntriesSize };
  /** kslide's compact table: docs/formats.md. */
  readonly compact: number;
}

export interface EntriesSize {
  readonly entries: number;
  readonly bytes: number;
}

const WORD = 4;

/** `sites`: from a table that `checkSites` has accepted. */
export function compareForms(
  sites: Sites & { readonly lists: 2 | 3 },
  statistics: RelaStatistics | undefined,
): FormSizes {
  const all = countRelocations(sites);
  const relrSites = sitesForRelr(sites.abs64);
  const others = all - relrSites.length;
  const needed = statistics && statistics.entries - statistics.pcRelative + sites.inverse32.length;
  return {
    rela: statistics === undefined ? null : rela(statistics.entries),
    relaWithoutPcRelative: needed === undefined ? null : rela(needed),
    relaOfSites: rela(all),
    kernelTable: (all + sites.lists) * WORD,
    relr: {
      bytes: encodeRelr(relrSites).length,
      sites: relrSites.length,
      rest: { entries: others, bytes: (others + sites.lists) * WORD },
    },
    compact: encodeCompactTable(sites).length,
  };
}

const rela = (entries: number): EntriesSize => ({ entries, bytes: entries * REL_SIZE[64] });
