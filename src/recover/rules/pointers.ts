/**
 * Pointers in data: words of 8 bytes that hold a link address. Nearly all are aligned. Those that are not are bases of descriptor tables, fields of the TSS, and what code loads from where it stands.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { physToVirt, PMD_SIZE } from '../../base/addresses.ts';
import { partAt } from '../image.ts';
import type { Part, RecoverImage } from '../image.ts';
import type { Ledger } from '../ledger.ts';
import type { Symbols } from '../symbols.ts';
import { isNamed, isText } from '../target.ts';

const WORD = 8;

/** ftrace's table of call sites has tens of thousands of rows. So many must be in order before zeros are taken for its first ones. */
const CALL_SITES = 256;

/**
 * ftrace's table of call sites, __mcount_loc, is sorted by the kernel's build. Since 6.12 the rows of functions that were dropped are zero, so they come first, and the kernel's own table has them as sites. They need no
 * slide; with them the recovered table is the kernel's own. The table begins where code names it.
 */
function judgeCallSites(image: RecoverImage, part: Part, ledger: Ledger): void {
  const { view, bytes, start: base } = part;
  const first = (WORD - (base % WORD)) % WORD;
  for (let at = first + WORD; at + CALL_SITES * WORD <= bytes.length; at += WORD) {
    if (!isZeroWord(view, at - WORD) || view.getInt32(at + 4, true) !== -1 || !isInOrder(image, view, at)) continue;
    if (image.named.has(base + at)) return; // the table begins with an address
    const named: number[] = [];
    let from = at;
    while (from >= first + WORD && isZeroWord(view, from - WORD)) {
      from -= WORD;
      if (image.named.has(base + from)) named.push(from);
    }
    if (named.length !== 1) return;
    for (let zero = named[0]!; zero < at; zero += WORD) ledger.site('call-site', 'abs64', base + zero);
    return;
  }
}

function isZeroWord(view: DataView, at: number): boolean {
  return view.getUint32(at, true) === 0 && view.getUint32(at + 4, true) === 0;
}

/** Rising addresses of instructions. */
function isInOrder({ instructions }: RecoverImage, view: DataView, at: number): boolean {
  let last = 0;
  for (let row = at; row < at + CALL_SITES * WORD; row += WORD) {
    const target = view.getUint32(row, true) - 0x8000_0000;
    if (view.getInt32(row + 4, true) !== -1 || target <= last || !instructions.has(target)) return false;
    last = target;
  }
  return true;
}

/** `loaded`: descriptors that LGDT and LIDT load. Returns how many descriptors have a base that is a site. */
export function judgePointers(
  image: RecoverImage,
  loaded: ReadonlySet<PhysAddr>,
  symbols: readonly Symbols[],
  ledger: Ledger,
): number {
  let descriptors = 0;
  for (const part of image.data) {
    judgeAligned(image, part, symbols, ledger);
    judgeCallSites(image, part, ledger);
    descriptors += judgeOdd(image, part, loaded, ledger);
  }
  return descriptors;
}

function judgeAligned(image: RecoverImage, part: Part, symbols: readonly Symbols[], ledger: Ledger): void {
  const { view, start: base, bytes } = part;
  const { start: low, end: high } = image;
  const { first, step } = ROWS[part.name] ?? { first: (WORD - (base % WORD)) % WORD, step: WORD };
  for (let at = first; at + WORD <= bytes.length; at += step) {
    if (view.getInt32(at + 4, true) !== -1) continue;
    const target = view.getUint32(at, true) - 0x8000_0000;
    if (target < low || target > high) {
      // Compilers add to addresses, and take from them.
      if (target >= low - BEYOND && target < high + BEYOND)
        ledger.doubt('pointer', 'abs64', base + at, physToVirt(target));
      continue;
    }
    // A symbol at exactly that place decides what its form does not.
    if (isPlausible(image, part, at, target) || symbols.some(({ hasSymbolAt }) => hasSymbolAt(target)))
      ledger.site('pointer', 'abs64', base + at);
    else ledger.doubt('pointer', 'abs64', base + at, physToVirt(target));
  }
}

/** Sections of rows of which one field is a pointer, and others are numbers that may look like one: struct pci_fixup before 4.19. */
const ROWS: Readonly<Record<string, { readonly first: number; readonly step: number }>> = {
  '.pci_fixup': { first: 16, step: 24 },
};

/** Pointers to what nothing names, at an odd place, are among other pointers: parameters of modules, rows of a table. */
const NEAR = 64;
/** A pointer to what is so near is one: among random words of 4 bytes a millionth leads there. */
const BESIDE = 0x1000;

/**
 * Not plausible: a pointer into an instruction; and a lone one to a place of no alignment that nothing names. Of the 145,000 to 208,000 pointers of nine Debian kernels none is the
 * former, and none the latter but those to lists of BTF ids.
 */
