/**
 * The 32-bit lists of the compact table (docs/formats.md): chains, whose sites are at most 255 bytes apart, and batches of chains of one length, which are
 * written side by side. Who reads a batch is at its chains' first sites, then at all their second ones, and so on: in up to 64 places of the image by turns.
 *
 * Whether a distance takes one byte or two is then asked once for a row of sites and not for each: the reader in the guest has no branch that
 * depends on the table's bytes.
 */
import type { Writer } from '../../base/bytes.ts';
import { compactSites } from './compact-sites.ts';
import type { ListName } from './kernel-table.ts';

export type ChainList = Exclude<ListName, 'abs64'>;

/**
 * How many sites a chain may have, longest first. Long chains save bytes: a chain's first site takes two, every other one. But a length that few chains have
 * makes small batches, which cost the reader time; sites of the inverse list lie far apart.
 */
export const CHAIN_LENGTHS: Readonly<Record<ChainList, readonly number[]>> = {
  abs32: [24, 14, 9, 6, 4, 3, 2, 1],
  inverse32: [4, 3, 2, 1],
};

export const CHAIN = {
  /** From one site of a chain to the next: what a byte holds. */
  distance: 0xff,
  /** From one chain's first site to the next one's, in a batch: what two bytes hold. */
  step: 0xffff,
  /** Before a batch's first chain: number of chains, length of each, upper half of the first site's address. */
  header: 4,
} as const;

/** At most a batch for each site. */
export const CHAIN_BYTES_A_SITE = CHAIN.header + 2;

const WIDTH = 4;
const ROWS_SHORT = 255;
const CHAINS_AT_LEAST = 64;

/** Chains of so many sites that one batch can have. */
export function chainsInBatch(length: number): number {
  return Math.max(CHAINS_AT_LEAST, Math.floor(ROWS_SHORT / length));
}

export function writeChains(out: Writer, start: number, list: Uint32Array, lengths: readonly number[]): number {
  const sites = compactSites(list, WIDTH);
  const chains = cutChains(sites, lengths);
  let at = start;
  for (const [index, firsts] of chains.entries()) {
    const length = lengths[index]!;
    for (let first = 0; first < firsts.length;) {
      const count = batchAt(sites, firsts, first, chainsInBatch(length));
      at = writeBatch(out, at, sites, firsts.subarray(first, first + count), length);
      first += count;
    }
  }
  out.u8(at, 0);
  return at + 1;
}

/** For each length, where in the list its chains begin: each as long as can be. (Plain loops over plain arrays: they run once, before they are compiled.) */
function cutChains(sites: Int32Array, lengths: readonly number[]): Uint32Array[] {
  const chains = lengths.map((length) => new Uint32Array(Math.floor(sites.length / length)));
  const counts = lengths.map(() => 0);
  // By what is left of a row: which length comes next.
  const next = Uint8Array.from({ length: lengths[0]! + 1 }, (_, left) => lengths.findIndex((length) => length <= left));
  for (let index = 0; index < sites.length;) {
    let end = index + 1;
    while (end < sites.length && sites[end]! - sites[end - 1]! <= CHAIN.distance) end++;
    while (index < end) {
      const kind = next[Math.min(end - index, lengths[0]!)]!;
      chains[kind]![counts[kind]!++] = index;
      index += lengths[kind]!;
    }
  }
  return chains.map((firsts, kind) => firsts.subarray(0, counts[kind]));
}

/** How many chains from `first` on one batch takes. */
function batchAt(sites: Int32Array, firsts: Uint32Array, first: number, atMost: number): number {
  let count = 1;
  while (
    count < atMost &&
    first + count < firsts.length &&
    sites[firsts[first + count]!]! - sites[firsts[first + count - 1]!]! <= CHAIN.step
  )
    count++;
  return count;
}

function writeBatch(out: Writer, start: number, sites: Int32Array, firsts: Uint32Array, length: number): number {
  const { bytes } = out;
  const count = firsts.length;
  let before = sites[firsts[0]!]! & ~CHAIN.step;
  out.u8(start, count);
  out.u8(start + 1, length);
  out.u16(start + 2, before >>> 16);
  let at = start + CHAIN.header;
  for (let chain = 0; chain < count; chain++) {
    const site = sites[firsts[chain]!]!;
    bytes[at++] = site - before;
    bytes[at++] = (site - before) >> 8;
    before = site;
  }
  for (let row = 1; row < length; row++)
    for (let chain = 0; chain < count; chain++) {
      const index = firsts[chain]! + row;
      bytes[at++] = sites[index]! - sites[index - 1]!;
    }
  return at;
}
