/**
 * Opens a kernel. This is the only way from a file of any kind to a kernel that is read and checked. So every command makes the same checks, in this
 * order, and the ELF headers are read once:
 *
 *   1. the container: UKI, bzImage, payload                                             input.ts
 *   2. what tells an x86-64 kernel from another ELF file: class, byte order, machine, type   input.ts
 *   3. ELF header, program headers and section headers inside the file                 elf/read.ts
 *      a kernel, not only its debug information                                        here
 *   4. whether kslide has rewritten the kernel before                                  here
 *   5. segments, entry, PVH note                                                       vmlinux.ts
 *   6. for a kernel that is to be rewritten: no file bytes loaded twice, room for       here
 *      another program header, 8 whole bytes at the entry that no note shares, notes
 *      that lead loaders to no byte that differs afterwards
 *
 * The relocations, and each of their sites, are checked next, by relocs/find.ts.
 */
import type { Watch } from '../codecs/formats.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { short } from '../base/text.ts';
import { EHDR, EHDR_SIZE, PHDR_SIZE } from '../elf/fields.ts';
import { PT_NOTE, SHF_EXECINSTR, SHT_NOBITS, SHT_NOTE, XEN_ELFNOTE_PHYS32_ENTRY } from '../elf/constants.ts';
import { expectCountableHeader, findLoaderReads, findSectionNames, readElf, sectionName } from '../elf/read.ts';
import type { ElfFile } from '../elf/read.ts';
import { ENTRY_BYTES } from '../segment/layout.ts';
import { findSegment, kindOfKernel, readSlides } from '../segment/read.ts';
import { readInput } from './input.ts';
import type { InputOptions, KernelInput } from './input.ts';
import { fileOffsetOf, readVmlinuxFrom } from './vmlinux.ts';
import type { Vmlinux } from './vmlinux.ts';

/**
 * What the kernel is opened for. This decides which checks are made:
 *
 * - `rewrite`: a program will be added that runs before the kernel, so the kernel must be as its build made it;
 * - `prove`: it is the original of a rewritten kernel. The same checks, except that bytes may be in memory twice: the proof finds that itself;
 * - `describe`: it may be self-relocating already;
 * - `extract`: it may be anything that can be read.
 */
export type Purpose = 'rewrite' | 'prove' | 'describe' | 'extract';

export interface OpenOptions extends InputOptions {
  readonly watch?: Watch | undefined;
  /** What the user should do instead, if the kernel is self-relocating already and must not be. */
  readonly hint?: string | undefined;
}

export interface OpenedKernel {
  readonly input: KernelInput;
  readonly kernel: Vmlinux;
}

/** Throws KernelImageError, in the order above. */
export async function openKernel(file: Uint8Array, purpose: Purpose, options: OpenOptions): Promise<OpenedKernel> {
  return checkKernel(await readInput(file, options), purpose, options.hint);
}

/** Steps 3 to 6, for a kernel that was taken out of its container. */
export function checkKernel(input: KernelInput, purpose: Purpose, hint?: string): OpenedKernel {
  const elf = readElf(input.vmlinux);
  refuseDebugFile(elf);
  const unchanged = purpose === 'rewrite' || purpose === 'prove';
  if (unchanged) refuseConverted(elf, hint);
  if (purpose === 'describe') refuseMoved(elf);
  const kernel = readVmlinuxFrom(elf);
  if (purpose === 'rewrite') expectBytesOfTheirOwn(kernel);
  if (unchanged) {
    expectCountableHeader(elf);
    findSectionNames(elf);
    expectWholeEntry(kernel);
    expectEntryOutsideNotes(kernel);
    expectNotesKept(kernel);
  }
  return { input, kernel };
}

/** What `objcopy --only-keep-debug` and `eu-strip -f` write: the headers of the kernel, but neither its code nor its data. */
function refuseDebugFile(elf: ElfFile): void {
  const code = elf.sections.filter(({ flags, size }) => (flags & SHF_EXECINSTR) !== 0n && size > 0);
  const [first] = code;
  if (first === undefined || code.some(({ type }) => type !== SHT_NOBITS)) return;
  throw new KernelImageError({
    code: 'not-a-kernel',
    what: 'vmlinux',
    found: `debug information only: section ${first.index} (${short(sectionName(elf, first))}) holds no bytes (SHT_NOBITS)`,
    hint: 'give the vmlinux that it was split from, or the bzImage of the same build',
  });
}

/**
 * Comes before the segments are read: a kernel that was moved physically is no longer linked where it is loaded, and would be refused for that
 * instead.
 */
function refuseConverted(elf: ElfFile, hint = 'convert the kernel that it was made from'): void {
  if (kindOfKernel(elf) === 'plain') return;
  throw new KernelImageError({ code: 'already-converted', what: 'vmlinux', hint });
}

