/** Decodes the 64-bit list of a compact table. It consists of items, each a bitmap or a run, in four pieces that are written by turns. */
import type { PhysAddr } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import { DecodedSites, mergeGroups } from './compact-input.ts';
import type { ChainGroup, ListRules, TableInput } from './compact-input.ts';

const ABS64: ListRules = { name: 'abs64', title: '64-bit', width: 8 };
/** First bytes that are no skip: of a run, and of an address. */
const RUN = 254;
const ADDRESS = 255;
/** Sites: the fewest that make a run, and what its length is a multiple of. */
const RUN_LEAST = 128;
const RUN_STEP = 16;
/** Bytes of memory that a bitmap covers. */
const SPAN = 512;
const PIECES = 4;

/** An item of the 64-bit list: its sites have the indices `first` up to `end`. `units`: a run's length, in RUN_STEP sites; undefined for a bitmap. */
interface Item {
  readonly offset: number;
  readonly first: number;
  readonly end: number;
  readonly units: number | undefined;
}

/** Gives the list's sites, ascending over all pieces and remainders. */
export function readItems(input: TableInput): DecodedSites {
  const { title } = ABS64;
  const read = new DecodedSites();
  const written: Item[] = [];
  const cursors = Array.from({ length: PIECES }, (): PhysAddr => 0);
  let address: { readonly offset: number; readonly value: PhysAddr } | undefined;
  for (let piece = 0; ;) {
    const offset = input.at;
    const cursor = cursors[piece]!;
    const first = input.u8(title);
    if (first === ADDRESS) {
      const value = input.u32(title);
      if (address !== undefined) input.refuse('address in the 64-bit list', offset, first, 'an item after an address');
      if (value === 0) break;
      address = { offset, value };
      continue;
    }
    const isRun = first === RUN;
    const site = (address?.value ?? cursor) + (isRun ? 0 : first * 8);
    expectReach(input, address, cursor, isRun ? 1 : RUN * 8);
    if (address !== undefined && !isRun && first !== 0) input.refuse('skip after an address', offset, first, '0');
    const before = read.length;
    let units: number | undefined;
    if (isRun) {
      units = input.u32(title);
      if (units === 0) input.refuse('run of the 64-bit list', offset + 1, 0, `${RUN_LEAST / RUN_STEP} or more`);
      input.expectRoom(units * RUN_STEP, read, site, offset, ABS64);
      for (let index = 0; index < units * RUN_STEP; index++)
        input.put(read, read.length, site + index * 8, offset, ABS64);
      cursors[piece] = site + units * RUN_STEP * 8;
    } else {
      for (let half = 0; half < 2; half++) {
        const bits = input.u32(title);
        for (let bit = 0; bit < 32; bit++)
          if (((bits >>> bit) & 1) === 1) input.put(read, read.length, site + half * 256 + bit * 8, offset, ABS64);
      }
      cursors[piece] = site + SPAN;
      if (read.sites[before] !== site || read.length === before)
        input.refuse('bitmap of the 64-bit list', offset + 1, 'no site in its first bit', 'one');
    }
    written.push({ offset, first: before, end: read.length, units });
    address = undefined;
    piece = (piece + 1) % PIECES;
  }
  const items: Item[] = [];
  for (const [place, index] of turns(written.length).entries()) items[index] = written[place]!;
  const found = new DecodedSites(read.length);
  for (const { first, end } of items) found.append(read, first, end);
  expectItems(input, found, items);
  return expectApart(input, mergeGroups(found, groupByRemainder(found)));
}

/** Sites of different remainders may share bytes, which no rule of items excludes. */
function expectApart(input: TableInput, merged: DecodedSites): DecodedSites {
  const { sites, offsets, length } = merged;
  for (let index = 1; index < length; index++) {
    const free = sites[index - 1]! + ABS64.width;
    if (sites[index]! < free)
      input.refuse(
        'site of the 64-bit list',
        offsets[index]!,
        sites[index]!,
        `${hex(free)} or more, after the site before it`,
      );
  }
  return merged;
}

/**
 * An address is allowed only where the item after it could not be reached without one. `cursor`: the position of the piece, which skips count from.
 */
function expectReach(
  input: TableInput,
  address: { offset: number; value: PhysAddr } | undefined,
  cursor: PhysAddr,
  reach: number,
): void {
  if (address === undefined) return;
  const { offset, value } = address;
  const skip = value - cursor;
  if (skip >= 0 && skip < reach && skip % 8 === 0)
    input.refuse('address in the 64-bit list', offset, value, `an item that reaches it from ${hex(cursor)}`);
}

