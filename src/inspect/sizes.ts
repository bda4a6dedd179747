/**
 * The same relocations in each form that somebody has proposed to carry them in, so that their sizes can be compared. Forms that have to be read from
 * the file's own relocation sections are null where it has none.
 */
import type { Sites } from '../relocs/tables/apply.ts';
import { RELA_BYTES } from '../relocs/tool/census.ts';
import type { RelaCensus } from '../relocs/tool/census.ts';
import { encodeCompactTable } from '../relocs/tables/compact.ts';
import { encodeRelr, sitesForRelr } from '../relocs/tables/relr.ts';
import { countRelocations } from '../relocs/tables/kernel-table.ts';

export interface FormSizes {
  /** The `.rela` sections that apply to loaded ones, as the linker left them. */
  readonly rela: EntriesSize | null;
  /** The same without PC-relative entries, save those that the table has: they name per-cpu data, which does not move. */
  readonly relaWithoutPcRelative: EntriesSize | null;
  /** An Elf64_Rela for each site of the table and nothing else. */
  readonly relaOfSites: EntriesSize;
  /** The kernel's own table, with as many lists as it has here. */
  readonly kernelTable: number;
  /** SHT_RELR holds aligned 64-bit sites only: `bytes` for `sites` of them, and the others as the kernel's table has them. */
  readonly relr: { readonly bytes: number; readonly sites: number; readonly rest: EntriesSize };
  /** kslide's own: see docs/formats.md. */
  readonly compact: number;
}

export interface EntriesSize {
  readonly entries: number;
  readonly bytes: number;
}

const WORD = 4;

/** `sites`: from a table that `checkSites` has passed. */
export function compareForms(sites: Sites & { readonly lists: 2 | 3 }, census: RelaCensus | undefined): FormSizes {
  const all = countRelocations(sites);
  const relrSites = sitesForRelr(sites.abs64);
  const others = all - relrSites.length;
  const needed = census && census.entries - census.pcRelative + sites.inverse32.length;
  return {
    rela: census === undefined ? null : rela(census.entries),
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

const rela = (entries: number): EntriesSize => ({ entries, bytes: entries * RELA_BYTES });
