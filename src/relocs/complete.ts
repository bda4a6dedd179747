/**
 * Is the relocation table whole?
 *
 * A table that has lost sites, at its end or in the middle, still names only right ones. What it lost is in the image: fields that hold an address, in a form
 * that nothing but an address has. Each of them must be in the table.
 *
 *   64-bit   words of 8 bytes, aligned, that hold an address in the image; in writable data also page-table entries, which hold physical ones
 *   32-bit   the immediate operand of MOV r/m64, imm32 in the four forms in which compilers store or load an address. 81 to 85% of a kernel's 32-bit sites
 *            In `all` also disp32 of an indexed address, `table(,%reg,8)`, and registers compared with an address: most of the rest
 *   inverse  GS-relative operands that lead to per-cpu data. 98% of the inverse sites
 *
 * Which fields count, and how many may be in no list, is measured on thirteen Debian kernels, 5.10 to 7.3, see ALLOWED. The immediate _text is exempt: in some places
 * it is a constant.
 *
 * Two ways to look. `all` reads every byte of the image: `verify`. `samples` reads what is likely to show a loss: both ends of the long stretches without a site,
 * since a lost run of sites leaves one, and some windows spread over the image, since sites lost here and there show anywhere. The least processor time of many
 * runs in one process, for the whole `checkTable` of Debian's 6.12 cloud kernel, on a machine that was busy with other work: samples 2.4 ms (0.8 of it `checkSites`), all 112 ms.
 * docs/security.md says what each finds.
 */
import { INT32_ENTRY_TO_PHYS, int32Entries, physToVirt } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { bytesOfWords, wordsIn } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import { PF_W, PF_X } from '../elf/constants.ts';
import type { Segment } from '../elf/read.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { boundsOf, Finds, int32At, isAddress, firstSiteFrom, refusal, runsOf } from './plausible.ts';
import type { Bounds, ImageReader, ReadBytes, Run, Thoroughness } from './plausible.ts';
import { LISTS } from './tables/kernel-table.ts';
import type { ListName, RelocationTable } from './tables/kernel-table.ts';

/**
 * Fields that may be in no list. Measured, `all`: 0 of each but `code`: 10 to 13 aligned words in segments of code and constants look like addresses and are instructions.
 */
const ALLOWED = {
  all: { data: 4, code: 32, pageTables: 1, operands: 4 },
  // A fortieth of the bytes, so fewer that look like an address.
  samples: { data: 1, code: 8, pageTables: 1, operands: 1 },
} as const;
/** Measured on ten Debian kernels, 5.10 to 7.3: 0 or 1. */
const INDEXED_ALLOWED = 4;
/** One more for so many bytes: what is compressed or encrypted (an initramfs in the image) looks like such a MOV once in 50 MB. */
const BYTES_AN_OPERAND = 0x100_0000;

/** Throws KernelImageError for a table that lacks sites of this kernel. Its sites must be known to lie in the image (`checkSites`). */
export function checkComplete(
  table: RelocationTable,
  kernel: Vmlinux,
  image: ImageReader,
  thoroughness: Thoroughness,
): void {
  const { read } = image;
  const allowed = ALLOWED[thoroughness];
  const bounds = boundsOf(kernel);
  const found = {
    data: new Finds(),
    code: new Finds(),
    pageTables: new Finds(),
    moves: new Finds(),
    indexed: new Finds(),
    uses: new Finds(),
  };
  const others = int32Entries(table.abs32);
  let searched = 0;
  for (const run of runsOf(table.abs64, kernel)) {
    const writable = (run.load.flags & PF_W) !== 0;
    const executable = (run.load.flags & PF_X) !== 0;
    findPointers(
      run,
      rangesOf(run, 'abs64', thoroughness),
      image,
      bounds,
      others,
      executable && !writable ? found.code : found.data,
      writable ? found.pageTables : undefined,
    );
  }
  expectListed(found.data, allowed.data, 'aligned words that are addresses in this kernel');
  expectListed(found.code, allowed.code, 'aligned words that are addresses in this kernel');
  expectListed(found.pageTables, allowed.pageTables, 'page-table entries');
  // In all segments: since 7.0 .init.text is in one that is not marked executable.
  for (const run of runsOf(table.abs32, kernel))
    for (const range of rangesOf(run, 'abs32', thoroughness)) {
      searched += range.end - range.start;
      findMoves(run, range, read, bounds, found.moves);
    }
  const most = allowed.operands + Math.floor(searched / BYTES_AN_OPERAND);
  expectListed(found.moves, most, 'operands that are addresses in this kernel');
  if (thoroughness === 'all') {
    for (const run of runsOf(table.abs32, kernel))
      if ((run.load.flags & PF_X) !== 0)
        for (const range of stretchesOf(run, 'abs32', INDEXED_STRETCH))
          findIndexed(run, range, read, bounds, found.indexed);
    expectListed(found.indexed, INDEXED_ALLOWED, 'addresses of tables that are addresses in this kernel');
  }
  if (bounds.perCpu === 0) return;
  for (const run of runsOf(table.inverse32, kernel))
    if ((run.load.flags & PF_X) !== 0)
      for (const range of rangesOf(run, 'inverse32', thoroughness))
        findPerCpuUses(run, range, read, bounds, found.uses);
  expectListed(found.uses, allowed.operands, 'operands that lead to per-cpu data');
}

