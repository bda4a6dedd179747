/** Words of data: eight bytes that look like an address, at every place, aligned or not; page-table entries; and the distances to per-cpu data that are in data. */
import { PAGE_SIZE } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import type { Swept } from './code.ts';
import type { Judgement } from './judgement.ts';
import type { PlaceBits } from './place-bits.ts';
import { stretchAt } from './sections.ts';
import type { JudgedImage, Stretch } from './sections.ts';

const WORD = 8;

/** A word in an odd place that looks like an address. */
export interface OddWord {
  readonly stretch: Stretch;
  readonly place: PhysAddr;
  readonly target: PhysAddr;
}

/** Calls `visit` with the offset of each word that looks like an address and does not overlap two of them. Its upper half is searched for: indexOf is native. */
function eachLookalike(
  { bytes, view }: Stretch,
  { low, high }: JudgedImage,
  visit: (at: number, target: PhysAddr) => void,
): void {
  for (let at = bytes.indexOf(0xff, 4); at >= 0 && at + 4 <= bytes.length; at = bytes.indexOf(0xff, at + 1)) {
    if (view.getInt32(at, true) !== -1) continue;
    const target = view.getInt32(at - 4, true) + 0x8000_0000;
    if (target >= low && target <= high) visit(at - 4, target);
  }
}

/** What is asked of the code: whether it names a word in an odd place, or a descriptor whose base it is, or what a doubtful word leads to. */
export function findOddWords(image: JudgedImage, asked: PlaceBits): OddWord[] {
  const found: OddWord[] = [];
  for (const stretch of image.stretches) {
    if (stretch.content !== 'data') continue;
    const { start } = stretch;
    eachLookalike(stretch, image, (at, target) => {
      const place = start + at;
      if (place % WORD === 0) {
        if (isLone(image, stretch, at, target)) asked.add(target);
        return;
      }
      if (isInRun(stretch, at)) return;
      asked.add(place);
      asked.add(place - 2);
      asked.add(target);
      found.push({ stretch, place, target });
    });
  }
  return found;
}

/** In a run of 0xff four bytes of it are no upper half. */
function isInRun({ bytes, view }: Stretch, at: number): boolean {
  return at + WORD + 4 <= bytes.length && view.getInt32(at + WORD, true) === -1;
}

/** Pointers to a place in the middle of data are among others. */
const AMONG = 64;
/** A pointer to what is so near is one. */
const BESIDE = 0x1000;

/** An aligned word that leads to a place that is not aligned, and is no text; far from it and from other addresses. */
function isLone(image: JudgedImage, { start, view, bytes }: Stretch, at: number, target: PhysAddr): boolean {
  if (target % WORD === 0 || Math.abs(target - start - at) < BESIDE) return false;
  const holder = stretchAt(image, target);
  if (holder?.content === 'code' || holder?.name === '.BTF_ids' || isText(image, target)) return false;
  for (
    let other = Math.max(at % WORD, at - AMONG);
    other <= at + AMONG && other + WORD <= bytes.length;
    other += WORD
  ) {
    if (other === at || view.getInt32(other + 4, true) !== -1) continue;
    const leads = view.getInt32(other, true) + 0x8000_0000;
    if (leads >= image.low && leads <= image.high) return false;
  }
  return true;
}

/** Bytes that are printed, up to a zero. The place may be in the middle of a text: linkers merge texts that end alike. */
export function isText(image: JudgedImage, place: PhysAddr): boolean {
  const stretch = stretchAt(image, place);
  if (stretch === undefined) return false;
  const { bytes, start } = stretch;
  const first = place - start;
  let at = first;
  while (at < bytes.length && IS_PRINTED[bytes[at]!] === 1) at++;
  return at > first && bytes[at] === 0;
}

/** Text, letters beyond ASCII, tab, newline, escape, and what begins a level of printk. */
const IS_PRINTED = Uint8Array.from({ length: 256 }, (_, byte) =>
  (byte >= 0x20 && byte !== 0x7f) || byte === 1 || byte === 9 || byte === 10 || byte === 0x1b ? 1 : 0,
);

export interface DataContext {
  readonly image: JudgedImage;
  readonly judgement: Judgement;
  readonly begins: PlaceBits;
  readonly swept: Swept;
}

