/**
 * Decodes the 32-bit and the inverse 32-bit list of a compact table. They consist of chains, the longest first; chains of the same length are written
 * side by side, in batches.
 *
 * Some rules are checked while the list is decoded: batches are as large as allowed and in order, and sites do not overlap within a chain. That no
 * chain could have been longer can only be checked with the whole list, by cutting it into chains again (`checkChains`).
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import { DecodedSites, mergeGroups } from './compact-input.ts';
import type { ChainGroup, ListRules, TableInput } from './compact-input.ts';

interface ChainRules extends ListRules {
  /** The numbers of sites that a chain may have, the largest first. */
  readonly lengths: readonly number[];
}

export const ABS32: ChainRules = { name: 'abs32', title: '32-bit', width: 4, lengths: [24, 14, 9, 6, 4, 3, 2, 1] };
export const INVERSE32: ChainRules = { name: 'inverse32', title: 'inverse 32-bit', width: 4, lengths: [4, 3, 2, 1] };

/** The most bytes from one site of a chain to the next. */
const STEP = 255;
/** In a batch, each chain begins less than this many bytes after the beginning of the one before it. */
const REACH = 0x1_0000;

/** The most chains of this length that a batch may have. */
const chainsAtMost = (length: number): number => Math.max(Math.floor(255 / length), 64);

/** A batch of `count` chains of `length` sites. `offset`: where it is written. `last`: the first site of its last chain. */
interface Batch {
  readonly offset: number;
  readonly count: number;
  readonly length: number;
  last: PhysAddr;
}

/** Gives the list's sites, ascending. */
export function readChains(input: TableInput, list: ChainRules): DecodedSites {
  const { title, width } = list;
  const read = new DecodedSites();
  const groups: ChainGroup[] = [];
  let before: Batch | undefined;
  for (;;) {
    const batch = readBatch(input, list, before);
    if (batch === undefined) break;
    const { count, length } = batch;
    const first = read.length;
    batch.last = input.u16(title) * 0x1_0000;
    for (let chain = 0; chain < count; chain++) {
      const offset = input.at;
      batch.last += input.u16(title);
      if (chain === 0 && before?.length === length) expectNewBatch(input, batch, before, title);
      input.put(read, first + chain * length, batch.last, offset, list);
    }
    for (let row = 1; row < length; row++) {
      for (let chain = 0; chain < count; chain++) {
        const offset = input.at;
        const step = input.u8(title);
        if (step < width) input.refuse(`distance in a chain of the ${title} list`, offset, step, `${width} or more`);
        const index = first + chain * length + row;
        input.put(read, index, read.sites[index - 1]! + step, offset, list);
      }
    }
    if (length === before?.length) groups.at(-1)!.end = read.length;
    else groups.push({ first, end: read.length, length });
    before = batch;
  }
  return checkChains(input, read, groups, list);
}

/** Reads the first two bytes of a batch. Undefined at the list's end. */
function readBatch(input: TableInput, { title, lengths }: ChainRules, before: Batch | undefined): Batch | undefined {
  const offset = input.at;
  const count = input.u8(title);
  if (count === 0) return undefined;
  const length = input.u8(title);
  const what = `length of chains in the ${title} list`;
  if (!lengths.includes(length)) input.refuse(what, offset + 1, length, `one of ${lengths.join(', ')}`);
  if (before !== undefined && length > before.length)
    input.refuse(what, offset + 1, length, `at most ${before.length}, that of the batch before`);
  const most = chainsAtMost(length);
  if (count > most)
    input.refuse(`number of chains of ${length} sites in the ${title} list`, offset, count, `at most ${most}`);
  return { offset, count, length, last: 0 };
}

/** For a batch after another one with chains of the same length: its first chain must be one that did not fit into the batch before. */
function expectNewBatch(input: TableInput, batch: Batch, before: Batch, title: string): void {
  const { last, count, length } = before;
  const what = `first chain of a batch in the ${title} list`;
  if (batch.last <= last)
    input.refuse(what, batch.offset + 4, batch.last, `more than ${hex(last)}, where the chain before it begins`);
  if (count < chainsAtMost(length) && batch.last < last + REACH) {
    const expected = `${hex(last + REACH)} or more, or a place in the batch before`;
    input.refuse(what, batch.offset + 4, batch.last, expected);
  }
}

/** Merges all chains into one list. Checks that no two share a byte, and that each chain is the longest that is possible where it begins. */
function checkChains(
  input: TableInput,
  read: DecodedSites,
  groups: readonly ChainGroup[],
  list: ChainRules,
): DecodedSites {
  const what = `chain of the ${list.title} list`;
  const lengths = new Uint8Array(read.length);
  const found = mergeGroups(read, groups, lengths);
  const sites = found.sites.subarray(0, found.length);
  let free = 0;
  for (let index = 0; index < sites.length; index++) {
    const site = sites[index]!;
    if (site < free) input.refuse(what, found.offsets[index]!, site, `${hex(free)} or more, after the chain before it`);
    free = site + list.width;
  }
  for (const { first, length, left } of prescribedChains(sites, list)) {
    if (lengths[first] === length) continue;
    const expected = `one of ${length}, for ${left} sites that are at most ${STEP} bytes apart`;
    input.refuse(what, found.offsets[first]!, `one of ${lengths[first]}`, expected);
  }
  return found;
}

/**
 * The indices of ascending sites in the order in which they are written: chains by length, the longest first; within a batch all first sites, then
 * all second sites, and so on.
 */
export function orderOfChains(sites: Uint32Array, list: ChainRules): Uint32Array {
  const firsts = new Map(list.lengths.map((length) => [length, [] as number[]]));
  for (const { first, length } of prescribedChains(sites, list)) firsts.get(length)!.push(first);
  const order = new Uint32Array(sites.length);
  let place = 0;
  for (const [length, chains] of firsts) {
    for (let start = 0, end; start < chains.length; start = end) {
      end = start + 1;
      while (end < chains.length && end - start < chainsAtMost(length)) {
        if (sites[chains[end]!]! - sites[chains[end - 1]!]! >= REACH) break;
        end++;
      }
      for (let row = 0; row < length; row++)
        for (let chain = start; chain < end; chain++) order[place++] = chains[chain]! + row;
    }
  }
  return order;
}

/**
 * Cuts ascending sites into the chains that the format prescribes. `left`: how many sites, from `first` on, are at most STEP bytes apart; counting
 * stops at the longest length of a chain.
 */
function* prescribedChains(
  sites: Uint32Array,
  { lengths }: ChainRules,
): Generator<{ readonly first: number; readonly length: number; readonly left: number }> {
  const longest = lengths[0]!;
  for (let first = 0, length; first < sites.length; first += length) {
    let left = 1;
    while (left < longest && sites[first + left]! - sites[first + left - 1]! <= STEP) left++;
    length = lengths.find((allowed) => allowed <= left)!;
    yield { first, length, left };
  }
}