function expectListed({ count, examples }: Finds, most: number, what: string): void {
  if (count <= most) return;
  const shown = examples.map(({ site, value }) => `${hex(physToVirt(site))} holds ${value}`);
  throw refusal(
    `count of ${what}, but not in the relocation table,`,
    `${count} (${shown.join(', ')})`,
    `at most ${most}`,
    'the table is not whole, or of another build',
  );
}

/** A part of a segment to be searched, as offsets in its bytes. */
interface Range {
  readonly start: number;
  readonly end: number;
}

/** `long`: a stretch without a site is searched if it has so many bytes. `clip`: so much of it at each end. */
const STRETCH = {
  abs64: { long: 0x200, clip: 0x100 },
  abs32: { long: 0x1800, clip: 0x800 },
  inverse32: { long: 0x8000, clip: 0x2000 },
} as const satisfies Record<ListName, { readonly long: number; readonly clip: number }>;
/** For `findIndexed`, in `all`. No more than these stretches: a search of all code takes as long as everything else in `all` together. */
const INDEXED_STRETCH = { long: 0x400, clip: 0x1000 } as const;
const VERY_LONG = 0x1000;
const CLIP_VERY_LONG = 0x400;
const WINDOWS = 12;
const WINDOW = 0x800;

function rangesOf(run: Run, name: ListName, thoroughness: Thoroughness): Range[] {
  const { filesz } = run.load;
  if (thoroughness === 'all' || filesz <= WINDOWS * WINDOW) return [{ start: 0, end: filesz }];
  return [...stretchesOf(run, name, STRETCH[name]), ...windowsOf(run.load)];
}

function windowsOf({ filesz }: Segment): Range[] {
  const step = Math.floor(filesz / WINDOWS) & -WINDOW;
  return Array.from({ length: WINDOWS }, (_, index) => ({ start: index * step, end: index * step + WINDOW }));
}

function stretchesOf(
  { sites, from, to, base, load }: Run,
  name: ListName,
  { long, clip: usual }: { readonly long: number; readonly clip: number },
): Range[] {
  const { width } = LISTS.find((list) => list.name === name)!;
  const ranges: Range[] = [];
  for (const index of findGaps(sites, from, to, long)) {
    const start = index === from ? 0 : (sites[index - 1]! ^ INT32_ENTRY_TO_PHYS) + width - base;
    const end = index === to ? load.filesz : (sites[index]! ^ INT32_ENTRY_TO_PHYS) - base;
    // Fewer stretches are that long, and what was lost from them may be far apart.
    const clip = end - start < VERY_LONG ? usual : Math.max(usual, CLIP_VERY_LONG);
    if (end - start <= 2 * clip) ranges.push({ start, end });
    else ranges.push({ start, end: start + clip }, { start: end - clip, end });
  }
  return ranges;
}

const STRIDE = 8;

/** Indices of the sites that are so far from the one before, of the first, and after the last. */
function findGaps(sites: Int32Array, from: number, to: number, long: number): number[] {
  if (from === to) return [to];
  const found = [from];
  for (let index = from + 1; index < to; index += STRIDE) {
    index = skipNear(sites, index, to, long);
    const end = Math.min(index + STRIDE, to);
    for (let each = index; each < end; each++) if (((sites[each]! - sites[each - 1]!) | 0) >= long) found.push(each);
  }
  return [...found, to];
}

/** Skips STRIDE sites at a time, while these and the one before them are together so near that there is no gap between them: they ascend. */
function skipNear(sites: Int32Array, index: number, to: number, long: number): number {
  const last = to - STRIDE;
  while (index <= last && ((sites[index + (STRIDE - 1)]! - sites[index - 1]!) | 0) < long) index += STRIDE;
  return index;
}

