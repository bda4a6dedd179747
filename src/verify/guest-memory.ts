/**
 * Guest memory for the dry run: only what a loader copies from the file is there, a part for each segment. A kernel's image is mostly that, but headers may claim
 * any amount of memory that is zero: a file of 1 KiB may span 1 GiB. So time and memory are linear in the bytes of the file.
 *
 * Memory that no segment loads is zero. A write to it is kept in a part of its own, so that it is seen afterwards.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { viewOf } from '../base/bytes.ts';
import { lastAtOrBelow } from '../base/search.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { segmentBytes } from '../elf/read.ts';
import type { ElfFile, Segment } from '../elf/read.ts';

export interface MemoryPart {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

function partOf(start: PhysAddr, bytes: Uint8Array): MemoryPart {
  return { start, end: start + bytes.length, bytes, view: viewOf(bytes) };
}

export class GuestMemory {
  readonly #elf: ElfFile;
  readonly #segments: readonly Segment[];
  /** By rising address; a part for each segment. */
  readonly parts: readonly MemoryPart[];
  readonly #starts: Float64Array;
  /** What was written to where no segment loads anything. */
  strays: MemoryPart[] = [];

  /** `load` fills it. */
  constructor(elf: ElfFile) {
    this.#elf = elf;
    this.#segments = elf.segments
      .filter(({ type, filesz }) => type === PT_LOAD && filesz > 0)
      .toSorted((a, b) => a.paddr - b.paddr);
    this.parts = this.#segments.map(({ paddr, filesz }) => partOf(paddr, new Uint8Array(filesz)));
    this.#starts = Float64Array.from(this.parts, ({ start }) => start);
  }

  /** Loads as a boot loader does: the file's bytes of every PT_LOAD to its p_paddr. */
  load(): void {
    this.#segments.forEach((segment, index) => this.parts[index]!.bytes.set(segmentBytes(this.#elf, segment)));
    this.strays = [];
  }

  /** The part that holds these bytes. */
  part(address: PhysAddr, width: number): MemoryPart {
    const holds = (part: MemoryPart | undefined): part is MemoryPart =>
      part !== undefined && address >= part.start && address + width <= part.end;
    const found = this.parts[lastAtOrBelow(this.#starts, address)];
    if (holds(found)) return found;
    const known = this.strays.find(holds);
    if (known !== undefined) return known;
    const stray = partOf(address, new Uint8Array(width));
    this.strays.push(stray);
    return stray;
  }

  /** The same, but looks into `part` first: a table's sites ascend. */
  around(part: MemoryPart, address: PhysAddr, width: number): MemoryPart {
    return address >= part.start && address + width <= part.end ? part : this.part(address, width);
  }
}
