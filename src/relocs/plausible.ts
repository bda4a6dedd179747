/**
 * Is this the relocation table of this kernel?
 *
 * A table names sites and says nothing else. The table of another build has sites inside the image as well, and a kernel that is moved by it dies before its
 * first line. What the sites hold tells them apart: with its own table nearly every site holds an address of the image.
 *
 * Measured on nine Debian kernels, 5.10 to 7.3, with their own table and with those of other builds of the same version:
 *
 *                                                      own table        another build's    refused above
 *   64-bit sites without an address, zeros aside       0.01 to 0.02%    23 to 53%          1%
 *   64-bit sites that hold zero                        0 to 0.45%       24 to 58%          5%
 *   32-bit sites without an address                    0.01 to 0.03%    96 to 98%          1%
 *   inverse sites that lead to no per-cpu data         0                97 to 100%         1%
 *
 * `verify`, which looks at every site, refuses more than 0.1% without an address: sites that were added to the right table.
 *
 * What is right and holds no address: page-table entries and other physical addresses, and the zeros that weak functions leave in the table of ftrace's call
 * sites (since 6.12). A few of each are therefore always allowed: small kernels have the same ones among fewer sites.
 *
 * Whether the table is whole: complete.ts.
 */
import { INT32_ENTRY_TO_PHYS, int32Entries, physToVirt } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { viewOf } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { PF_X } from '../elf/constants.ts';
import type { Segment } from '../elf/read.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { countRelocations, LISTS } from './tables/kernel-table.ts';
import type { ListName, RelocationTable } from './tables/kernel-table.ts';

/** `samples`: some hundred places, for pipelines whose time counts. `all`: every site and every byte, for proofs. */
export type Thoroughness = 'samples' | 'all';

/** Reads `length` bytes of the kernel's file: a view that is valid until the next call. */
export type ReadBytes = (offset: FileOffset, length: number) => Uint8Array;

export interface ImageReader {
  readonly read: ReadBytes;
  /** What `read` returns are views of one array, whatever their length: they cost nothing. */
  readonly inMemory: boolean;
}

/** The segment that per-cpu data is linked in, at virtual 0. Kernels up to 6.14 with SMP have it, and only they have inverse sites. */
export function perCpuSegment({ loads }: Pick<Vmlinux, 'loads'>): Segment | undefined {
  return loads.find(({ vaddr }) => vaddr === 0n);
}

/** Throws KernelImageError for a table that cannot be this kernel's. Its sites must be known to lie in the image (`checkSites`). */
export function checkPlausible(
  table: RelocationTable,
  kernel: Vmlinux,
  read: ReadBytes,
  thoroughness: Thoroughness,
): void {
  checkLists(table, kernel);
  const bounds = boundsOf(kernel);
  // The 32-bit list first: there, another build's table differs most.
  for (const name of ['abs32', 'abs64', 'inverse32'] as const)
    checkValues(table, kernel, name, bounds, read, thoroughness);
}

/** No kernel has fewer sites than this many bytes for each; real ones have one in 260 bytes, and in code one of 32 bits in 400. */
const BYTES_A_SITE = 0x1_0000;

/** What every kernel has: sites of both widths, some in its code. And an inverse list exactly where per-cpu data is linked at 0. */
function checkLists(table: RelocationTable, kernel: Vmlinux): void {
  const perCpu = perCpuSegment(kernel);
  if (perCpu !== undefined && table.lists === 2)
    throw refusal(
      'number of lists in relocation table',
      'two',
      `three: program header ${perCpu.index} is linked at 0x0, for per-cpu data`,
    );
  if (perCpu === undefined && table.inverse32.length > 0)
    throw refusal(
      'count of inverse 32-bit sites in relocation table',
      `${table.inverse32.length}`,
      'none: no program header is linked at 0x0, for per-cpu data',
    );
  for (const { name, title } of LISTS)
    if (name !== 'inverse32' && table[name].length === 0)
      throw refusal(`count of ${title} sites in relocation table`, '0', 'some, as in every kernel', STRIPPED);
  const bytes = kernel.loads.reduce((sum, { filesz }) => sum + filesz, 0);
  expectMany(countRelocations(table), bytes, 'sites');
  const code = kernel.loads.filter(({ flags }) => (flags & PF_X) !== 0);
  const sites = int32Entries(table.abs32);
  const inCode = code.reduce((sum, { paddr, filesz }) => sum + countBetween(sites, paddr, paddr + filesz), 0);
  const codeBytes = code.reduce((sum, { filesz }) => sum + filesz, 0);
  if (codeBytes > 0) expectMany(inCode, codeBytes, '32-bit sites in executable segments');
}