/**
 * Checks that `items`, in the order of the list and with one site or more each, are the ones that the format prescribes: runs wherever a run is
 * possible, each as long as possible; bitmaps elsewhere, each with every site that it can hold.
 */
function expectItems(input: TableInput, { sites, length }: DecodedSites, items: readonly Item[]): void {
  const ordered = sites.subarray(0, length);
  let start = 0;
  for (const { offset, first, end } of items) {
    const [before, site] = [ordered[start - 1], ordered[start]!];
    if (before !== undefined && (site % 8 < before % 8 || (site % 8 === before % 8 && site <= before)))
      input.refuse('item of the 64-bit list', offset, site, `a site after ${hex(before)}`);
    start += end - first;
  }
  let place = 0;
  for (const { first, end, units, row } of prescribedItems(ordered)) {
    const item = items[place++]!;
    const shown = (size: number | undefined): string => (size === undefined ? 'a bitmap' : `a run of ${size} × 16`);
    if (item.units !== units)
      input.refuse(
        'item of the 64-bit list',
        item.offset,
        shown(item.units),
        `${shown(units)}, for ${row} sites in a row`,
      );
    if (item.end - item.first === end - first) continue;
    const follower = ordered[first + item.end - item.first]!;
    input.refuse(
      'item of the 64-bit list',
      items[place]!.offset,
      follower,
      `a bit of the bitmap at ${hex(ordered[first]!)}`,
    );
  }
}

/** Groups sites, in the order of the 64-bit list, by their remainder modulo 8. All groups but the first are small. */
function groupByRemainder({ sites, length }: DecodedSites): ChainGroup[] {
  const groups: ChainGroup[] = [];
  for (let index = 0; index < length; index++) {
    if (index > 0 && sites[index]! % 8 === sites[index - 1]! % 8) groups.at(-1)!.end++;
    else groups.push({ first: index, end: index + 1, length: 1 });
  }
  return groups;
}

/** The indices of ascending sites in the order in which they are written: items by turns, and the sites of each item. */
export function orderOfItems(list: Uint32Array): Uint32Array {
  const byRemainder = Uint32Array.from(list.keys()).toSorted((a, b) => (list[a]! % 8) - (list[b]! % 8) || a - b);
  const sites = byRemainder.map((index) => list[index]!);
  const firsts: number[] = [];
  for (const { first } of prescribedItems(sites)) firsts.push(first);
  const order = new Uint32Array(list.length);
  let place = 0;
  for (const item of turns(firsts.length)) {
    const items = byRemainder.subarray(firsts[item]!, firsts[item + 1]);
    order.set(items, place);
    place += items.length;
  }
  return order;
}

/**
 * The numbers 0 to `count` − 1, by turns: the list of items is cut into four pieces, the first of them longer by one if they cannot be equal. Written
 * are the first item of each piece, then the second of each, and so on.
 */
function turns(count: number): Uint32Array {
  const order = new Uint32Array(count);
  const [whole, longer] = [Math.floor(count / PIECES), count % PIECES];
  let place = 0;
  for (let turn = 0; turn <= whole; turn++)
    for (let piece = 0; piece < PIECES && place < count; piece++)
      order[place++] = piece * whole + Math.min(piece, longer) + turn;
  return order;
}

/** Cuts sites, in the order of the 64-bit list, into the items that the format prescribes. `row`: how many sites follow each other in steps of 8. */
function* prescribedItems(sites: Uint32Array): Generator<{
  readonly first: number;
  readonly end: number;
  readonly units: number | undefined;
  readonly row: number;
}> {
  for (let first = 0, end; first < sites.length; first = end) {
    const site = sites[first]!;
    let row = 1;
    while (sites[first + row] === site + row * 8) row++;
    const units = row >= RUN_LEAST ? Math.floor(row / RUN_STEP) : undefined;
    end = first + (units === undefined ? bitmapLength(sites, first) : units * RUN_STEP);
    yield { first, end, units, row };
  }
}

/** How many sites, from `first` on, one bitmap holds. */
function bitmapLength(sites: Uint32Array, first: number): number {
  const site = sites[first]!;
  let end = first + 1;
  for (; end < sites.length; end++) {
    const distance = sites[end]! - site;
    // Sites with the next remainder are never in the same bitmap, wherever they lie.
    if (distance < 0 || distance >= SPAN || distance % 8 !== 0) break;
  }
  return end - first;
}