/** `named`: what the code names of what was asked for. */
export function judgeWords({ image, judgement, begins }: DataContext, named: ReadonlySet<PhysAddr>): void {
  for (const stretch of image.stretches) {
    const { content, start, name } = stretch;
    if (content === 'code') continue;
    // struct pci_fixup before 4.19: of three words the last is an address, and the others are numbers that may look like one.
    const isRow = name === '.pci_fixup';
    eachLookalike(stretch, image, (at, target) => {
      const place = start + at;
      if (content === 'formatted') judgement.number('format', 'abs64', place);
      else if (place % WORD !== 0) {
        if (isInRun(stretch, at)) judgement.number('ones', 'abs64', place);
      } else if (isRow && at % 24 !== 16) judgement.number('format', 'abs64', place);
      else if (stretchAt(image, target)?.content === 'code' && !begins.has(target))
        judgement.open('into-instruction', 'abs64', place);
      else if (isLone(image, stretch, at, target) && !named.has(target)) judgement.open('lone-word', 'abs64', place);
      else judgement.site('abs64', place, 'an aligned word that is an address');
    });
  }
}

/** Words in packed structures are at most so far apart. */
const PACKED = 64;

export function judgeOddWords(
  { image, judgement, swept, begins }: DataContext,
  words: readonly OddWord[],
  named: ReadonlySet<PhysAddr>,
): void {
  for (const [index, { stretch, place, target }] of words.entries()) {
    const isDescriptor =
      swept.descriptors.has(place - 2) || (named.has(place - 2) && isLimit(stretch, place - 2 - stretch.start));
    if (isDescriptor) judgement.site('abs64', place, 'the base of a descriptor table');
    else if (named.has(place)) judgement.site('abs64', place, 'a word in an odd place that code names');
    else if (isStackOfTss(stretch, place - stretch.start)) judgement.site('abs64', place, 'tss.sp1');
    else {
      const near = [...nearWords(words, index)];
      // In arrays of packed structures all are addresses, or none is.
      if (near.some((other) => judgement.isListed('abs64', other)))
        judgement.site('abs64', place, 'a word in an odd place, beside others that are sites');
      else if (near.length > 0) judgement.open('packed-array', 'abs64', place);
      else if (named.has(target) || begins.has(target) || isText(image, target))
        judgement.open('odd-word', 'abs64', place);
      else judgement.number('odd-word', 'abs64', place);
    }
  }
}

function* nearWords(words: readonly OddWord[], index: number): Generator<PhysAddr> {
  const { place } = words[index]!;
  for (const step of [-1, 1])
    for (let at = index + step; at >= 0 && at < words.length; at += step) {
      const distance = Math.abs(words[at]!.place - place);
      if (distance > PACKED) break;
      if (distance >= WORD) yield words[at]!.place;
    }
}

/** The limit of a table of whole descriptors. */
function isLimit({ view }: Stretch, at: number): boolean {
  return at >= 0 && view.getUint16(at, true) % WORD === 7;
}

/** After sp0, which is 0x8000000000000001 until it is set (arch/x86/kernel/process.c). */
function isStackOfTss({ view }: Stretch, at: number): boolean {
  return at >= WORD && view.getUint32(at - 8, true) === 1 && view.getUint32(at - 4, true) === 0x8000_0000;
}

/** _KERNPG_TABLE and _PAGE_TABLE without the bit for user: flags of an entry that leads to another table. */
const FLAGS = { mask: 0xffb, value: 0x063 } as const;
const PRESENT = 1;

/** Returns how many entries lead to other tables of the image. A page of a table has nothing but entries. */
export function judgePageTables({ image, judgement }: DataContext): number {
  const { low, high } = image;
  let count = 0;
  for (const stretch of image.stretches) {
    const { content, writable, start, bytes, view } = stretch;
    if (content !== 'data' || !writable) continue;
    for (let at = -start & (WORD - 1); at + WORD <= bytes.length; at += WORD) {
      const entry = view.getUint32(at, true);
      if ((entry & FLAGS.mask) !== FLAGS.value || view.getUint32(at + 4, true) !== 0) continue;
      if (entry < low || entry >= high) continue;
      const place = start + at;
      if (isPageTable(stretch, at - (place % PAGE_SIZE))) {
        judgement.site('abs64', place, 'an entry of a page table');
        count++;
      } else judgement.number('page-table', 'abs64', place);
    }
  }
  return count;
}

/** Each entry is 0 or present. A part of the page may be in another stretch. */
function isPageTable({ bytes, view }: Stretch, first: number): boolean {
  for (let at = Math.max(0, first); at < first + PAGE_SIZE && at + WORD <= bytes.length; at += WORD) {
    const entry = view.getUint32(at, true);
    if ((entry & PRESENT) === 0 && (entry !== 0 || view.getUint32(at + 4, true) !== 0)) return false;
  }
  return true;
}