function isPlausible(image: RecoverImage, part: Part, at: number, target: PhysAddr): boolean {
  const holder = partAt(image, target);
  if (holder !== undefined && image.code.includes(holder))
    return image.instructions.has(target) || target === holder.start;
  if (Math.abs(target - (part.start + at)) < BESIDE) return true;
  if (target % WORD === 0 || holder?.name === '.BTF_ids' || isNamed(image, target) || isText(image, target))
    return true;
  for (let distance = WORD; distance <= NEAR; distance += WORD)
    if (holdsAddress(image, part, at - distance) || holdsAddress(image, part, at + distance)) return true;
  return false;
}

function holdsAddress({ start, end }: RecoverImage, { view, bytes }: Part, at: number): boolean {
  if (at < 0 || at + WORD > bytes.length || view.getInt32(at + 4, true) !== -1) return false;
  const target = view.getUint32(at, true) - 0x8000_0000;
  return target >= start && target <= end;
}

/** So far beyond the image, below and above, words are doubts. The kernels that were tried have none. */
const BEYOND = PMD_SIZE;

/** The upper half of a link address is four times 0xff: found by indexOf, which is native. */
function judgeOdd(image: RecoverImage, part: Part, loaded: ReadonlySet<PhysAddr>, ledger: Ledger): number {
  let descriptors = 0;
  const { view, start: base, bytes } = part;
  const { start: low, end: high } = image;
  for (let at = bytes.indexOf(0xff, 4); at >= 0 && at + 4 <= bytes.length; at = bytes.indexOf(0xff, at + 1)) {
    if ((base + at + 4) % WORD === 0 || view.getInt32(at, true) !== -1) continue;
    const target = view.getUint32(at - 4, true) - 0x8000_0000;
    if (target < low || target > high) continue;
    const place = base + at - 4;
    if (isInRunOfOnes(part, at)) {
      // Rows of a packed structure may have -1 after the pointer, and tables of numbers may have two masks.
      if (isInPackedArray(image, part, at - 4)) ledger.doubt('packed-array', 'abs64', place, physToVirt(target));
      else ledger.number('odd-word');
      continue;
    }
    if (loaded.has(place - 2) || isDescriptor(image, part, at - 6)) {
      ledger.site('descriptor', 'abs64', place);
      descriptors++;
    } else if (image.named.has(place) || isTssStack(part, at - 4)) ledger.site('packed-pointer', 'abs64', place);
    else if (isInPackedArray(image, part, at - 4)) ledger.site('packed-array', 'abs64', place);
    else if (isNamed(image, target) || isText(image, target) || (target % WORD === 0 && !isPixels(target)))
      ledger.doubt('odd-word', 'abs64', place, physToVirt(target));
    else ledger.number('odd-word');
  }
  return descriptors;
}

/** Pictures have 0xff in most bytes. Ubuntu's have 0x84ffff00 before four more, eight times. */
function isPixels(target: PhysAddr): boolean {
  return ((target >>> 8) & 0xffff) === 0xffff;
}

/** Whether the bits of the upper half go on after it: then they are no upper half. */
function isInRunOfOnes({ view, bytes }: Part, at: number): boolean {
  return at + WORD <= bytes.length && view.getInt32(at + 4, true) === -1;
}

/** A row holds at most so many bytes besides its pointers. */
const PACKED_ROW = 64;

/**
 * Arrays of packed structures: another pointer at an odd place is near, to another place or to what is named, and this one leads to where an object may begin. Ubuntu's kernels have some 400, Debian's none. There a single word in odd
 * place looks like an address.
 */
function isInPackedArray(image: RecoverImage, part: Part, at: number): boolean {
  const value = part.view.getUint32(at, true);
  const leadsToObject = (where: number): boolean => {
    if ((part.start + where) % WORD === 0 || !holdsAddress(image, part, where)) return false;
    const target = part.view.getUint32(where, true) - 0x8000_0000;
    if (isNamed(image, target) || isText(image, target)) return true;
    return target % WORD === 0 && part.view.getUint32(where, true) !== value;
  };
  const target = value - 0x8000_0000;
  if (target % WORD !== 0 && !isNamed(image, target) && !isText(image, target)) return false;
  for (let distance = WORD; distance <= PACKED_ROW; distance++)
    if (leadsToObject(at - distance) || leadsToObject(at + distance)) return true;
  return false;
}

/** A limit of whole descriptors, whose place code names. */
function isDescriptor({ named }: RecoverImage, { view, start }: Part, at: number): boolean {
  return at >= 0 && (view.getUint16(at, true) + 1) % 8 === 0 && named.has(start + at);
}

/** tss.sp1, which is after sp0 = 0x8000000000000001 (arch/x86/kernel/process.c). */
function isTssStack({ view }: Part, at: number): boolean {
  return at >= WORD && view.getUint32(at - 8, true) === 1 && view.getUint32(at - 4, true) === 0x8000_0000;
}
