/**
 * Is this the relocation table of this kernel, and all of it?
 *
 * A table names sites and says nothing else; the table of another build has sites inside the image as well, and a kernel that is moved by it dies before its
 * first line. What the sites hold tells: with its own table nearly every site holds an address of the image. What lies between the sites tells the
 * rest: an address of the image that no list names is one that the table has lost.
 *
 * Measured on nine Debian kernels, 5.10 to 7.3, with their own table and with those of the other builds of the same version (bench/table-checks.ts):
 *
 *                                                      own table        another build's    refused above
 *   64-bit sites without an address, zeros aside       0.01 to 0.02%    23 to 53%          1%
 *   64-bit sites that hold zero                        0 to 0.45%       24 to 58%          5%
 *   32-bit sites without an address                    0.01 to 0.03%    96 to 98%          1%
 *   inverse sites that lead to no per-cpu data         0                97 to 100%         1%
 *   unlisted: pointers beside others                   0                                   4
 *             page-table entries in writable data      0                                   1
 *             MOV of an image address, in code         0                                   4
 *             GS-relative use of per-cpu data, in code 0                                   4
 *
 * What is right and holds no address: page-table entries and other physical addresses, and the zeros that weak functions leave in the table of ftrace's call sites
 * (since 6.12). A few of each are therefore always allowed: tiny kernels have the same ones among fewer sites.
 *
 * Not found: a lost site alone, or a few that stand far apart; docs/security.md says which holes are found. The search looks beside listed sites and into long
 * stretches without any, not at each byte.
 */
import { INT32_ENTRY_TO_PHYS, int32Entries, physToVirt } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { viewOf, wordsIn } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { PF_W, PF_X } from '../elf/constants.ts';
import type { Segment } from '../elf/read.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { LISTS } from './tables/kernel-table.ts';
import type { ListName, RelocationTable } from './tables/kernel-table.ts';

/** So many sites of a list may hold what is no address, whatever their share. */
const ALWAYS_ALLOWED = 64;
/** And such a share of them. */
const ALLOWED_SHARE = { odd: 0.01, zero: 0.05 } as const;
/** Addresses that no list names. */
const ALLOWED_UNLISTED = { pointers: 4, pageTables: 1, code: 4 } as const;

/** The segment that per-cpu data is linked in, at 0: kernels up to 6.14 with SMP have it, and then an inverse list. */
export function perCpuSegment({ loads }: Pick<Vmlinux, 'loads'>): Segment | undefined {
  return loads.find(({ vaddr }) => vaddr === 0n);
}

/** Bytes of the kernel's file, `length` of them from `offset` on: a view, good until the next call. */
export type ReadBytes = (offset: FileOffset, length: number) => Uint8Array;

/**
 * `table`: its sites are known to lie in the image (checkSites). `read`: for a file that is not in memory; `kernel.elf.bytes` need then hold no more than
 * the headers. Throws KernelImageError, `bad-value`, for a table that cannot be this kernel's.
 */
export function checkPlausible(table: RelocationTable, kernel: Vmlinux, read: ReadBytes = readerOf(kernel)): void {
  checkLists(table, kernel);
  checkValues(table, kernel, read);
  checkGaps(table, kernel, read);
}

function readerOf({ elf: { bytes } }: Vmlinux): ReadBytes {
  return (offset, length) => bytes.subarray(offset, offset + length);
}

/** What every kernel has: sites of both widths, some of them in its code, and an inverse list exactly if per-cpu data is linked at 0. */
function checkLists(table: RelocationTable, kernel: Vmlinux): void {
  const perCpu = perCpuSegment(kernel);
  if (perCpu !== undefined && table.lists === 2)
    throw refusal('two lists', `three: program header ${perCpu.index} is linked at 0x0, for per-cpu data`);
  if (perCpu === undefined && table.inverse32.length > 0)
    throw refusal(
      `${table.inverse32.length} inverse sites`,
      'none: no program header is linked at 0x0, for per-cpu data',
    );
  for (const { name, title } of LISTS)
    if (name !== 'inverse32' && table[name].length === 0)
      throw refusal(`no ${title} sites`, 'some, as every kernel has');
  const code = kernel.loads.filter(({ flags }) => (flags & PF_X) !== 0);
  const inCode = code.some(({ paddr, filesz }) => sitesBetween(table.abs32, paddr, paddr + filesz) > 0);
  if (code.length > 0 && !inCode) throw refusal('no 32-bit site in an executable segment', 'some, as every kernel has');
}

