/**
 * The 32-bit and the inverse 32-bit list of a compact table: chains, the longest first, those of one length side by side in batches.
 *
 * While it reads, the reader checks that batches are as large as they can be and in order, and that sites do not overlap. Whether each chain is the
 * longest possible can only be checked on the whole list, by cutting it into chains again.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { hex } from '../base/errors.ts';
import { Found, merge } from './compact-reader.ts';
import type { ListForm, Group, Walk } from './compact-reader.ts';

interface ChainForm extends ListForm {
  /** How many sites a chain may have, the longest first. */
  readonly lengths: readonly number[];
}

export const ABS32: ChainForm = { name: 'abs32', title: '32-bit', width: 4, lengths: [24, 14, 9, 6, 4, 3, 2, 1] };
export const INVERSE32: ChainForm = { name: 'inverse32', title: 'inverse 32-bit', width: 4, lengths: [4, 3, 2, 1] };

/** The most by which a site of a chain follows the site before it. */
const STEP = 255;
/** In a batch, each chain begins less than this after the one before it. */
const REACH = 0x1_0000;

/** How many chains of a length a batch may have. */
const chainsAtMost = (length: number): number => Math.max(Math.floor(255 / length), 64);

/** A batch of chains: where it is written, and the first site of its last chain. */
interface Batch {
  readonly offset: number;
  readonly count: number;
  readonly length: number;
  last: PhysAddr;
}

/** A 32-bit list, ascending. */
export function readChains(walk: Walk, list: ChainForm): Found {
  const { title, width } = list;
  const read = new Found();
  const groups: Group[] = [];
  let before: Batch | undefined;
  for (;;) {
    const batch = readBatch(walk, list, before);
    if (batch === undefined) break;
    const { count, length } = batch;
    const first = read.length;
    batch.last = walk.u16(title) * 0x1_0000;
    for (let chain = 0; chain < count; chain++) {
      const offset = walk.at;
      batch.last += walk.u16(title);
      if (chain === 0 && before?.length === length) expectNewBatch(walk, batch, before, title);
      walk.put(read, first + chain * length, batch.last, offset, list);
    }
    for (let row = 1; row < length; row++) {
      for (let chain = 0; chain < count; chain++) {
        const offset = walk.at;
        const step = walk.u8(title);
        if (step < width) walk.refuse(`distance in a chain of the ${title} list`, offset, step, `${width} or more`);
        const index = first + chain * length + row;
        walk.put(read, index, read.sites[index - 1]! + step, offset, list);
      }
    }
    if (length === before?.length) groups.at(-1)!.end = read.length;
    else groups.push({ first, end: read.length, length });
    before = batch;
  }
  return wholeChains(walk, read, groups, list);
}

/** The first two bytes of a batch; undefined at the list's end. */
function readBatch(walk: Walk, { title, lengths }: ChainForm, before: Batch | undefined): Batch | undefined {
  const offset = walk.at;
  const count = walk.u8(title);
  if (count === 0) return undefined;
  const length = walk.u8(title);
  const what = `length of chains in the ${title} list`;
  if (!lengths.includes(length)) walk.refuse(what, offset + 1, length, `one of ${lengths.join(', ')}`);
  if (before !== undefined && length > before.length)
    walk.refuse(what, offset + 1, length, `at most ${before.length}, that of the batch before`);
  const most = chainsAtMost(length);
  if (count > most)
    walk.refuse(`number of chains of ${length} sites in the ${title} list`, offset, count, `at most ${most}`);
  return { offset, count, length, last: 0 };
}

/** For a batch that follows another of chains of the same length, once its first chain is read: it begins where that other batch could not continue. */
function expectNewBatch(walk: Walk, batch: Batch, before: Batch, title: string): void {
  const { last, count, length } = before;
  const what = `first chain of a batch in the ${title} list`;
  if (batch.last <= last)
    walk.refuse(what, batch.offset + 4, batch.last, `more than ${hex(last)}, where the chain before it begins`);
  if (count < chainsAtMost(length) && batch.last < last + REACH) {
    const expected = `${hex(last + REACH)} or more, or a place in the batch before`;
    walk.refuse(what, batch.offset + 4, batch.last, expected);
  }
}

/** The list that all chains make. None shares a byte with another, and each is the longest that could be made where it begins. */
function wholeChains(walk: Walk, read: Found, groups: readonly Group[], list: ChainForm): Found {
  const what = `chain of the ${list.title} list`;
  const lengths = new Uint8Array(read.length);
  const found = merge(read, groups, lengths);
  const sites = found.sites.subarray(0, found.length);
  let free = 0;
  for (let index = 0; index < sites.length; index++) {
    const site = sites[index]!;
    if (site < free) walk.refuse(what, found.offsets[index]!, site, `${hex(free)} or more, after the chain before it`);
    free = site + list.width;
  }
  for (const { first, length, left } of rightChains(sites, list)) {
    if (lengths[first] === length) continue;
    const expected = `one of ${length}, for ${left} sites that are at most ${STEP} bytes apart`;
    walk.refuse(what, found.offsets[first]!, `one of ${lengths[first]}`, expected);
  }
  return found;
}

/** Indices of sites as they are written: chains by length, the longest first; of each batch all first sites, all second ones, and so on. */
export function orderOfChains(sites: Uint32Array, list: ChainForm): Uint32Array {
  const firsts = new Map(list.lengths.map((length) => [length, [] as number[]]));
  for (const { first, length } of rightChains(sites, list)) firsts.get(length)!.push(first);
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

/** What ascending sites have to be cut into; of each chain, how many sites are left of the piece where it begins, as far as that matters. */
function* rightChains(
  sites: Uint32Array,
  { lengths }: ChainForm,
): Generator<{ readonly first: number; readonly length: number; readonly left: number }> {
  const longest = lengths[0]!;
  for (let first = 0, length; first < sites.length; first += length) {
    let left = 1;
    while (left < longest && sites[first + left]! - sites[first + left - 1]! <= STEP) left++;
    length = lengths.find((allowed) => allowed <= left)!;
    yield { first, length, left };
  }
}