const WORD = 8;
/** _KERNPG_TABLE and _PAGE_TABLE, without the bit for user: the flags of linked page-table entries that lead to other page tables. */
const [PAGE_TABLE_MASK, PAGE_TABLE_FLAGS] = [0xffb, 0x063];
/** Flags that no entry has under the mask. */
const NO_FLAGS = -1;

/**
 * `others`: the 32-bit sites. Where one of them is in such a word, or just before it, the word is part of an instruction. All ranges in one loop over one array: a view of
 * each range takes as long as the search (measured: a thousand ranges).
 */
function findPointers(
  { sites, to, base, load }: Run,
  ranges: readonly Range[],
  { read, inMemory }: ImageReader,
  { start, end }: Bounds,
  others: Int32Array,
  pointers: Finds,
  pageTables: Finds | undefined,
): void {
  const skip = -base & (WORD - 1);
  const flags = pageTables === undefined ? NO_FLAGS : PAGE_TABLE_FLAGS;
  const segment = inMemory ? int32View(read(load.offset + skip, (load.filesz - skip) & -WORD)) : undefined;
  for (const range of ranges) {
    const first = (range.start - skip + WORD - 1) & -WORD;
    const length = (range.end - skip - first) & -WORD;
    if (length <= 0) continue;
    const halves = segment ?? int32View(read(load.offset + skip + first, length));
    const from = segment === undefined ? 0 : first / 4;
    const stop = from + length / 4;
    const origin = base + skip + first - from * 4;
    let listed = -1;
    for (let at = nextPointer(halves, from, stop, flags); at < stop; at = nextPointer(halves, at + 2, stop, flags)) {
      const site = origin + at * 4;
      if (halves[at + 1] === -1) {
        const address = halves[at]! ^ INT32_ENTRY_TO_PHYS;
        if (address < start || address > end) continue;
        if (listed < 0) listed = firstSiteFrom(sites, site);
        while (listed < to && (sites[listed]! ^ INT32_ENTRY_TO_PHYS) < site) listed++;
        if (listed < to && (sites[listed]! ^ INT32_ENTRY_TO_PHYS) === site) continue;
        const near = firstSiteFrom(others, site - 3);
        if (near < others.length && (others[near]! ^ INT32_ENTRY_TO_PHYS) < site + WORD) continue;
        pointers.add(site, bytesOf(halves), at * 4, WORD);
      } else if (pageTables !== undefined) {
        const entry = halves[at]!;
        if (entry < start || entry >= end) continue;
        if (!isListed(sites, site)) pageTables.add(site, bytesOf(halves), at * 4, WORD);
      }
    }
  }
}

/**
 * The first word from `at` on that may be one: with a high half of ones, or of zeros and a low half with these flags of a page-table entry. `stop` if there is none.
 *
 * This loop sees nearly all words, and the one above few. It is a function of its own because it must be fast before it is compiled, and cheap to compile.
 */
function nextPointer(halves: Int32Array, at: number, stop: number, flags: number): number {
  for (; at < stop; at += 2) {
    const high = halves[at + 1]!;
    if (high === -1 || (high === 0 && (halves[at]! & PAGE_TABLE_MASK) === flags)) return at;
  }
  return stop;
}

function int32View(bytes: Uint8Array): Int32Array {
  const { buffer, byteOffset, length } = wordsIn(bytes);
  return new Int32Array(buffer, byteOffset, length);
}

function bytesOf({ buffer, byteOffset, length }: Int32Array): Uint8Array {
  return bytesOfWords(new Uint32Array(buffer, byteOffset, length));
}

function isListed(sites: Int32Array, site: PhysAddr): boolean {
  const index = firstSiteFrom(sites, site);
  return index < sites.length && (sites[index]! ^ INT32_ENTRY_TO_PHYS) === site;
}

/**
 * MOV r/m64, imm32 (REX.W C7 /0) to a register, [reg + disp8], [rip + disp32] or [rsp + disp8]. Among random bytes one in 69 million looks like one that holds an
 * address of a kernel of 57 MB.
 */