function expectMany(count: number, bytes: number, what: string): void {
  const least = Math.max(1, Math.floor(bytes / BYTES_A_SITE));
  if (count < least)
    throw refusal(
      `count of ${what} in relocation table`,
      `${count}`,
      `at least ${least} for 0x${bytes.toString(16)} bytes`,
      STRIPPED,
    );
}

function countBetween(sites: Int32Array, from: PhysAddr, to: PhysAddr): number {
  return firstSiteFrom(sites, to) - firstSiteFrom(sites, from);
}

/** Index of the first site at or above `address`. */
export function firstSiteFrom(sites: Int32Array, address: PhysAddr): number {
  let [low, high] = [0, sites.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sites[middle]! ^ INT32_ENTRY_TO_PHYS) < address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Sites of one list in the bytes of one segment: those from index `from` to `to`. */
export interface Run {
  readonly sites: Int32Array;
  readonly from: number;
  readonly to: number;
  readonly base: PhysAddr;
  readonly load: Segment;
}

export function* runsOf(list: Uint32Array, { loads }: Vmlinux): Generator<Run> {
  const sites = int32Entries(list);
  for (const load of loads) {
    const { paddr: base, filesz } = load;
    if (filesz > 0)
      yield { sites, from: firstSiteFrom(sites, base), to: firstSiteFrom(sites, base + filesz), base, load };
  }
}

/** What was found, counted, with the first three. */
export class Finds {
  count = 0;
  readonly examples: { readonly site: PhysAddr; readonly value: string }[] = [];
  add(site: PhysAddr, bytes: Uint8Array, at: number, width: 4 | 8): void {
    if (this.count++ >= 3) return;
    const view = viewOf(bytes);
    this.examples.push({ site, value: hex(width === 8 ? view.getBigUint64(at, true) : view.getUint32(at, true)) });
  }
}

/** The image, in numbers for the loops. `perCpu`: size of the per-cpu data. */
export interface Bounds {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
  readonly perCpu: number;
}

export function boundsOf(kernel: Vmlinux): Bounds {
  return { start: kernel.imageStart, end: kernel.imageEnd, perCpu: perCpuSegment(kernel)?.memsz ?? 0 };
}

/** Whether a field of 32 bits, sign-extended, is an address in the image. As a physical link address, other values are below 0 or above the image. */
export function isAddress(value: number, { start, end }: Bounds): boolean {
  const address = value ^ INT32_ENTRY_TO_PHYS;
  return address >= start && address <= end;
}

export function int32At(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

/** So many sites of a list tell whether all must be looked at. Each costs a cache miss. */
const SAMPLE = 256;
/** So many sites of a list may hold what is no address, whatever their share: half of a small list, and a handful in any. */
const ALWAYS_ALLOWED = { handful: 8, half: 64 } as const;
const ODD = 0.01;
/** Of every site, not of samples, this share: a kernel's own table has a third of it. */
const ODD_OF_ALL = 0.001;
const ZERO = 0.05;

interface Rule {
  /** The share of a list's sites that is allowed. */
  readonly share: number;
  readonly what: string;
}

/** What a list's sites must hold, and which of them may be zero. */
const RULES: Readonly<Record<ListName, { readonly odd: Rule; readonly zero: Rule }>> = {
  abs64: {
    odd: { share: ODD, what: 'hold no address in this kernel' },
    zero: { share: ZERO, what: 'hold zero' },
  },
  abs32: {
    odd: { share: ODD, what: 'hold no address in this kernel' },
    zero: { share: ODD, what: 'hold zero' },
  },
  inverse32: {
    odd: { share: ODD, what: 'do not lead to per-cpu data' },
    zero: { share: ODD, what: 'hold zero' },
  },
};

function checkValues(
  table: RelocationTable,
  kernel: Vmlinux,
  name: ListName,
  bounds: Bounds,
  read: ReadBytes,
  thoroughness: Thoroughness,
): void {
  const all = table[name].length;
  const every = thoroughness === 'all' ? 1 : Math.max(1, Math.floor(all / SAMPLE));
  let found = countOdd(table, kernel, name, bounds, every, read);
  const suspicious = (['odd', 'zero'] as const).some(
    // Twice as wary of a sample as of the whole list.
    (kind) => found[kind].count * every * 2 > all * RULES[name][kind].share,
  );
  if (every > 1 && suspicious) found = countOdd(table, kernel, name, bounds, 1, read);
  if (every > 1 && !suspicious) return;
  for (const kind of ['odd', 'zero'] as const) {
    const { count, examples } = found[kind];
    const { share: usual, what } = RULES[name][kind];
    const share = thoroughness === 'all' && kind === 'odd' ? ODD_OF_ALL : usual;
    const most = Math.floor(Math.max(all * share, ALWAYS_ALLOWED.handful, Math.min(ALWAYS_ALLOWED.half, all / 2)));
    if (count <= most) continue;
    const { title } = LISTS.find((list) => list.name === name)!;
    const shown = examples.map(({ site, value }) => `${hex(physToVirt(site))} holds ${value}`);
    throw refusal(
      `count of ${title} sites that ${what}`,
      `${count} of ${all} (${shown.join(', ')})`,
      `at most ${most}`,
      ANOTHER_BUILD,
    );
  }
}

function countOdd(
  table: RelocationTable,
  kernel: Vmlinux,
  name: ListName,
  bounds: Bounds,
  every: number,
  read: ReadBytes,
): { readonly odd: Finds; readonly zero: Finds } {
  const found = { odd: new Finds(), zero: new Finds() };
  const { width } = LISTS.find((list) => list.name === name)!;
  for (const { sites, from, to, base, load } of runsOf(table[name], kernel)) {
    const whole = every === 1 && to > from ? read(load.offset, load.filesz) : undefined;
    // Not from the first on: page tables are first in the data segment.
    for (let index = from + (every >> 1); index < to; index += every) {
      const site = sites[index]! ^ INT32_ENTRY_TO_PHYS;
      const bytes = whole ?? read(load.offset + site - base, width);
      const at = whole === undefined ? 0 : site - base;
      const low = int32At(bytes, at);
      const high = width === 8 ? int32At(bytes, at + 4) : -1;
      if (name === 'inverse32' ? leadsToPerCpu(low, sites[index]!, bounds) : high === -1 && isAddress(low, bounds))
        continue;
      (low === 0 && (width === 4 || high === 0) ? found.zero : found.odd).add(site, bytes, at, width);
    }
  }
  return found;
}

/** From the field to the end of the longest instruction that has one: the immediate operand after it, and the field itself. */
const AFTER_FIELD = 8;

/** Per-cpu data is linked from 0 on, so a PC-relative field leads to a small number. */
function leadsToPerCpu(value: number, entry: number, { perCpu }: Bounds): boolean {
  const target = (value + entry) | 0;
  return target >= -AFTER_FIELD && target <= perCpu;
}

const STRIPPED = 'the relocations were stripped, or this is not the table of a kernel';
const ANOTHER_BUILD = 'the table is of another build; take the one that was made with this vmlinux';

export function refusal(what: string, found: string, expected: string, hint?: string): KernelImageError {
  return new KernelImageError({ code: 'bad-value', what, found, expected, hint });
}
