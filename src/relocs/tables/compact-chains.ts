/**
 * Writes the 32-bit lists of the compact table (docs/formats.md, "Chains").
 *
 * A chain is a sequence of sites, each at most 255 bytes after the one before it. A batch holds chains of one length, side by side. Its bytes are in rows:
 * first the first site of every chain, two bytes each; then the second site of every chain, one byte each; and so on. So a reader visits as many
 * places of the image by turns as the batch has chains, and waits for their memory at the same time: 64 in a full batch of long chains, more with short ones.
 *
 * A row's distances all have the same width, so the reader in the guest needs no branch that depends on the table's bytes.
 *
 *     the list --cutChains--> chains of each length --batchAt--> batches of one length --writeBatch--> bytes
 */
import type { Writer } from '../../base/bytes.ts';
import { compactSites } from './compact-sites.ts';
import type { ListName } from './kernel-table.ts';

export type ChainList = Exclude<ListName, 'abs64'>;

/**
 * How many sites a chain may have, longest first. Long chains save bytes: a chain's first site takes two bytes, every other site one. But each length has
 * batches of its own, and small batches cost the reader time, so a length that few chains have does not pay. The inverse list has no long chains: its sites
 * are far apart.
 */
export const CHAIN_LENGTHS: Readonly<Record<ChainList, readonly number[]>> = {
  abs32: [24, 14, 9, 6, 4, 3, 2, 1],
  inverse32: [4, 3, 2, 1],
};

export const CHAIN = {
  /** The greatest distance from one site of a chain to the next: it is written in a byte. */
  distance: 0xff,
  /** The greatest distance from one chain's first site to that of the next chain in the batch: it is written in two bytes. */
  step: 0xffff,
  /** Bytes before a batch's first row: number of chains, sites in each, upper half of the address of the first site. */
  header: 4,
} as const;

/** The most bytes that a site can take: those of a batch of its own. */
export const CHAIN_BYTES_A_SITE = CHAIN.header + 2;

const WIDTH = 4;
/** A batch has at most this many sites, unless that would be less than 64 chains. */
const BATCH_SITES = 255;
const BATCH_CHAINS = 64;

/** The most chains in a batch of chains with `length` sites. */
export function chainsInBatch(length: number): number {
  return Math.max(BATCH_CHAINS, Math.floor(BATCH_SITES / length));
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

/**
 * For each length, the indices of the sites at which its chains begin. Each chain is as long as possible. (Plain loops over plain arrays: they run only once, so
 * V8 has not compiled them yet.)
 */
function cutChains(sites: Int32Array, lengths: readonly number[]): Uint32Array[] {
  const chains = lengths.map((length) => new Uint32Array(Math.floor(sites.length / length)));
  const counts = lengths.map(() => 0);
  // By the number of sites that are left to cut: the index of the greatest length that fits.
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

/** The number of chains in the batch that begins with the chain `first`. */
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
