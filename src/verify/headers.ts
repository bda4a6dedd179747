/** The checks of what a loader goes by: `elf-header`, `program-headers`, and `placement`, where the added segment lies in memory. */
import { physToVirt, PAGE_SIZE, PMD_SIZE } from '../base/addresses.ts';
import type { FileOffset, PhysAddr } from '../base/addresses.ts';
import { alignUp } from '../base/bytes.ts';
import { EHDR, PHDR, PHDR_SIZE, SHDR_SIZE, readFields } from '../elf/fields.ts';
import { PARAMETERS } from '../segment/layout.ts';
import { PF_R, PF_W, PF_X, PT_LOAD, SHN_LORESERVE, SHT_NOBITS, SHT_NULL } from '../elf/constants.ts';
import type { ElfFile } from '../elf/read.ts';
import { hex } from '../base/errors.ts';
import { refute } from './evidence.ts';
import type { Evidence } from './evidence.ts';
import type { Original } from './original.ts';
import { convertedSectionCount, convertedSectionNames, NEW_NAME_TABLE, placeSections } from './sections.ts';
import { describeSegment } from './segment.ts';
import type { ExpectedSegment } from './segment.ts';

/** The added segment, as far as `checkProgramHeaders` knows it: everything but its addresses. */
export interface AddedHeader {
  /** The program headers. The added segment's is the last one, number `index`. */
  readonly phoff: FileOffset;
  readonly index: number;
  readonly offset: FileOffset;
  readonly filesz: number;
}

const nameOf = (index: number): string => `program header ${index}`;
const headerAt = (phoff: FileOffset, index: number): FileOffset => phoff + index * PHDR_SIZE[64];

/**
 * Every field is the original's, except the place of the program headers and the number of headers of both kinds. `checkSectionHeaders` checks
 * e_shoff, because only there is it known where the section headers must be. Returns e_phoff.
 */
export function checkElfHeader(file: Evidence, { kernel: { elf } }: Original): FileOffset {
  const { header } = elf;
  const { e_shoff: _, ...old } = readFields(elf.bytes, 0, EHDR[64]);
  const phoff = hasRoom(elf) ? header.phoff : offsetAfterSections(file, elf);
  const count = convertedSectionCount(elf);
  file.expectFields('ELF header', 0, EHDR[64], {
    ...old,
    e_phoff: phoff,
    e_phnum: header.phnum + 1,
    // If the number does not fit into the field, it is in section header 0.
    e_shnum: count < SHN_LORESERVE ? count : 0,
    ...(header.shnum === 0 && { e_shentsize: SHDR_SIZE[64], e_shstrndx: NEW_NAME_TABLE }),
  });
  return phoff;
}

/** Whether one more program header fits where the table is: zeros follow it, and no other structure of the file claims them. */
function hasRoom({ header, segments, sections, bytes }: ElfFile): boolean {
  const start = header.phoff + header.phnum * PHDR_SIZE[64];
  const end = start + PHDR_SIZE[64];
  const claimed = [
    { offset: header.shoff, size: header.shnum * SHDR_SIZE[64] },
    ...segments.map(({ offset, filesz }) => ({ offset, size: filesz })),
    ...sections.filter(({ type }) => type !== SHT_NOBITS && type !== SHT_NULL),
  ];
  if (claimed.some(({ offset, size }) => size > 0 && offset < end && offset + size > start)) return false;
  return end <= bytes.length && bytes.subarray(start, end).every((byte) => byte === 0);
}

/** Where program headers are that had to move: after the section headers. */
function offsetAfterSections(file: Evidence, elf: ElfFile): FileOffset {
  const shoff = Number(file.read('ELF header', 0, EHDR[64], 'e_shoff'));
  return alignUp(shoff + convertedSectionCount(elf) * SHDR_SIZE[64], 8);
}

/**
 * The old headers are unchanged. One is added: a PT_LOAD for the added segment, which starts at the first page boundary after the original's bytes,
 * or ends the file (`lastInFile`). `checkPlacement` checks its addresses.
 */
export function checkProgramHeaders(
  file: Evidence,
  original: Original,
  phoff: FileOffset,
  program: Uint8Array,
): AddedHeader {
  const { elf } = original.kernel;
  for (const { index } of elf.segments) {
    const old = readFields(elf.bytes, headerAt(elf.header.phoff, index), PHDR[64]);
    file.expectFields(nameOf(index), headerAt(phoff, index), PHDR[64], old);
  }
  const index = elf.header.phnum;
  const last = original.form.atEnd ? lastInFile(original, phoff, program) : undefined;
  const offset = last?.offset ?? alignUp(elf.bytes.length, PAGE_SIZE);
  file.expectFields(nameOf(index), headerAt(phoff, index), PHDR[64], {
    p_type: PT_LOAD,
    p_flags: PF_R | PF_W | PF_X,
    p_offset: offset,
    p_align: PMD_SIZE,
  });
  if (last !== undefined) {
    file.expectFields(nameOf(index), headerAt(phoff, index), PHDR[64], { p_filesz: last.filesz });
    return { phoff, index, ...last };
  }
  const filesz = checkFileSize(file, elf, { phoff, index, offset });
  return { phoff, index, offset, filesz };
}

/**
 * A segment that ends the file follows the new headers. It starts on the first page for which two things hold: the decompressor moves the segment to
 * its address without overwriting its table, and all of the segment's memory there lies within the unpacked bytes. The table is in the kernel's
 * format, so its size is known.
 */
