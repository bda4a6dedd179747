/**
 * A kernel's image as recovery sees it: which bytes are code, which are data that may hold addresses, and which have a format without any.
 *
 * The section headers say it. They survive the kernel build's own strip and `strip`, and every vmlinux in a bzImage has them.
 */
import { physToVirt } from '../base/addresses.ts';
import type { PhysAddr } from '../base/addresses.ts';
import { viewOf } from '../base/bytes.ts';
import { lastAtOrBelow } from '../base/search.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { short } from '../base/text.ts';
import { SHT_NOBITS } from '../elf/constants.ts';
import { sectionName } from '../elf/read.ts';
import type { ElfFile, Section, Segment } from '../elf/read.ts';
import { perCpuSegment } from '../relocs/plausible.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { PlaceSet } from './place-set.ts';

const SHF_WRITE = 1n;
const SHF_ALLOC = 2n;
const SHF_EXECINSTR = 4n;

/** A section, or a part of one. */
export interface Part {
  readonly name: string;
  readonly start: PhysAddr;
  readonly end: PhysAddr;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly writable: boolean;
}

export interface RecoverImage {
  readonly kernel: Vmlinux;
  /** _text and _end. */
  readonly start: PhysAddr;
  readonly end: PhysAddr;
  /** Bytes of per-cpu data that is linked at virtual 0; 0 for kernels since 6.15 and those without SMP. */
  readonly perCpu: number;
  /** All of them, by rising place. */
  readonly parts: readonly Part[];
  /** Where each of them starts. */
  readonly starts: readonly PhysAddr[];
  readonly code: readonly Part[];
  readonly data: readonly Part[];
  /** Parts with a format of their own, by name. */
  readonly formatted: ReadonlyMap<string, Part>;
  /** Where instructions begin. */
  readonly instructions: PlaceSet;
  /** What instructions name by a RIP-relative operand. */
  readonly named: PlaceSet;
}

/**
 * Sections whose fields are distances, hashes or text, so no field of them holds an address. All but .notes hold none at all; those of .notes are left out, because every user of
 * the guest can read them (relocs/note-sites.ts).
 */
const FORMATTED =
  /^(?:__ksymtab(?:_gpl|_strings)?|__kcrctab(?:_gpl)?|\.pci_fixup|__ex_table|__bug_table|\.notes.*|\.BTF.*|\.orc_\w+|\.(?:retpoline|return|call|mcount|cfi)_sites|\.ibt_endbr_seal|\.altinstructions|\.smp_locks|\.parainstructions_\w+|runtime_\w+|\.builtin_fw.*|__init_rodata_\w+)$/;
/** Code that the linker script, or a tool after it, put into a section that is writable too. */
const CODE_NAME = /^\.(?:\w+\.)*text|^\.altinstr_(?:replacement|aux)$/;

/** Places that are marked for each byte of the file, a bit each. Kernels have up to two bytes of image for one in the file. */
const MARKED_A_BYTE = 16;

/** Throws KernelImageError for a file without section headers. */
export function readRecoverImage(kernel: Vmlinux): RecoverImage {
  const { elf, imageStart: start, imageEnd: end } = kernel;
  const sections = elf.sections.filter(
    ({ flags, type, size }) => (flags & SHF_ALLOC) !== 0n && type !== SHT_NOBITS && size > 0,
  );
  if (sections.length === 0) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'recovering relocations: section headers',
      found: 'none',
      expected: 'sections that say which bytes are code',
      hint: 'take the vmlinux as the kernel build or strip leaves it, or the bzImage of the same build',
    });
  }
  const code: Part[] = [];
  const data: Part[] = [];
  const formatted = new Map<string, Part>();
  const loads = kernel.loads.toSorted((a, b) => a.offset - b.offset);
  const offsets = loads.map(({ offset }) => offset);
  for (const section of sections) {
    const part = partOf(elf, loads[lastAtOrBelow(offsets, section.offset)], section);
    if (part === undefined) continue;
    if (isCode(section, part.name)) code.push(part);
    else if (FORMATTED.test(part.name) && !formatted.has(part.name) && !holdsPointers(part, start, end))
      formatted.set(part.name, part);
    else data.push(part);
  }
  const byPlace = (a: Part, b: Part): number => a.start - b.start;
  const parts = [...code, ...data, ...formatted.values()].toSorted(byPlace);
  expectApart(parts);
  // A file of a few bytes may say that its image has a gigabyte.
  const marked = Math.min(end, start + MARKED_A_BYTE * elf.bytes.length);
  return {
    kernel,
    start,
    end,
    perCpu: perCpuSegment(kernel)?.memsz ?? 0,
    parts,
    starts: parts.map(({ start: first }) => first),
    code: code.toSorted(byPlace),
    data: data.toSorted(byPlace),
    formatted,
    instructions: new PlaceSet(start, marked),
    named: new PlaceSet(start, marked),
  };
}

/** Throws KernelImageError for sections that overlap: then there is no end to what would have to be read. */
function expectApart(parts: readonly Part[]): void {
  for (let index = 1; index < parts.length; index++) {
    const [before, part] = [parts[index - 1]!, parts[index]!];
    if (part.start >= before.end) continue;
    throw new KernelImageError({
      code: 'bad-value',
      what: `section ${short(part.name)}: sh_addr`,
      found: physToVirt(part.start),
      expected: `${hex(physToVirt(before.end))} or more, where ${short(before.name)} ends`,
    });
  }
}

function isCode({ flags }: Section, name: string): boolean {
  if ((flags & SHF_EXECINSTR) === 0n) return false;
  // Since 7.0 .data is marked executable in vmlinux.
  return (flags & SHF_WRITE) === 0n || CODE_NAME.test(name);
}

/**
 * Before 4.19 exported symbols and PCI fixups held addresses instead of distances: then half of the words or more are link addresses. With distances, one in some hundred looks like one.
 */
function holdsPointers({ name, view, bytes, start: base }: Part, start: PhysAddr, end: PhysAddr): boolean {
  if (name.startsWith('.notes')) return false;
  let count = 0;
  for (let at = (8 - (base % 8)) % 8; at + 8 <= bytes.length; at += 8) {
    if (view.getInt32(at + 4, true) !== -1) continue;
    const target = view.getUint32(at, true) - 0x8000_0000;
    if (target >= start && target <= end) count++;
  }
  return count * 32 > bytes.length;
}

/** `load`: the segment that may load it. Undefined if it does not. */
function partOf(elf: ElfFile, load: Segment | undefined, section: Section): Part | undefined {
  const { offset, size, flags } = section;
  if (load === undefined || offset + size > load.offset + load.filesz) return undefined;
  const start = load.paddr + offset - load.offset;
  const bytes = elf.bytes.subarray(offset, offset + size);
  return {
    name: sectionName(elf, section),
    start,
    end: start + size,
    bytes,
    view: viewOf(bytes),
    writable: (flags & SHF_WRITE) !== 0n,
  };
}

/** The part that holds `length` bytes at a place; undefined if none does. */
export function partAt({ parts, starts }: RecoverImage, place: PhysAddr, length = 1): Part | undefined {
  const part = parts[lastAtOrBelow(starts, place)];
  return part !== undefined && place + length <= part.end ? part : undefined;
}