function sitesBetween(list: Uint32Array, from: PhysAddr, to: PhysAddr): number {
  const sites = int32Entries(list);
  return lowerBound(sites, to) - lowerBound(sites, from);
}

/** Index of the first site at or above `address`. */
function lowerBound(sites: Int32Array, address: PhysAddr): number {
  let [low, high] = [0, sites.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sites[middle]! ^ INT32_ENTRY_TO_PHYS) < address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Sites of one list in the bytes of one segment. */
interface Run {
  readonly sites: Int32Array;
  readonly from: number;
  readonly to: number;
  readonly base: PhysAddr;
  readonly load: Segment;
}

function* runsOf(list: Uint32Array, { loads }: Vmlinux): Generator<Run> {
  const sites = int32Entries(list);
  for (const load of loads) {
    const { paddr: base, filesz } = load;
    yield { sites, from: lowerBound(sites, base), to: lowerBound(sites, base + filesz), base, load };
  }
}

/** What was counted, with the first three. */
class Finds {
  count = 0;
  readonly examples: { readonly site: PhysAddr; readonly value: string }[] = [];
  /** `bytes`: what is there, 4 or 8 of them. */
  add(site: PhysAddr, bytes: Uint8Array): void {
    if (this.count++ >= 3) return;
    const view = viewOf(bytes);
    this.examples.push({ site, value: hex(bytes.length === 8 ? view.getBigUint64(0, true) : view.getUint32(0, true)) });
  }
}

/** The image, in numbers for the loops; `perCpu`: bytes of per-cpu data. */
interface Bounds {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
  readonly perCpu: number;
}

function boundsOf(kernel: Vmlinux): Bounds {
  return { start: kernel.imageStart, end: kernel.imageEnd, perCpu: perCpuSegment(kernel)?.memsz ?? 0 };
}

/** So many sites of a list tell whether all must be looked at: each is a cache line of the image. */
const SAMPLE = 256;

function checkValues(table: RelocationTable, kernel: Vmlinux, read: ReadBytes): void {
  const bounds = boundsOf(kernel);
  // The 32-bit list first: another build's differs most there.
  for (const name of ['abs32', 'abs64', 'inverse32'] as const) {
    const every = Math.max(1, Math.floor(table[name].length / SAMPLE));
    let odd = countOdd(table, kernel, name, bounds, every, read);
    // Twice as wary of a sample as of the whole list.
    if (every > 1 && HOLDS[name].some(({ share }, kind) => odd[kind]!.count * every * 2 > table[name].length * share))
      odd = countOdd(table, kernel, name, bounds, 1, read);
    HOLDS[name].forEach(({ share, what }, kind) => expectFew(table, name, odd[kind]!, share, what));
  }
}

/** For each kind of find: the share of a list's sites that is allowed, and what they do. */
const HOLDS: Readonly<Record<ListName, readonly { readonly share: number; readonly what: string }[]>> = {
  abs32: [{ share: ALLOWED_SHARE.odd, what: 'hold no address in this kernel' }],
  abs64: [
    { share: ALLOWED_SHARE.odd, what: 'hold no address in this kernel' },
    { share: ALLOWED_SHARE.zero, what: 'hold zero' },
  ],
  inverse32: [{ share: ALLOWED_SHARE.odd, what: 'do not lead to per-cpu data' }],
};

function countOdd(
  table: RelocationTable,
  kernel: Vmlinux,
  name: ListName,
  bounds: Bounds,
  every: number,
  read: ReadBytes,
): readonly [Finds, Finds] {
  const [odd, zero] = [new Finds(), new Finds()];
  const { width } = LISTS.find((list) => list.name === name)!;
  for (const { sites, from, to, base, load } of runsOf(table[name], kernel))
    // Not from the first on: page tables are first in the data segment.
    for (let index = from + (every >> 1); index < to; index += every) {
      const site = sites[index]! ^ INT32_ENTRY_TO_PHYS;
      const bytes = read(load.offset + site - base, width);
      const low = int32At(bytes, 0);
      const high = width === 8 ? int32At(bytes, 4) : -1;
      if (name === 'inverse32' ? leadsToPerCpu(low, sites[index]!, bounds) : high === -1 && isAddress(low, bounds))
        continue;
      const kind = low === 0 && high === 0 ? zero : odd;
      kind.add(site, bytes);
    }
  return [odd, zero];
}

/** As a physical link address, an int32 is below 0 or above the image where it is no address in it. */
function isAddress(value: number, { start, end }: Bounds): boolean {
  const address = value ^ INT32_ENTRY_TO_PHYS;
  return address >= start && address <= end;
}

/** From the field to the end of the longest instruction that has one: the immediate operand after it, and the field itself. */
const AFTER_FIELD = 8;

/** Per-cpu data is linked from 0 on, so a PC-relative field leads to a small number. */
function leadsToPerCpu(value: number, entry: number, { perCpu }: Bounds): boolean {
  const target = (value + entry) | 0;
  return target >= -AFTER_FIELD && target <= perCpu;
}

function expectFew(
  table: RelocationTable,
  name: ListName,
  { count, examples }: Finds,
  share: number,
  what: string,
): void {
  const all = table[name].length;
  const most = Math.floor(Math.max(ALWAYS_ALLOWED, all * share));
  if (count <= most) return;
  const { title } = LISTS.find((list) => list.name === name)!;
  const shown = examples.map(({ site, value }) => `${hex(physToVirt(site))} holds ${value}`);
  throw refusal(`${count} of ${all} ${title} sites ${what} (${shown.join(', ')})`, `at most ${most}`, ANOTHER_BUILD);
}

const ANOTHER_BUILD = 'the table is of another build; take the one that was made with this vmlinux';
const NOT_WHOLE = 'the table is of another build, or not whole';

function refusal(found: string, expected: string, hint?: string): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what: 'relocation table', found, expected, hint });
}