function lastInFile(
  original: Original,
  phoff: FileOffset,
  program: Uint8Array,
): Pick<AddedHeader, 'offset' | 'filesz'> {
  const { kernel, table } = original;
  const { elf, imageStart, imageEnd } = kernel;
  const words = table.abs64.length + table.inverse32.length + table.abs32.length + table.lists;
  const tableAt = describeSegment({ offset: 0, filesz: 0 }, 0, program).table;
  const filesz = tableAt + words * 4;
  const { memsz } = describeSegment({ offset: 0, filesz }, 0, program);
  const { offset: sectionsOffset, end } = placeSections(elf, elf.bytes.length);
  const headersEnd = phoff > sectionsOffset ? phoff + (elf.header.phnum + 1) * PHDR_SIZE[64] : end;
  for (let offset = alignUp(headersEnd, PAGE_SIZE); ; offset += PAGE_SIZE) {
    const target = congruentAfter(imageEnd, offset) - imageStart;
    if (target + filesz <= offset + tableAt && target + memsz <= offset + filesz) return { offset, filesz };
  }
}

/** The first page after the image that is congruent to the file offset modulo p_align. */
function congruentAfter(imageEnd: PhysAddr, offset: FileOffset): PhysAddr {
  const paddr = alignUp(imageEnd, PAGE_SIZE);
  return paddr + ((((offset - paddr) % PMD_SIZE) + PMD_SIZE) % PMD_SIZE);
}

/**
 * The table's length depends on its format, so only the converted file itself says where the segment ends. It says so in three places: p_filesz, the
 * parameters' table_end, and the section names, which follow the segment. If p_filesz contradicts the other two, it is refuted here. The other two
 * are refuted by the checks that they belong to.
 */
function checkFileSize(file: Evidence, elf: ElfFile, { phoff, index, offset }: Omit<AddedHeader, 'filesz'>): number {
  const header = headerAt(phoff, index);
  const found = file.read(nameOf(index), header, PHDR[64], 'p_filesz');
  const tableEnd = file.read('parameters', offset, PARAMETERS, 'table_end');
  const names = convertedSectionNames(elf);
  const namesFollow = (size: bigint): boolean => file.holds(offset + Number(size), names);
  const [at, width] = PHDR[64].p_filesz;
  const outvoted = found !== tableEnd && !namesFollow(found) && namesFollow(tableEnd);
  if (outvoted || offset + Number(found) > file.bytes.length)
    refute(`${nameOf(index)}: p_filesz`, header + at, { found, expected: tableEnd });
  file.accept(header + at, header + at + width);
  return Number(found);
}

/**
 * No two segments share physical memory or virtual addresses. The added one lies outside the image, at the first address after it that is congruent
 * to its file offset modulo p_align, and is linked where the kernel maps its image.
 */
export function checkPlacement(
  file: Evidence,
  { kernel, limit }: Original,
  added: AddedHeader,
  program: Uint8Array,
): ExpectedSegment {
  const { imageStart, imageEnd } = kernel;
  const { phoff, index, offset } = added;
  const header = headerAt(phoff, index);
  checkOverlap(file, added, 'p_paddr');
  checkOverlap(file, added, 'p_vaddr');
  // There may be gaps between two segments of the image, but they belong to the kernel.
  const { p_paddr, p_memsz } = readFields(file.bytes, header, PHDR[64]);
  if (p_paddr < imageEnd && p_paddr + p_memsz > imageStart) {
    const expected = `memory outside ${hex(imageStart)} to ${hex(imageEnd)} (_text to _end)`;
    refute(`${nameOf(index)}: p_paddr`, header + PHDR[64].p_paddr[0], { found: p_paddr, expected });
  }
  const paddr = congruentAfter(imageEnd, offset);
  const segment = describeSegment(added, paddr, program);
  const { memsz } = segment;
  file.expectFields(nameOf(index), header, PHDR[64], { p_paddr: paddr, p_vaddr: physToVirt(paddr), p_memsz: memsz });
  // The page tables that PVH starts on map no more than this.
  if (paddr + memsz > limit) {
    const expected = `an end at ${hex(limit)} (KERNEL_IMAGE_SIZE) or before`;
    refute(`${nameOf(index)}: p_memsz`, header + PHDR[64].p_memsz[0], { found: memsz, expected });
  }
  return segment;
}

/** Compares all PT_LOADs. Per-cpu data is linked at virtual 0 but loaded with the rest, so `p_paddr` and `p_vaddr` must both be checked. */
function checkOverlap(file: Evidence, { phoff, index: last }: AddedHeader, field: 'p_paddr' | 'p_vaddr'): void {
  const spans: { index: number; start: bigint; end: bigint }[] = [];
  for (let index = 0; index <= last; index++) {
    const { p_type, p_memsz, [field]: start } = readFields(file.bytes, headerAt(phoff, index), PHDR[64]);
    if (p_type === BigInt(PT_LOAD) && p_memsz > 0n) spans.push({ index, start, end: start + p_memsz });
  }
  spans.sort((a, b) => (a.start < b.start ? -1 : 1));
  for (const [place, span] of spans.entries()) {
    const before = spans[place - 1];
    if (before === undefined || span.start >= before.end) continue;
    // Blames the later header: the added one is the last. If neither is the added one, the original overlaps by itself.
    const [kept, blamed] = span.index > before.index ? [before, span] : [span, before];
    refute(`${nameOf(blamed.index)}: ${field}`, headerAt(phoff, blamed.index) + PHDR[64][field][0], {
      found: blamed.start,
      expected: `none of ${hex(kept.start)} to ${hex(kept.end)}, ${nameOf(kept.index)}'s`,
    });
  }
}
