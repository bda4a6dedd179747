/**
 * Moves a vmlinux from file to file, piece by piece: each piece is read into the same small buffer, moved, and written.
 *
 * Reading a kernel of 57 MB into memory of its own costs 14,000 page faults, which take longer than everything else (measured: 45 ms of CPU time to read
 * it so, 10 ms to read it through a small buffer). So the pipeline gets an array as long as the file, of which only the parts that it looks at are filled:
 * headers, section names, notes, the entry's code, and the relocation table after the ELF file. Pages of the array that are never touched take no memory.
 *
 * What was read for the plan is read again to be moved, and the system's copy reads it a third time. So the file must be unchanged after the last of the
 * pieces (steady.ts); by then the copy is done.
 *
 * Two thirds of a kernel hold no sites. Where the system can copy the file itself, on another thread while the table is being checked, only the pieces that
 * change are read here, and written over the copy.
 */
import fs from 'node:fs';
import { Reader } from '../../base/bytes.ts';
import { ELFCLASS64, PT_LOAD, PT_NOTE, SHT_RELA, XEN_ELFNOTE_PHYS32_ENTRY } from '../../elf/constants.ts';
import { EHDR, EHDR_SIZE, PHDR_SIZE, readNumber, SHDR_SIZE } from '../../elf/fields.ts';
import { endOfElf, findLoaderNotes, findLoaderReads, findSection, isElf, readElf } from '../../elf/read.ts';
import { KernelImageError } from '../../base/errors.ts';
import { openRandomizer, SITE_SIZE } from '../../randomize.ts';
import type { MovePlan, RandomizeOptions, RandomizerOptions, RandomizeSummary } from '../../randomize.ts';
import { fileOffsetOf, readVmlinux } from '../../kernel/vmlinux.ts';
import { RESERVED_NAMES } from '../../relocs/reserved-section.ts';
import { openRegularFile } from './byte-source.ts';
import { InPlace } from './output-file.ts';
import { readFully } from './read-fully.ts';
import type { OpenFile } from './read-fully.ts';

/** The moved file, in pieces. Each piece may be read until two more have been requested. Can be iterated several times, until it is closed. */
export interface MovedFile extends Iterable<Uint8Array> {
  readonly summary: RandomizeSummary;
  /** The original's size in bytes. */
  readonly size: number;
  /** The same for callers that have a copy of the original: `InPlace` stands for pieces that do not change. */
  overCopy(): Iterable<Uint8Array | InPlace>;
  close(): void;
}

export interface MovedFileOptions {
  /** Bytes that are moved at a time: SITE_SIZE or more. */
  readonly chunk?: number | undefined;
  /** Called once the file can probably be moved in pieces, with a path that is valid while the file is open. */
  readonly onOpen?: ((path: string) => void) | undefined;
}

const HEAD = 0x1_0000;
const CHUNK = 0x4_0000;
const MAX_SIZE = 2 ** 31;
/** How many bytes the pipeline reads of the code at an entry (kernel/pvh.ts), and of a segment's start (segment/hook.ts). */
const ENTRY_CODE = 0x400;
const SEGMENT_START = 0x80;
/** Loaders that do not find their note read the header of one that would follow, and go on from there. */
const AFTER_NOTES = 0x1000;
/** Kernels have some 30. Each is looked for among all ranges that were loaded. */
const READS_AT_MOST = 200;

/**
 * Undefined when the file has to be read whole: it is not a vmlinux with its table after it or in `relocs`, it is not a regular file, or it is invalid. In
 * the last case reading it whole reports what is wrong. Throws KernelImageError for choices that would not boot.
 */
export async function openMovedFile(
  path: string,
  options: RandomizerOptions & RandomizeOptions,
  { chunk = CHUNK, onOpen }: MovedFileOptions = {},
): Promise<MovedFile | undefined> {
  const file = openRegularFile(path);
  if (file === undefined) return undefined;
  const close = (): void => fs.closeSync(file.fd);
  try {
    const fits = file.size >= EHDR_SIZE[64] && file.size <= MAX_SIZE;
    const skeleton = fits ? readSkeleton(file, options.relocs !== undefined) : undefined;
    if (skeleton === undefined) {
      close();
      return undefined;
    }
    onOpen?.(`/proc/self/fd/${file.fd}`);
    const plan = (await openRandomizer(skeleton, { ...options, inPlace: true, read: readerOf(file) })).plan(options);
    return {
      [Symbol.iterator]: () => pieces(file, plan, chunk),
      overCopy: () => changedPieces(file, plan, chunk),
      summary: plan.summary,
      size: file.size,
      close,
    };
  } catch (error) {
    try {
      file.state.expectUnchanged(); // rather than what is wrong with a mixture of two files
    } finally {
      close();
    }
    throw error;
  }
}

