/** The 32-bit lists of a compact table, written from docs/formats.md: slow, plain, and able to write them wrong. */
import type { PhysAddr } from '../../src/base/addresses.ts';

/** Sites that are written as one; of a batch, all of the same length. */
export type Chain = readonly PhysAddr[];

export const LENGTHS = { abs32: [24, 14, 9, 6, 4, 3, 2, 1], inverse32: [4, 3, 2, 1] } as const;

/** Whatever the chains are: nothing is checked, and distances lose what their bytes do not hold. */
export function batch(...chains: readonly Chain[]): number[] {
  const [length, high] = [chains[0]!.length, chains[0]![0]! >> 16];
  const bytes = [chains.length, length, high & 0xff, high >> 8];
  let cursor = high << 16;
  for (const [first] of chains as readonly [PhysAddr][]) {
    bytes.push((first - cursor) & 0xff, ((first - cursor) >> 8) & 0xff);
    cursor = first;
  }
  for (let row = 1; row < length; row++) for (const chain of chains) bytes.push((chain[row]! - chain[row - 1]!) & 0xff);
  return bytes;
}

/** "The one way to write it", step by step. */
export function naiveList(sites: readonly PhysAddr[], lengths: readonly number[]): number[] {
  const chains = piecesOf(sites).flatMap((piece) => {
    const cut: Chain[] = [];
    for (let at = 0; at < piece.length; at += cut.at(-1)!.length)
      cut.push(piece.slice(at, at + lengths.find((length) => length <= piece.length - at)!));
    return cut;
  });
  const ordered = chains.toSorted((a, b) => b.length - a.length || a[0]! - b[0]!);
  const batches: Chain[][] = [];
  for (const chain of ordered) {
    const last = batches.at(-1);
    const before = last?.at(-1);
    const most = Math.max(Math.floor(255 / chain.length), 64);
    const goesOn = before?.length === chain.length && chain[0]! - before[0]! < 65_536 && last!.length < most;
    if (goesOn) last!.push(chain);
    else batches.push([chain]);
  }
  return [...batches.flatMap((chainsOfOne) => batch(...chainsOfOne)), 0];
}

/** Cut where a site is more than 255 bytes after the one before it. */
export function piecesOf(sites: readonly PhysAddr[]): PhysAddr[][] {
  const pieces: PhysAddr[][] = [];
  for (const [index, site] of sites.entries()) {
    if (index === 0 || site - sites[index - 1]! > 255) pieces.push([site]);
    else pieces.at(-1)!.push(site);
  }
  return pieces;
}
