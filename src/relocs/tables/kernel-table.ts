/**
 * The kernel's relocation table, as arch/x86/tools/relocs.c writes it and handle_relocations() of the decompressor reads it.
 *
 * It consists of u32 words, little-endian. Each word of a list is the low half of a site's link address, which the kernel sign-extends. In file order:
 *
 *     0, 64-bit list, 0, inverse 32-bit list, 0, 32-bit list       kernels up to 6.14 (per-cpu linked at 0)
 *     0, 64-bit list, 0, 32-bit list                               newer kernels
 *
 * Lists ascend. The zeros are for a reader that goes backwards from the table's end: each ends the list that follows it. The inverse list holds
 * PC-relative fields that name per-cpu symbols. The code moves and these symbols do not, so the slide is subtracted.
 */
import { INT32_ENTRY_TO_PHYS, int32Entries, tableEntryToPhys, tableEntryToVirt } from '../../base/addresses.ts';
import type { FileOffset } from '../../base/addresses.ts';
import { bytesOfWords, wordsOfBytes } from '../../base/bytes.ts';
import type { Segment } from '../../elf/read.ts';
import { KernelImageError } from '../../base/errors.ts';

export interface RelocationTable {
  /** Sites of 8 bytes to which the slide is added. Each array holds table entries (low halves of link addresses), ascending. */
  readonly abs64: Uint32Array;
  /** Sites of 4 bytes from which the slide is subtracted. */
  readonly inverse32: Uint32Array;
  /** Sites of 4 bytes to which the slide is added. */
  readonly abs32: Uint32Array;
  /** 2: the table has no inverse list. 3: it has one, which may be empty. */
  readonly lists: 2 | 3;
}

export type ListName = 'abs64' | 'inverse32' | 'abs32';

/** In table order. `width`: bytes of a site. */
export const LISTS: readonly { readonly name: ListName; readonly title: string; readonly width: 4 | 8 }[] = [
  { name: 'abs64', title: '64-bit', width: 8 },
  { name: 'inverse32', title: 'inverse 32-bit', width: 4 },
  { name: 'abs32', title: '32-bit', width: 4 },
];

export function countRelocations(table: RelocationTable): number {
  return table.abs64.length + table.inverse32.length + table.abs32.length;
}

/**
 * Reads a whole table. `origin` is where it starts in its file, for errors. Checks only length, zeros and order;
 * `checkSites` checks the sites against an image.
 */
export function readRelocationTable(bytes: Uint8Array, origin: FileOffset = 0): RelocationTable {
  const what = 'relocation table';
  if (bytes.length === 0) {
    throw new KernelImageError({
      code: 'no-relocations',
      what,
      offset: origin,
      expected: 'data after the ELF file',
      hint: 'a kernel built without CONFIG_RANDOMIZE_BASE has none',
    });
  }
  if (bytes.length % 4 !== 0) {
    throw new KernelImageError({
      code: 'bad-value',
      what: `${what} length`,
      offset: origin,
      found: bytes.length,
      expected: 'a multiple of 4',
    });
  }
  const words = wordsOfBytes(bytes);
  const zeros: number[] = [];
  for (let at = words.indexOf(0); at >= 0 && zeros.length < 4; at = words.indexOf(0, at + 1)) zeros.push(at);
  if (zeros[0] !== 0) {
    throw new KernelImageError({
      code: 'bad-value',
      what: `${what}'s first word`,
      offset: origin,
      found: words[0],
      expected: 0,
    });
  }
  if (zeros.length !== 2 && zeros.length !== 3) {
    throw new KernelImageError({
      code: 'bad-value',
      what: `count of zero words in ${what}`,
      offset: origin,
      found: zeros.length > 3 ? 'more than 3' : `${zeros.length}`,
      expected: '2 or 3',
    });
  }
  const [, second = 0, third = second] = zeros;
  const table: RelocationTable = {
    abs64: words.subarray(1, second),
    inverse32: words.subarray(second + 1, Math.max(third, second + 1)),
    abs32: words.subarray(third + 1),
    lists: zeros.length === 3 ? 3 : 2,
  };
  for (const { name, title } of LISTS) {
    const list = table[name];
    const entries = int32Entries(list);
    let last = -(2 ** 31); // less than every entry of a list: a zero, which no list holds
    for (let index = 0; index < entries.length; index++) {
      const before = last;
      last = entries[index]! ^ INT32_ENTRY_TO_PHYS;
      if (last > before) continue;
      throw new KernelImageError({
        code: 'bad-value',
        what: `${what}, entry ${index} of the ${title} list`,
        offset: origin + (list.byteOffset - words.byteOffset) + index * 4,
        found: list[index],
        expected: `more than 0x${list[index - 1]!.toString(16)}, the entry before it`,
      });
    }
  }
  return table;
}