function findMoves({ sites, to, base, load }: Run, range: Range, read: ReadBytes, bounds: Bounds, finds: Finds): void {
  const text = bounds.start ^ INT32_ENTRY_TO_PHYS;
  const code = read(load.offset + range.start, range.end - range.start);
  const origin = base + range.start;
  let listed = -1;
  // indexOf is native: as fast as a compiled loop, from the first call on.
  for (let at = code.indexOf(0xc7, 1); at >= 0 && at + 10 <= code.length; at = code.indexOf(0xc7, at + 1)) {
    const rex = code[at - 1]!;
    if ((rex & 0xfe) !== 0x48) continue;
    const modrm = code[at + 1]!;
    let field = at + 2;
    if ((modrm & 0xf8) !== 0xc0) {
      if (rex !== 0x48) continue;
      if (modrm === 0x05) field = at + 6;
      else if (modrm === 0x44 && code[at + 2] === 0x24) field = at + 4;
      else if ((modrm & 0xf8) === 0x40 && modrm !== 0x44) field = at + 3;
      else continue;
    }
    const value = int32At(code, field);
    if (value === text || !isAddress(value, bounds)) continue;
    const site = origin + field;
    if (listed < 0) listed = firstSiteFrom(sites, site);
    while (listed < to && (sites[listed]! ^ INT32_ENTRY_TO_PHYS) < site) listed++;
    if (listed < to && (sites[listed]! ^ INT32_ENTRY_TO_PHYS) === site) continue;
    finds.add(site, code, field, 4);
  }
}

/** Opcodes, and those after 0x0f, of which `findIndexed` takes the addresses: XOR, AND, MOV; MOVZX. And of 0xff, CALL and JMP (/2, /4). */
const INDEXED = new Set([0x33, 0x23, 0x8b, 0x89]);
const MOVZX = 0xb6;
/** ADD, SUB and CMP of a 64-bit register and imm32 (REX.W 81 /0, /5, /7), by the number in ModRM. */
const WITH_CONSTANT = new Set([0, 5, 7]);
/** By the byte before the last of those before the field: 0x81, or ModRM that says SIB without displacement. */
const MAY_BE_INDEXED = Uint8Array.from({ length: 256 }, (_, byte) => (byte === 0x81 || (byte & 0xc7) === 0x04 ? 1 : 0));

/**
 * `table(,%reg,8)`: ModRM and SIB say an index, no base, and disp32. And comparisons of a register with an address. In some code there are hardly any sites but these: in
 * AES, which looks up four tables. Lookalikes are instructions that hold a site a few bytes away.
 */
function findIndexed({ sites, base, load }: Run, range: Range, read: ReadBytes, bounds: Bounds, finds: Finds): void {
  const code = read(load.offset + range.start, range.end - range.start);
  const origin = base + range.start;
  const last = code.length - 6;
  for (let at = 2; at <= last; at++) {
    const byte = code[at]!;
    if (MAY_BE_INDEXED[byte] === 0) continue;
    const field = at + 2;
    if (byte === 0x81) {
      if ((code[at - 1]! & 0xfe) !== 0x48 || code[at + 1]! < 0xc0) continue;
      if (!WITH_CONSTANT.has((code[at + 1]! >> 3) & 7)) continue;
    } else {
      if ((code[at + 1]! & 7) !== 5) continue;
      const opcode = code[at - 1]!;
      const isCall = opcode === 0xff && (byte === 0x14 || byte === 0x24);
      if (!INDEXED.has(opcode) && !isCall && !(opcode === MOVZX && code[at - 2] === 0x0f)) continue;
    }
    if (!isAddress(int32At(code, field), bounds)) continue;
    const site = origin + field;
    const near = firstSiteFrom(sites, site - 4);
    if (near < sites.length && (sites[near]! ^ INT32_ENTRY_TO_PHYS) <= site + 4) continue;
    finds.add(site, code, field, 4);
  }
}

/** GS prefix, REX or none, an opcode of one byte, and a ModRM byte that says: relative to RIP. */
function findPerCpuUses(
  { sites, to, base, load }: Run,
  range: Range,
  read: ReadBytes,
  { perCpu }: Bounds,
  finds: Finds,
): void {
  const code = read(load.offset + range.start, range.end - range.start);
  const origin = base + range.start;
  let listed = -1;
  for (let at = code.indexOf(0x65); at >= 0 && at + 8 <= code.length; at = code.indexOf(0x65, at + 1)) {
    const field = (code[at + 1]! & 0xf0) === 0x40 ? at + 4 : at + 3;
    if ((code[field - 1]! & 0xc7) !== 0x05) continue;
    const site = origin + field;
    const target = (int32At(code, field) + (site ^ INT32_ENTRY_TO_PHYS) + 4) | 0;
    if (target < 0 || target >= perCpu) continue;
    if (listed < 0) listed = firstSiteFrom(sites, site);
    while (listed < to && (sites[listed]! ^ INT32_ENTRY_TO_PHYS) < site) listed++;
    if (listed < to && (sites[listed]! ^ INT32_ENTRY_TO_PHYS) === site) continue;
    finds.add(site, code, field, 4);
  }
}