/** Refuses a kernel that `randomize` has moved, and names its slides. */
export function refuseMoved(elf: ElfFile): void {
  const segment = findSegment(elf);
  if (segment === undefined || kindOfKernel(elf) !== 'moved') return;
  const { virt, phys } = readSlides(elf, segment);
  throw new KernelImageError({
    code: 'unsupported',
    what: 'vmlinux',
    found: `moved by the host (kslide randomize), virtual slide ${hex(virt)}, physical slide ${hex(phys)}`,
    hint: 'take the kernel that it was made from',
  });
}

/** The bytes of the headers in a converted file, which has one program header more. */
function rewrittenHeaders({ header: { phoff, phnum } }: ElfFile): { what: string; start: number; end: number }[] {
  return [
    { what: 'the ELF header', start: 0, end: EHDR_SIZE[64] },
    { what: 'the program headers', start: phoff, end: phoff + (phnum + 1) * PHDR_SIZE[64] },
  ];
}

/** Of the bytes that are rewritten, the headers must not be loaded at all, and the hook only once. Then the image in memory is the original's. */
function expectBytesOfTheirOwn({ elf, loads }: Vmlinux): void {
  const { phoff } = elf.header;
  if (phoff < EHDR_SIZE[64]) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'e_phoff',
      offset: EHDR[64].e_phoff[0],
      found: phoff,
      expected: `${hex(EHDR_SIZE[64])} or above: program headers of their own, not the ELF header's bytes`,
    });
  }
  const taken = [
    ...rewrittenHeaders(elf),
    ...loads.map(({ index, offset, filesz }) => ({
      what: `program header ${index}`,
      start: offset,
      end: offset + filesz,
    })),
  ]
    .map(({ what, start, end }, rank) => ({ what, start, end, rank }))
    .filter(({ start, end }) => end > start)
    .toSorted((a, b) => a.start - b.start || a.rank - b.rank);
  // Neighbours are enough: if any two overlap, so do two neighbours. Comparing all pairs would take seconds for a file of 65,000 headers.
  for (const [place, next] of taken.entries()) {
    const before = taken[place - 1];
    if (before === undefined || before.end <= next.start) continue;
    const [other, blamed] = before.rank < next.rank ? [before, next] : [next, before];
    throw new KernelImageError({
      code: 'unsupported',
      what: `${blamed.what}: p_offset`,
      found: blamed.start,
      expected: `file bytes of its own: those of ${other.what} are loaded with it`,
    });
  }
}

/** The program restores ENTRY_BYTES bytes at the entry, so all of them must be in the file. */
function expectWholeEntry({ loads, entry, entryOffset }: Vmlinux): void {
  const last = ENTRY_BYTES - 1;
  if (fileOffsetOf(loads, entry + last) === entryOffset + last) return;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'e_entry',
    offset: EHDR[64].e_entry[0],
    found: entry,
    expected: `at least ${ENTRY_BYTES} bytes before its segment's end`,
  });
}

/**
 * The first of these bytes are another jump in the converted file. In memory the program puts them back, but a loader reads notes from the file: where the
 * two overlap, it would find another PVH entry, or none.
 */
function expectEntryOutsideNotes({ elf, entry, entryOffset }: Vmlinux): void {
  const hits = ({ offset, size }: { readonly offset: number; readonly size: number }): boolean =>
    offset < entryOffset + ENTRY_BYTES && offset + size > entryOffset;
  const note =
    elf.segments.some(({ type, offset, filesz }) => type === PT_NOTE && hits({ offset, size: filesz })) ||
    elf.sections.some((section) => section.type === SHT_NOTE && hits(section));
  if (!note) return;
  throw new KernelImageError({
    code: 'unsupported',
    what: 'e_entry',
    offset: EHDR[64].e_entry[0],
    found: entry,
    expected:
      'an entry outside the notes: loaders read these from the file, where the first bytes of the entry become a jump',
  });
}

/**
 * Boot loaders look for the PVH note in the file, and not only in PT_NOTEs: a descriptor may lie after its segment, and QEMU looks on there for more notes. So
 * they must not read anything that is another byte in the converted file: the headers, the hook, and what follows the ELF file. Otherwise they
 * would enter the converted kernel elsewhere. Callers that have only parts of the file in memory must have those that `findLoaderReads` names.
 */
function expectNotesKept({ elf, entryOffset }: Vmlinux): void {
  const changed = [
    ...rewrittenHeaders(elf),
    { what: 'the bytes at the entry', start: entryOffset, end: entryOffset + ENTRY_BYTES },
    { what: 'what follows the ELF file', start: elf.bytes.length, end: Infinity },
  ];
  for (const { segment, offset, size } of findLoaderReads(elf, XEN_ELFNOTE_PHYS32_ENTRY)) {
    const hit = changed.find(({ start, end }) => offset < end && offset + size > start);
    if (hit === undefined) continue;
    throw new KernelImageError({
      code: 'unsupported',
      what: `program header ${segment.index} (PT_NOTE)`,
      offset,
      found: `notes for which loaders read ${hit.what}`,
      expected: 'notes that lead to none of the bytes that differ in a converted kernel',
    });
  }
}
