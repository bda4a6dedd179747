/**
 * The kernel's relocation table, as arch/x86/tools/relocs.c writes it and handle_relocations() of the decompressor reads it.
 *
 * Three lists of u32, little-endian; each is the low half of a link address, which the kernel sign-extends. In file order:
 *
 *     0, 64-bit list, 0, inverse 32-bit list, 0, 32-bit list       kernels up to 6.14 (per-cpu linked at 0)
 *     0, 64-bit list, 0, 32-bit list                               newer kernels
 *
 * Lists are sorted. The zero before a list ends it for a reader that walks backwards from the table's end. The inverse list holds
 * PC-relative fields that name per-cpu symbols: those symbols do not move, the code does, so the slide is subtracted.
 */
import { tableEntryToPhys, tableEntryToVirt } from '../addresses.ts';
import type { FileOffset } from '../addresses.ts';
import { viewOf } from '../bytes.ts';
import type { Segment } from '../elf/read.ts';
import { KernelImageError } from '../errors.ts';

export interface RelocationTable {
  /** Sites of 8 bytes: slide is added. Each array holds table entries (low halves of link addresses), ascending. */
  readonly abs64: Uint32Array;
  /** Sites of 4 bytes: slide is subtracted. */
  readonly inverse32: Uint32Array;
  /** Sites of 4 bytes: slide is added. */
  readonly abs32: Uint32Array;
  /** Whether the table has a place for the inverse list at all. */
  readonly lists: 2 | 3;
}

export type ListName = 'abs64' | 'inverse32' | 'abs32';

/** In table order, with the bytes that a site takes. */
export const LISTS: readonly { readonly name: ListName; readonly title: string; readonly width: 4 | 8 }[] = [
  { name: 'abs64', title: '64-bit', width: 8 },
  { name: 'inverse32', title: 'inverse 32-bit', width: 4 },
  { name: 'abs32', title: '32-bit', width: 4 },
];

export function countRelocations(table: RelocationTable): number {
  return table.abs64.length + table.inverse32.length + table.abs32.length;
}

/**
 * Reads a whole table. `origin` is where it starts in its file, for errors. Checks form only (length, zeros, order);
 * `checkSites` checks the sites against an image.
 */
export function readRelocationTable(bytes: Uint8Array, origin: FileOffset = 0): RelocationTable {
  const what = 'relocation table';
  if (bytes.length === 0) {
    throw new KernelImageError({
      code: 'no-relocations',
      what,
      offset: origin,
      expected: 'data behind the ELF file',
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
  const words = readWords(bytes);
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
    for (let index = 1; index < list.length; index++) {
      if (list[index]! > list[index - 1]!) continue;
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

function readWords(bytes: Uint8Array): Uint32Array {
  const words = new Uint32Array(bytes.length / 4);
  const view = viewOf(bytes);
  for (let index = 0; index < words.length; index++) words[index] = view.getUint32(index * 4, true);
  return words;
}

/** The table as the kernel's tool writes it. `lists` 3 makes an empty inverse list where the table has none. */
export function encodeRelocationTable(table: RelocationTable, lists: 2 | 3 = table.lists): Uint8Array {
  if (lists === 2 && table.inverse32.length > 0)
    throw new RangeError('a table of two lists has no place for inverse relocations');
  const bytes = new Uint8Array(4 * (countRelocations(table) + lists));
  const view = viewOf(bytes);
  let at = 0;
  for (const { name } of LISTS) {
    if (name === 'inverse32' && lists === 2) continue;
    view.setUint32(at, 0, true);
    at += 4;
    for (const entry of table[name]) {
      view.setUint32(at, entry, true);
      at += 4;
    }
  }
  return bytes;
}

/**
 * Every site must be wholly inside the bytes that one segment loads from the file, and no two sites may share a byte, whichever list
 * they are in. After this, applying the table cannot miss the image. `loads`: by rising p_paddr.
 */
export function checkSites(table: RelocationTable, loads: readonly Segment[]): void {
  const cursors = LISTS.map(({ name, title, width }) => ({ list: table[name], title, width, at: 0 }));
  let segment = 0;
  let free = 0; // first physical address behind the last site
  for (;;) {
    // The next site of all three lists, in rising order: a three-way merge.
    let next: (typeof cursors)[number] | undefined;
    for (const cursor of cursors) {
      if (cursor.at === cursor.list.length) continue;
      if (next === undefined || cursor.list[cursor.at]! < next.list[next.at]!) next = cursor;
    }
    if (next === undefined) return;
    const entry = next.list[next.at]!;
    const site = tableEntryToPhys(entry);
    const refuse = (expected: string): never => {
      throw new KernelImageError({
        code: 'bad-value',
        what: `relocation table, entry ${next.at} of the ${next.title} list`,
        found: tableEntryToVirt(entry),
        expected,
      });
    };
    if (site === undefined) return refuse('a link address inside the kernel image');
    while (segment < loads.length && site >= loads[segment]!.paddr + loads[segment]!.filesz) segment++;
    const load = loads[segment];
    if (load === undefined || site < load.paddr || site + next.width > load.paddr + load.filesz) {
      return refuse(`${next.width} bytes inside one loaded segment`);
    }
    if (site < free) return refuse('a site that does not overlap the one before it');
    free = site + next.width;
    next.at++;
  }
}