/**
 * Stretches without a site of the list: how long one must be to be searched, and how much of it is searched at each end. Where sites are lost from the middle of a
 * list, a stretch begins right after one site and ends right before another. In right tables, 120 to 310 stretches of code are longer than
 * `abs32.long`, 2 MB in all, and 40 to 70 longer than `inverse32.long`.
 */
const SEARCH = {
  abs64: { long: 0x200, clip: 0x1000 },
  abs32: { long: 0x1800, clip: 0x800 },
  inverse32: { long: 0x8000, clip: 0x2000 },
} as const satisfies Record<ListName, { readonly long: number; readonly clip: number }>;

function checkGaps(table: RelocationTable, kernel: Vmlinux, read: ReadBytes): void {
  const bounds = boundsOf(kernel);
  const [pointers, pageTables, moves, uses] = [new Finds(), new Finds(), new Finds(), new Finds()];
  for (const stretches of stretchesOf(table, 'abs64', kernel))
    findPointers(stretches, read, bounds, pointers, (stretches.load.flags & PF_W) === 0 ? undefined : pageTables);
  expectListed(pointers, ALLOWED_UNLISTED.pointers, 'pointers beside others are in no list');
  expectListed(pageTables, ALLOWED_UNLISTED.pageTables, 'page-table entries are in no list');
  // In all segments: since 7.0 .init.text is in one that is not marked executable.
  for (const stretches of stretchesOf(table, 'abs32', kernel)) findMoves(stretches, read, bounds, moves);
  expectListed(moves, ALLOWED_UNLISTED.code, 'operands that are addresses in this kernel are in no list');
  if (bounds.perCpu === 0) return;
  for (const stretches of stretchesOf(table, 'inverse32', kernel))
    if ((stretches.load.flags & PF_X) !== 0) findPerCpuUses(stretches, read, bounds, uses);
  expectListed(uses, ALLOWED_UNLISTED.code, 'operands that lead to per-cpu data are in no list');
}

function expectListed({ count, examples }: Finds, most: number, what: string): void {
  if (count <= most) return;
  const shown = examples.map(({ site, value }) => `${value} at ${hex(physToVirt(site))}`);
  throw refusal(`${count} ${what} (${shown.join(', ')})`, `at most ${most}`, NOT_WHOLE);
}

/** What is searched of one segment: pairs of start and end, as offsets in its bytes. */
interface Stretches {
  readonly base: PhysAddr;
  readonly load: Segment;
  readonly ends: readonly number[];
}

function* stretchesOf(table: RelocationTable, name: ListName, kernel: Vmlinux): Generator<Stretches> {
  const { long, clip } = SEARCH[name];
  const { width } = LISTS.find((list) => list.name === name)!;
  for (const { sites, from, to, base, load } of runsOf(table[name], kernel)) {
    const ends: number[] = [];
    for (const index of findGaps(sites, from, to, long)) {
      const start = index === from ? 0 : (sites[index - 1]! ^ INT32_ENTRY_TO_PHYS) + width - base;
      const end = index === to ? load.filesz : (sites[index]! ^ INT32_ENTRY_TO_PHYS) - base;
      if (end - start <= 2 * clip) ends.push(start, end);
      else ends.push(start, start + clip, end - clip, end);
    }
    yield { base, load, ends };
  }
}