/** The table as the kernel's tool writes it. With `lists` 3, a table without an inverse list gets an empty one. */
export function encodeRelocationTable(table: RelocationTable, lists: 2 | 3 = table.lists): Uint8Array {
  if (lists === 2 && table.inverse32.length > 0)
    throw new RangeError('a table of two lists has no place for inverse relocations');
  const words = new Uint32Array(countRelocations(table) + lists);
  let at = 0;
  for (const { name } of LISTS) {
    if (name === 'inverse32' && lists === 2) continue;
    words.set(table[name], at + 1); // after the zero that ends the list for a backward reader
    at += 1 + table[name].length;
  }
  return bytesOfWords(words);
}

/**
 * Throws KernelImageError unless every site is wholly inside the bytes that one segment loads from the file, and no two sites share a byte, whichever
 * lists they are in. A table that passes can be applied without further checks. `loads`: by rising p_paddr.
 */
export function checkSites(table: RelocationTable, loads: readonly Segment[]): void {
  const bad = findBadSite(table, loads);
  if (bad === undefined) return;
  const { name, index, expected } = bad;
  const { title } = LISTS.find((list) => list.name === name)!;
  throw new KernelImageError({
    code: 'bad-value',
    what: `relocation table, entry ${index} of the ${title} list`,
    found: tableEntryToVirt(table[name][index]!),
    expected,
  });
}

/** Stands for the next site of a list that has ended: greater than every site. */
const ENDED = 2 ** 31;
/**
 * The first site, by address, that `checkSites` refuses. One pass in order of address over all three lists together, in int32 (5 ms instead of 14,
 * measured cold). It stays in one list as long as that list has the next site.
 */
function findBadSite(
  table: RelocationTable,
  loads: readonly Segment[],
): { name: ListName; index: number; expected: string } | undefined {
  const [abs64, inverse32, abs32] = [
    int32Entries(table.abs64),
    int32Entries(table.inverse32),
    int32Entries(table.abs32),
  ];
  let [i, j, k] = [0, 0, 0];
  let segment = -1;
  let low = 0; // the addresses that the current segment loads
  let high = 0;
  let free = 0; // the end of the last site
  for (let left = countRelocations(table); left > 0;) {
    const a = i < abs64.length ? abs64[i]! ^ INT32_ENTRY_TO_PHYS : ENDED;
    const b = j < inverse32.length ? inverse32[j]! ^ INT32_ENTRY_TO_PHYS : ENDED;
    const c = k < abs32.length ? abs32[k]! ^ INT32_ENTRY_TO_PHYS : ENDED;
    const site = a <= b ? (a <= c ? a : c) : b <= c ? b : c;
    const width = site === a ? 8 : 4;
    while (site >= high && segment + 1 < loads.length) {
      const load = loads[++segment]!;
      low = load.paddr;
      high = low + load.filesz;
    }
    if (site < low || site + width > high || site < free) {
      const [name, index] =
        site === a ? (['abs64', i] as const) : site === b ? (['inverse32', j] as const) : (['abs32', k] as const);
      if (tableEntryToPhys(table[name][index]!) === undefined)
        return { name, index, expected: 'a link address inside the kernel image' };
      if (site < low || site + width > high)
        return { name, index, expected: `${width} bytes inside one loaded segment` };
      return { name, index, expected: 'a site that does not overlap the one before it' };
    }
    // Continue in the same list, as long as it has the next site.
    const end = high - width + 1;
    const [list, from, stop] =
      site === a
        ? ([abs64, i, Math.min(b, c, end)] as const)
        : site === b
          ? ([inverse32, j, Math.min(a, c, end)] as const)
          : ([abs32, k, Math.min(a, b, end)] as const);
    const to = endOfSequence(list, from, width, stop);
    free = (list[to - 1]! ^ INT32_ENTRY_TO_PHYS) + width;
    left -= to - from;
    if (site === a) i = to;
    else if (site === b) j = to;
    else k = to;
  }
  return undefined;
}

/** From the site at `index` on: the index of the first one that is at `stop` or above, or shares a byte with the one before it. */
function endOfSequence(list: Int32Array, index: number, width: number, stop: number): number {
  let free = (list[index]! ^ INT32_ENTRY_TO_PHYS) + width;
  let at = index + 1;
  for (; at < list.length; at++) {
    const site = list[at]! ^ INT32_ENTRY_TO_PHYS;
    if (site < free || site >= stop) break;
    free = site + width;
  }
  return at;
}

/** A site that only one of two tables has. */
export interface SiteDifference {
  readonly list: (typeof LISTS)[number];
  readonly entry: number;
  readonly isOnlyIn: 'first' | 'second';
}

/** Both tables' lists ascend. List by list, by rising entry. */
export function* differencesOf(first: RelocationTable, second: RelocationTable): Generator<SiteDifference> {
  for (const list of LISTS) {
    const [here, there] = [first[list.name], second[list.name]];
    for (let i = 0, j = 0; i < here.length || j < there.length;) {
      const [a, b] = [here[i] ?? Infinity, there[j] ?? Infinity];
      if (a < b) yield { list, entry: a, isOnlyIn: 'first' };
      if (b < a) yield { list, entry: b, isOnlyIn: 'second' };
      if (a <= b) i++;
      if (b <= a) j++;
    }
  }
}