/** struct kernel_symbol: distances to the value, the name and, since 5.4, the namespace. */
const SYMBOL_SIZES = [12, 8];
/** The template of the thunk that counts calls: `sarq $5, %gs:x(%rip)`, up to the distance. */
const TEMPLATE = [0x65, 0x48, 0xc1, 0x3d] as const;

/** Distances in data to per-cpu data at 0: of exported symbols, and of the call thunk's template. */
export function judgePerCpu({ image, judgement }: DataContext): void {
  if (image.perCpu === 0) return;
  const strings = image.stretches.find(({ name }) => name === '__ksymtab_strings');
  for (const stretch of image.stretches) {
    if (strings !== undefined && (stretch.name === '__ksymtab' || stretch.name === '__ksymtab_gpl'))
      judgeExported(image, judgement, stretch, strings);
    if (stretch.content === 'data' && !stretch.writable) judgeTemplates(image, judgement, stretch);
    // Since 5.x .rodata is marked writable in some builds.
    else if (stretch.name === '.rodata') judgeTemplates(image, judgement, stretch);
  }
}

function judgeExported(
  { perCpu }: JudgedImage,
  judgement: Judgement,
  { start, bytes, view }: Stretch,
  strings: Stretch,
): void {
  const size = SYMBOL_SIZES.find((each) => {
    if (bytes.length % each !== 0) return false;
    for (let at = 0; at < bytes.length; at += each) {
      const name = start + at + 4 + view.getInt32(at + 4, true);
      if (name < strings.start || name >= strings.end) return false;
    }
    return true;
  });
  if (size === undefined) return;
  for (let at = 0; at < bytes.length; at += size)
    if (virtualLow(start + at + view.getInt32(at, true)) < perCpu)
      judgement.site('inverse32', start + at, 'the distance to an exported per-cpu symbol');
}

function judgeTemplates({ perCpu }: JudgedImage, judgement: Judgement, { start, bytes, view }: Stretch): void {
  for (
    let at = bytes.indexOf(TEMPLATE[0]);
    at >= 0 && at + 9 <= bytes.length;
    at = bytes.indexOf(TEMPLATE[0], at + 1)
  ) {
    if (TEMPLATE.some((byte, index) => bytes[at + index] !== byte)) continue;
    if (virtualLow(start + at + 9 + view.getInt32(at + 4, true)) < perCpu)
      judgement.site('inverse32', start + at + 4, "the distance in the call thunk's template");
  }
}

/** The low half of a virtual address, from the physical one. */
function virtualLow(place: PhysAddr): number {
  return ((place + 0x8000_0000) | 0) >>> 0;
}

/** So many rising addresses of code make a sorted table of it. */
const SORTED = 64;

/**
 * Zeros at the start of a sorted table of code addresses: since 6.12 weak functions leave them in that of ftrace, and the kernel's own table has them, though none needs a slide. So a
 * table may have them; all of them from the first that it has.
 */
export function judgeZeroWords({ image, judgement }: DataContext): void {
  const sorted = new Set<PhysAddr>();
  // From the last to the first: each leads to the next.
  for (const place of [...judgement.unmet('abs64')].toReversed()) {
    const stretch = stretchAt(image, place, WORD);
    if (stretch?.content !== 'data' || place % WORD !== 0 || !isZeroWord(stretch, place)) continue;
    let next = place + WORD;
    while (!sorted.has(next) && next + WORD <= stretch.end && isZeroWord(stretch, next)) next += WORD;
    if (!sorted.has(next) && !beginsSorted(image, stretch, next - stretch.start)) continue;
    sorted.add(place);
    judgement.open('zero-word', 'abs64', place);
    for (let between = place + WORD; between < next; between += WORD)
      judgement.site('abs64', between, 'a zero in a sorted table of code addresses, as the one before it');
  }
}

function isZeroWord({ view, start }: Stretch, place: PhysAddr): boolean {
  return view.getUint32(place - start, true) === 0 && view.getUint32(place - start + 4, true) === 0;
}

function beginsSorted(image: JudgedImage, { view, bytes }: Stretch, first: number): boolean {
  let last = 0;
  for (let index = 0; index < SORTED; index++) {
    const at = first + index * WORD;
    if (at + WORD > bytes.length || view.getInt32(at + 4, true) !== -1) return false;
    const target = view.getInt32(at, true) + 0x8000_0000;
    if (target <= last || stretchAt(image, target)?.content !== 'code') return false;
    last = target;
  }
  return true;
}
