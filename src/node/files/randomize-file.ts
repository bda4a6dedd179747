/**
 * Moving a vmlinux that is a file, while it is copied: each piece is read into the same memory, moved, and written.
 *
 * A kernel of 57 MB in memory of its own costs 14,000 page faults, which take longer than all else that moving it takes (measured: 45 ms of CPU time
 * to read it so, 10 ms to read it through a small buffer). So the pipeline gets an array as long as the file, in which only that is filled in which
 * it looks at: headers, section names, notes, the entry's code, and the relocation table behind the ELF file. What was never touched takes no memory.
 *
 * Two thirds of a kernel have no sites in them. Where the system can copy the file by itself, on another thread and while the table is checked, only the
 * pieces that change are read here, and written over the copy.
 */
import fs from 'node:fs';
import { Reader } from '../../base/bytes.ts';
import { PT_LOAD, PT_NOTE } from '../../elf/constants.ts';
import { EHDR, EHDR_SIZE, PHDR_SIZE, SHDR_SIZE } from '../../elf/fields.ts';
import { endOfElf, isElf, readElf } from '../../elf/read.ts';
import { KernelImageError } from '../../base/errors.ts';
import { openRandomizer, SITE_SIZE } from '../../randomize.ts';
import type { MovePlan, RandomizeOptions, RandomizerOptions, RandomizeSummary } from '../../randomize.ts';
import { fileOffsetOf, readVmlinux } from '../../kernel/vmlinux.ts';
import { InPlace } from './output-file.ts';

/** The file, in pieces; each is good until the one behind the next is asked for. May be gone through more than once, until it is closed. */
export interface MovedFile extends Iterable<Uint8Array> {
  readonly summary: RandomizeSummary;
  /** Of the original. */
  readonly size: number;
  /** The same for who has a copy of the original: what is not as it is there. */
  overCopy(): Iterable<Uint8Array | InPlace>;
  close(): void;
}

export interface MovedFileOptions {
  /** How much is moved at a time, SITE_SIZE or more. */
  readonly chunk?: number | undefined;
  /** Called once it is probable that the file can be moved so, with a name that it has as long as it is open. */
  readonly onOpen?: ((path: string) => void) | undefined;
}

const HEAD = 0x1_0000;
const CHUNK = 0x4_0000;
const MAX_SIZE = 2 ** 31;
/** What the pipeline looks at of the code at an entry (pvh.ts), and of a segment's start (segment/hook.ts). */
const ENTRY_CODE = 0x400;
const SEGMENT_START = 0x80;

/**
 * Undefined when the file has to be read whole: no vmlinux with its table behind it or in `relocs`, nothing that can be read at any place, or nothing
 * that is right; then whoever reads it whole says what is wrong. Throws KernelImageError for choices that would not boot.
 */
export async function openMovedFile(
  path: string,
  options: RandomizerOptions & RandomizeOptions,
  { chunk = CHUNK, onOpen }: MovedFileOptions = {},
): Promise<MovedFile | undefined> {
  const file = openRegular(path);
  if (file === undefined) return undefined;
  const close = (): void => fs.closeSync(file.fd);
  try {
    const skeleton = readSkeleton(file, options.relocs !== undefined);
    if (skeleton === undefined) {
      close();
      return undefined;
    }
    onOpen?.(`/proc/self/fd/${file.fd}`);
    const plan = (await openRandomizer(skeleton, { ...options, inPlace: true })).plan(options);
    return {
      [Symbol.iterator]: () => pieces(file, plan, chunk),
      overCopy: () => changedPieces(file, plan, chunk),
      summary: plan.summary,
      size: file.size,
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

interface OpenFile {
  readonly fd: number;
  readonly size: number;
}

function openRegular(path: string): OpenFile | undefined {
  try {
    if (!fs.statSync(path).isFile()) return undefined; // a FIFO would wait for its writer
    const fd = fs.openSync(path, 'r');
    const stat = fs.fstatSync(fd);
    if (stat.isFile() && stat.size >= EHDR_SIZE[64] && stat.size <= MAX_SIZE) return { fd, size: stat.size };
    fs.closeSync(fd);
  } catch {
    // Said by who reads it whole.
  }
  return undefined;
}

function readSkeleton(file: OpenFile, hasTable: boolean): Uint8Array | undefined {
  const bytes = new Uint8Array(file.size);
  const load = (offset: number, length: number): void => {
    const from = Math.min(Math.max(0, offset), file.size);
    readFully(file, bytes, from, from, Math.min(offset + length, file.size));
  };
  try {
    load(0, HEAD);
    if (!isElf(bytes) || bytes[4] !== 2) return undefined;
    const header = new Reader(bytes);
    const phnum = header.u16(EHDR[64].e_phnum[0], 'e_phnum');
    const shnum = header.u16(EHDR[64].e_shnum[0], 'e_shnum');
    load(header.u64AsNumber(EHDR[64].e_phoff[0], 'e_phoff'), (phnum + 1) * PHDR_SIZE[64]);
    load(header.u64AsNumber(EHDR[64].e_shoff[0], 'e_shoff'), Math.max(1, shnum) * SHDR_SIZE[64]);
    if (shnum === 0) return undefined; // counted elsewhere, or none: rare
    const elf = readElf(bytes);
    const end = endOfElf(elf);
    if (end >= file.size && !hasTable) return undefined;
    load(end, file.size - end);
    const names = elf.sections[elf.header.shstrndx];
    if (names !== undefined) load(names.offset, names.size);
    for (const { type, offset, filesz } of elf.segments) {
      if (type === PT_NOTE) load(offset - SITE_SIZE, filesz + 2 * SITE_SIZE);
      if (type === PT_LOAD) load(offset, Math.min(filesz, SEGMENT_START));
    }
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
 * A site may lie across two pieces: the last bytes of each are kept, moved as far as they are, for the next. None reaches into a piece that does not
 * change, or out of it.
 */
function* changedPieces(
  file: OpenFile,
  plan: MovePlan,
  chunk: number,
): Generator<Uint8Array | InPlace, void, undefined> {
  // A piece is being written while the next one is read.
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
        readFully(file, buffer, kept, at + kept, reach);
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
}

/** The file's bytes from `offset` to `end`, to `place` in `bytes`. */
function readFully({ fd }: OpenFile, bytes: Uint8Array, place: number, offset: number, end: number): void {
  for (let at = offset; at < end;) {
    const count = fs.readSync(fd, bytes, place + at - offset, end - at, at);
    if (count === 0) throw new Error('the file became shorter while it was read');
    at += count;
  }
}