/** An array as long as the file, filled where the pipeline looks. Undefined when the file has to be read whole. */
function readSkeleton(file: OpenFile, hasTable: boolean): Uint8Array | undefined {
  const bytes = new Uint8Array(file.size);
  const load = (offset: number, length: number): void => {
    const from = Math.min(Math.max(0, offset), file.size);
    const to = Math.max(from, Math.min(offset + length, file.size));
    readFully(file, bytes.subarray(from, to), from);
    loaded.push([from, to]);
  };
  const loaded: [from: number, to: number][] = [];
  const isLoaded = (offset: number, length: number): boolean => {
    const [first, last] = [Math.min(offset, file.size), Math.min(offset + length, file.size)];
    return first === last || loaded.some(([from, to]) => from <= first && last <= to);
  };
  try {
    load(0, HEAD);
    const reader = new Reader(bytes);
    const field = (name: keyof (typeof EHDR)[64]): number => readNumber(reader, 0, EHDR[64][name], name);
    if (!isElf(bytes) || field('EI_CLASS') !== ELFCLASS64) return undefined;
    const shnum = field('e_shnum');
    load(field('e_phoff'), (field('e_phnum') + 1) * PHDR_SIZE[64]);
    load(field('e_shoff'), Math.max(1, shnum) * SHDR_SIZE[64]);
    if (shnum === 0) return undefined; // counted elsewhere, or none: rare
    const elf = readElf(bytes);
    const end = endOfElf(elf);
    if (end >= file.size && !hasTable) return undefined;
    load(end, file.size - end);
    const names = elf.sections[elf.header.shstrndx];
    if (names !== undefined) load(names.offset, names.size);
    // Relocations that are inside the ELF file are not in the skeleton.
    if (elf.sections.some(({ type }) => type === SHT_RELA)) return undefined;
    if (RESERVED_NAMES.some((name) => findSection(elf, name) !== undefined)) return undefined;
    for (const { type, offset, filesz } of elf.segments) {
      if (type === PT_NOTE) load(offset - SITE_SIZE, filesz + SITE_SIZE + AFTER_NOTES);
      if (type === PT_LOAD) load(offset, Math.min(filesz, SEGMENT_START));
    }
    // A note that its segment cuts off has its descriptor anywhere after it.
    for (const { descOffset } of findLoaderNotes(elf, XEN_ELFNOTE_PHYS32_ENTRY))
      load(descOffset - SITE_SIZE, 3 * SITE_SIZE);
    // Loaders may read on after the notes, as far as the file's own numbers lead them. What is not loaded here would look like zeros to `expectNotesKept`.
    const reads = findLoaderReads(elf, XEN_ELFNOTE_PHYS32_ENTRY);
    if (reads.length > READS_AT_MOST || !reads.every(({ offset, size }) => isLoaded(offset, size))) return undefined;
    const { entryOffset, pvhEntry, loads } = readVmlinux(bytes);
    load(entryOffset - SITE_SIZE, ENTRY_CODE);
    if (pvhEntry !== undefined) load(fileOffsetOf(loads, pvhEntry)!, ENTRY_CODE);
    return bytes;
  } catch (error) {
    if (error instanceof KernelImageError) return undefined;
    throw error;
  }
}

function* pieces(file: OpenFile, plan: MovePlan, chunk: number): Generator<Uint8Array, void, undefined> {
  const all = { ...plan, changes: () => true };
  for (const piece of changedPieces(file, all, chunk)) if (piece instanceof Uint8Array) yield piece;
}

/**
 * A site may lie across two pieces. So the last bytes of each piece, of which a part of a site may be moved already, are kept for the next piece. No site
 * reaches into or out of a piece that does not change.
 */
function* changedPieces(
  file: OpenFile,
  plan: MovePlan,
  chunk: number,
): Generator<Uint8Array | InPlace, void, undefined> {
  // Two buffers: one piece is being written while the next is read.
  let [buffer, other] = [new Uint8Array(chunk + 2 * SITE_SIZE), new Uint8Array(chunk + 2 * SITE_SIZE)];
  for (const part of plan.parts) {
    if (part instanceof Uint8Array) {
      yield part;
      continue;
    }
    const stop = part.offset + part.length;
    // Sites that begin before the stretch may reach into it.
    let at = Math.max(0, part.offset - SITE_SIZE);
    let kept = 0;
    while (at < stop) {
      const end = Math.min(at + chunk, stop);
      const from = Math.max(at, part.offset);
      if (plan.changes(at, end)) {
        const reach = Math.min(end + SITE_SIZE, file.size);
        readFully(file, buffer.subarray(kept, reach - at), at + kept);
        plan.move(buffer.subarray(0, reach - at), at, end);
        yield buffer.subarray(from - at, end - at);
        other.set(buffer.subarray(end - at, reach - at));
        kept = reach - end;
        [buffer, other] = [other, buffer];
      } else {
        yield new InPlace(end - from);
        kept = 0;
      }
      at = end;
    }
  }
  file.state.expectUnchanged();
}

/** Reads short pieces into one buffer: what it returns is valid until the next call. */
function readerOf(file: OpenFile): (offset: number, length: number) => Uint8Array {
  let buffer = new Uint8Array(CHUNK);
  return (offset, length) => {
    if (length > buffer.length) buffer = new Uint8Array(length);
    const wanted = buffer.subarray(0, length);
    readFully(file, wanted, offset);
    return wanted;
  };
}