/** Indices of the sites that are so far from the one before, of the first, and after the last. */
function findGaps(sites: Int32Array, from: number, to: number, long: number): number[] {
  if (from === to) return [to];
  const found = [from];
  for (let index = from + 1; index < to; index += STRIDE) {
    const end = Math.min(index + STRIDE, to);
    // They ascend: sites that are together so near have no gap between them.
    if (((sites[end - 1]! - sites[index - 1]!) | 0) < long) continue;
    for (let each = index; each < end; each++) if (((sites[each]! - sites[each - 1]!) | 0) >= long) found.push(each);
  }
  return [...found, to];
}

const STRIDE = 8;
const WORD = 8;
/** _KERNPG_TABLE and _PAGE_TABLE, less the bit for user: the flags of linked page-table entries that lead to other page tables. */
const PAGE_TABLE = { mask: 0xffb, flags: 0x063 } as const;

/**
 * Aligned words that hold an address in the image, beside a site or another such word. And page-table entries, which hold physical addresses. All
 * stretches in one loop, and as int32: called for each, with a DataView, it takes three times as long to be compiled and done.
 */
function findPointers(
  { base, load, ends }: Stretches,
  read: ReadBytes,
  { start, end }: Bounds,
  pointers: Finds,
  pageTables: Finds | undefined,
): void {
  for (let stretch = 0; stretch < ends.length; stretch += 2) {
    const from = ends[stretch]! + (-(base + ends[stretch]!) & (WORD - 1));
    const length = (ends[stretch + 1]! - from) & -WORD;
    if (length <= 0) continue;
    const bytes = read(load.offset + from, length);
    const words = wordsIn(bytes);
    const halves = new Int32Array(words.buffer, words.byteOffset, words.length);
    let beside = 0;
    for (let index = 0; index < halves.length; index += 2) {
      const high = halves[index + 1]!;
      if (high === -1) {
        const address = halves[index]! ^ INT32_ENTRY_TO_PHYS;
        if (address < start || address > end) continue;
        if (index === beside || index + 2 === halves.length)
          pointers.add(base + from + index * 4, bytes.subarray(index * 4, index * 4 + WORD));
        beside = index + 2;
      } else if (high === 0 && pageTables !== undefined) {
        const entry = halves[index]!;
        if ((entry & PAGE_TABLE.mask) === PAGE_TABLE.flags && entry >= start && entry < end)
          pageTables.add(base + from + index * 4, bytes.subarray(index * 4, index * 4 + WORD));
      }
    }
  }
}

/** MOV r64, imm32 (REX.W or REX.WB, C7 /0 with a register), in the form in which compilers take an address. _text itself is a constant in some places. */
function findMoves({ base, load, ends }: Stretches, read: ReadBytes, bounds: Bounds, finds: Finds): void {
  const text = bounds.start ^ INT32_ENTRY_TO_PHYS;
  for (let stretch = 0; stretch < ends.length; stretch += 2) {
    const from = ends[stretch]!;
    const code = read(load.offset + from, ends[stretch + 1]! - from);
    // indexOf is native: as fast as a compiled loop, from the first call on.
    for (let at = code.indexOf(0xc7, 1); at >= 0 && at + 6 <= code.length; at = code.indexOf(0xc7, at + 1)) {
      if ((code[at - 1]! & 0xfe) !== 0x48 || (code[at + 1]! & 0xf8) !== 0xc0) continue;
      const value = int32At(code, at + 2);
      if (value !== text && isAddress(value, bounds)) finds.add(base + from + at + 2, code.subarray(at + 2, at + 6));
    }
  }
}

/** GS prefix, REX or none, an opcode of one byte, and a ModRM byte that says: relative to RIP. */
function findPerCpuUses({ base, load, ends }: Stretches, read: ReadBytes, { perCpu }: Bounds, finds: Finds): void {
  for (let stretch = 0; stretch < ends.length; stretch += 2) {
    const from = ends[stretch]!;
    const code = read(load.offset + from, ends[stretch + 1]! - from);
    for (let at = code.indexOf(0x65); at >= 0 && at + 8 <= code.length; at = code.indexOf(0x65, at + 1)) {
      const field = (code[at + 1]! & 0xf0) === 0x40 ? at + 4 : at + 3;
      if ((code[field - 1]! & 0xc7) !== 0x05) continue;
      const target = (int32At(code, field) + ((base + from + field) ^ INT32_ENTRY_TO_PHYS) + 4) | 0;
      if (target >= 0 && target < perCpu) finds.add(base + from + field, code.subarray(field, field + 4));
    }
  }
}

function int32At(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}
