/**
 * Moves one kernel as often as the caller wants, in the memory that it was read into: sites, headers, PVH notes, and the segment that sets
 * KASLR_FLAG. choose.ts decides which slides are allowed; kernel/pvh.ts says what the PVH entry needs.
 */
import type { FileOffset, PhysAddr, Slide, VirtAddr } from '../base/addresses.ts';
import { physToTableEntry, physToVirt, PMD_SIZE } from '../base/addresses.ts';
import { alignUp, ascii, bytesOfWords, copyOf, joinParts, unshared, Writer } from '../base/bytes.ts';
import { hex, KernelImageError } from '../base/errors.ts';
import { lowerBound } from '../base/search.ts';
import type { Compression } from '../codecs/formats.ts';
import { PT_NOTE, PT_NULL } from '../elf/constants.ts';
import { EHDR, EHDR_SIZE, PHDR, PHDR_SIZE, writeFields } from '../elf/fields.ts';
import { readElf, segmentBytes } from '../elf/read.ts';
import type { Segment } from '../elf/read.ts';
import { addSegment, appendOffset } from '../elf/write.ts';
import { drawFrom } from '../kaslr/draw.ts';
import type { Draw } from '../kaslr/draw.ts';
import { slotsOf } from '../kaslr/slots.ts';
import type { AlignSource } from '../kaslr/slots.ts';
import { endForSlots, readImageLimit } from '../kernel/image-limit.ts';
import type { ImageLimit } from '../kernel/image-limit.ts';
import type { KernelInput } from '../kernel/input.ts';
import { readPhysicalAlign } from '../kernel/physical-align.ts';
import type { PhysicalAlign } from '../kernel/physical-align.ts';
import { readPvh, readsNote } from '../kernel/pvh.ts';
import type { PvhEntry } from '../kernel/pvh.ts';
import type { PvhNote, Vmlinux } from '../kernel/vmlinux.ts';
import type { TableWithoutNotes } from '../relocs/note-sites.ts';
import { changeSlide, prepareCheckedTable } from '../relocs/tables/apply.ts';
import type { PreparedTable } from '../relocs/tables/apply.ts';
import { countRelocations, LISTS } from '../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { buildFlagSegment, buildHook, layOutFlagSegment } from '../segment/build.ts';
import { ENTRY_BYTES, segmentAddress } from '../segment/layout.ts';
import type { SegmentLayout } from '../segment/layout.ts';
import { FLAG_PROGRAM } from '../stub/assembled.ts';
import { choose, chooseByForce } from './choose.ts';
import type { Choice, MovableKernel, SlideRequest } from './choose.ts';

export interface RandomizeOptions extends SlideRequest {
  /** The seed for random slides: 16 to 32 bytes. Required if a random slide is requested. */
  readonly seed?: Uint8Array | undefined;
  /** Set KASLR_FLAG in the guest, so that the kernel randomizes the rest of its memory too; true when undefined. */
  readonly flag?: boolean | undefined;
  /** Take the slides as given, even if the kernel will not boot with them. */
  readonly force?: boolean | undefined;
}

/** What was chosen and made. Addresses and sizes in bytes. The shape of `kslide randomize --json`. */
export interface RandomizeSummary extends Choice {
  readonly input: KernelInput['kind'];
  readonly compression: Compression | undefined;
  readonly kernelVersion: string | undefined;
  /** What every slide is a multiple of, and who says so. */
  readonly slots: {
    readonly align: number;
    readonly alignSource: AlignSource;
    readonly physicalAlign: PhysicalAlign | null;
  };
  /** The virtual and the physical address of _text. */
  readonly text: { readonly virt: string; readonly phys: PhysAddr };
  readonly flag: boolean;
  readonly relocations: number;
  /** Sites in notes, which were left out (relocs/note-sites.ts). */
  readonly noteSites: number;
  /** Whether /sys/kernel/notes tells the virtual slide to every user of the guest: the PVH entry of kernels since 6.13 needs it there. */
  readonly slideInNotes: boolean;
  /** Where everything that is loaded ends. A guest needs more memory than that. */
  readonly loadEnd: PhysAddr;
  readonly output: number;
}

export interface Randomized {
  /** The file, in order. Views of the Randomizer's memory: valid until its next `randomize`. `new Blob` takes them. */
  readonly parts: readonly Uint8Array<ArrayBuffer>[];
  readonly summary: RandomizeSummary;
  /** The file as one new array. */
  bytes(): Uint8Array<ArrayBuffer>;
}

/** Bytes of the original file that are to be moved. */
export interface Stretch {
  readonly offset: FileOffset;
  readonly length: number;
}

/** How to make the file from the original without having all of it in memory. Valid until the Randomizer's next use. */
export interface MovePlan {
  /** The file, in order. */
  readonly parts: readonly (Uint8Array | Stretch)[];
  readonly summary: RandomizeSummary;
  /**
   * Moves `bytes`, which are the original's from `offset` on: it changes the sites that start before `end`. A site takes up to SITE_SIZE bytes, so
   * `bytes` must reach that far beyond `end`, or to the end of the file.
   */
  move(bytes: Uint8Array, offset: FileOffset, end: FileOffset): void;
  /** Whether any of the original's bytes from `offset` to `end` may be different in the moved file. */
  changes(offset: FileOffset, end: FileOffset): boolean;
}

export const SITE_SIZE = 8;

/** One kernel that was read and checked, and can be moved any number of times. */
export interface Randomizer {
  /** Throws KernelImageError with code `would-not-boot`, and RangeError for a random slide without a seed. */
  randomize(options: RandomizeOptions): Randomized;
  /** The same for callers that read the file piece by piece (node/files/randomize-file.ts). Must not be called after `randomize`. */
  plan(options: RandomizeOptions): MovePlan;
}

/** The sites of one segment, and its bytes in the file. */
interface Part {
  readonly offset: FileOffset;
  readonly bytes: Uint8Array;
  readonly base: PhysAddr;
  readonly table: PreparedTable;
}

export class KernelRandomizer implements Randomizer {
  readonly #input: KernelInput;
  readonly #align: number | undefined;
  /** Where the image, slide included, must end. */
  readonly #limit: ImageLimit;
  readonly #kernel: Vmlinux;
  readonly #pvh: PvhEntry | undefined;
  /** Of the notes, for loaders that must read another address than the kernel does. */
  readonly #copies: readonly NotesCopy[];
  readonly #parts: readonly Part[];
  readonly #sites: number;
  readonly #noteSites: number;
  readonly #identity: Uint8Array;
  /** The original's ELF header and program headers. */
  readonly #headers: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
  readonly #flagLayout: SegmentLayout;
  /** The flag segment's address in a kernel that is not moved. */
  readonly #flagAddress: PhysAddr;
  /** The virtual slide of the image in memory at the moment. */
  #virt: Slide = 0;

  constructor(input: KernelInput, kernel: Vmlinux, { table, left }: TableWithoutNotes, align: number | undefined) {
    const { elf, loads } = kernel;
    this.#input = input;
    this.#align = align;
    this.#limit = readImageLimit(kernel);
    this.#kernel = kernel;
    this.#pvh = readPvh(kernel, table);
    this.#copies = this.#pvh === undefined ? [] : copiesOf(this.#pvh);
    this.#parts = loads.map((load) => partOf(kernel, load, table));
    this.#sites = countRelocations(table);
    this.#noteSites = left;
    this.#identity = identify(kernel, table);
    this.#headers = [
      { offset: 0, size: EHDR_SIZE[64] },
      { offset: elf.header.phoff, size: elf.header.phnum * PHDR_SIZE[64] },
    ].map(({ offset, size }) => ({ offset, bytes: copyOf(elf.bytes.subarray(offset, offset + size)) }));
    this.#flagLayout = layOutFlagSegment(FLAG_PROGRAM, sizeOf(this.#copies));
    this.#flagAddress = segmentAddress(kernel.imageEnd, appendOffset(elf));
  }

  randomize(options: RandomizeOptions): Randomized {
    const { choice, loadEnd } = this.#choose(options);
    this.#moveImage(choice.virt);
    const { parts: views, summary } = this.#write(choice, loadEnd, options);
    const parts = views.map(unshared);
    return { parts, summary, bytes: () => joinParts(parts) };
  }

  plan(options: RandomizeOptions): MovePlan {
    if (this.#virt !== 0) throw new RangeError('the image in memory is moved already');
    const { choice, loadEnd } = this.#choose(options);
    const { parts, summary } = this.#write(choice, loadEnd, options);
    const { bytes: original } = this.#kernel.elf;
    const written: Stretch[] = this.#headers.map(({ offset, bytes }) => ({ offset, length: bytes.length }));
    for (const { offset, size } of this.#pvh?.notes ?? []) written.push({ offset, length: size });
    return {
      parts: parts.map((part) =>
        part.buffer === original.buffer ? { offset: part.byteOffset - original.byteOffset, length: part.length } : part,
      ),
      summary,
      move: (bytes, offset, end) => {
        this.#moveWindow(bytes, offset, end, choice.virt);
        for (const { offset: at, length } of written) {
          const [from, to] = [Math.max(at, offset), Math.min(at + length, offset + bytes.length)];
          if (from < to) bytes.set(original.subarray(from, to), from - offset);
        }
      },
      changes: (offset, end) =>
        written.some(({ offset: at, length }) => at < end && at + length > offset) ||
        this.#sitesIn(offset - SITE_SIZE, end).some(({ sites }) => sites.end > 0),
    };
  }

  #choose(options: RandomizeOptions): { choice: Choice; loadEnd: PhysAddr } {
    const kernel = this.#kernel;
    const movable: MovableKernel = {
      slots: slotsOf({ imageEnd: endForSlots(kernel, this.#limit), limit: this.#limit.bytes, align: this.#align }),
      limit: this.#limit.bytes,
      loadEnd: (options.flag ?? true) ? this.#flagAddress + this.#flagLayout.memsz : kernel.imageEnd,
      pvh: this.#pvh,
    };
    const choice = options.force ? chooseByForce(movable, options) : choose(movable, options, this.#draw(options.seed));
    return { choice, loadEnd: movable.loadEnd };
  }

  /** Writes everything except the sites. */
  #write(
    choice: Choice,
    loadEnd: PhysAddr,
    { flag = true }: RandomizeOptions,
  ): { parts: Uint8Array[]; summary: RandomizeSummary } {
    const notes = this.#writeNotes(choice);
    this.#writeHeaders(choice);
    const parts = flag ? this.#withFlagSegment(choice, notes) : this.#withNotes(notes);
    return { parts, summary: this.#summarize(choice, flag, loadEnd, parts) };
  }

  /** Returns a stretch of the file, moved by `virt`, whatever the slide of the image in memory is. */
  #moved({ offset, length }: Stretch, virt: Slide): Uint8Array {
    const { bytes } = this.#kernel.elf;
    const from = Math.max(0, offset - SITE_SIZE);
    const window = copyOf(bytes.subarray(from, Math.min(bytes.length, offset + length + SITE_SIZE)));
    this.#moveWindow(window, from, offset + length, virt);
    return window.subarray(offset - from, offset - from + length);
  }

  /** Moves the sites that start in the file at `offset` or after it, and before `end`. `bytes`: the file's bytes from `offset` on. */
  #moveWindow(bytes: Uint8Array, offset: FileOffset, end: FileOffset, virt: Slide): void {
    for (const { sites, link } of this.#sitesIn(offset, end))
      changeSlide(bytes, sites, { from: this.#virt, to: virt }, link + offset);
  }

  /** For each segment with bytes between `offset` and `end`, the sites that start there. `link`: its link address minus its file offset. */
  #sitesIn(offset: FileOffset, end: FileOffset): { readonly sites: PreparedTable; readonly link: PhysAddr }[] {
    return this.#parts.flatMap(({ offset: partAt, bytes, base, table }) => {
      const [first, last] = [Math.max(offset, partAt), Math.min(end, partAt + bytes.length)];
      if (first >= last) return [];
      const link = base - partAt;
      const stretch = (list: Uint32Array): Uint32Array =>
        list.subarray(
          lowerBound(list, physToTableEntry(link + first)),
          lowerBound(list, physToTableEntry(link + last)),
        );
      const { abs64, inverse32, abs32 } = table;
      const sites = { abs64: stretch(abs64), inverse32: stretch(inverse32), abs32: stretch(abs32) };
      return [{ sites: prepareCheckedTable(sites), link }];
    });
  }

  #draw(seed: Uint8Array | undefined): Draw {
    if (seed !== undefined) return drawFrom(seed, this.#identity);
    return (question, count) => {
      if (count === 1) return 0;
      throw new RangeError(`a random ${question} needs a seed`);
    };
  }

  #moveImage(virt: Slide): void {
    for (const { bytes, base, table } of this.#parts) changeSlide(bytes, table, { from: this.#virt, to: virt }, base);
    this.#virt = virt;
  }

  /**
   * The slide that the loaded PVH note must show. Every user of the guest can read that note (/sys/kernel/notes), so it shows none unless the entry's
   * code takes its link address from there.
   */
  #noteSlide({ entry, virt }: Choice): Slide {
    return entry !== 'linux64' && this.#pvh !== undefined && readsNote(this.#pvh) ? virt : 0;
  }

  /** Writes the loaded notes. Returns copies for loaders if they must read another address there. */
  #writeNotes(choice: Choice): Uint8Array | undefined {
    if (this.#pvh === undefined) return undefined;
    const { notes, entry: pvhEntry } = this.#pvh;
    const write = (bytes: Uint8Array, { offset, size }: PvhNote, origin: FileOffset, address: number): void => {
      const writer = new Writer(bytes);
      if (size === 8) writer.u64(offset - origin, address);
      else writer.u32(offset - origin, address);
    };
    const loaded = this.#noteSlide(choice);
    for (const note of notes) write(this.#kernel.elf.bytes, note, 0, pvhEntry + loaded);
    if (choice.entry === 'linux64' || choice.phys === loaded) return undefined;
    const copies = new Uint8Array(sizeOf(this.#copies));
    for (const { at, offset, length, notes: own } of this.#copies) {
      const copy = this.#moved({ offset, length }, choice.virt);
      for (const note of own) write(copy, note, offset, pvhEntry + choice.phys);
      copies.set(copy, at);
    }
    return copies;
  }

  /** Writes load addresses. If PVH was not requested, hides the PVH entry, so that no loader uses it. */
  #writeHeaders({ entry, phys }: Choice): void {
    const { elf, imageStart, imageEnd } = this.#kernel;
    const file = new Writer(elf.bytes);
    for (const { offset, bytes } of this.#headers) file.copy(offset, bytes);
    writeFields(file, 0, EHDR[64], { e_entry: this.#kernel.entry + phys });
    for (const { index, paddr } of elf.segments) {
      if (paddr >= imageStart && paddr < imageEnd)
        writeFields(file, this.#headerAt(index), PHDR[64], { p_paddr: paddr + phys });
    }
    if (entry !== 'linux64') return;
    for (const { segment } of this.#pvh?.notes ?? [])
      writeFields(file, this.#headerAt(segment.index), PHDR[64], { p_type: PT_NULL });
  }

  #headerAt(index: number): number {
    return this.#kernel.elf.header.phoff + index * PHDR_SIZE[64];
  }

  #withFlagSegment({ virt, phys }: Choice, notes: Uint8Array | undefined): Uint8Array[] {
    const { elf, entry, entryOffset } = this.#kernel;
    const segment = buildFlagSegment(this.#kernel, FLAG_PROGRAM, this.#flagLayout, {
      virt,
      phys,
      entryBytes: this.#moved({ offset: entryOffset, length: ENTRY_BYTES }, virt),
      notes: notes ?? new Uint8Array(0),
    });
    if (notes !== undefined) {
      const { payload } = this.#flagLayout;
      const vaddr = physToVirt(this.#flagAddress + payload);
      this.#pointToNotes({ offset: segment.offset + payload, paddr: segment.paddr + payload, vaddr });
    }
    const hook = { offset: entryOffset, bytes: buildHook(entry, this.#flagAddress) };
    return addSegment(readElf(elf.bytes), segment, [hook]);
  }

  /** Puts notes after the file, outside all PT_LOADs. A loader reads them there. */
  #withNotes(notes: Uint8Array | undefined): Uint8Array[] {
    const { bytes } = this.#kernel.elf;
    if (notes === undefined) return [bytes];
    const offset = alignUp(bytes.length, 8);
    this.#pointToNotes({ offset });
    return [bytes, new Uint8Array(offset - bytes.length), notes];
  }

  #pointToNotes({ offset, paddr, vaddr }: { offset: number; paddr?: PhysAddr; vaddr?: VirtAddr }): void {
    const file = new Writer(this.#kernel.elf.bytes);
    for (const { at, segment } of this.#copies) {
      const header = this.#headerAt(segment.index);
      writeFields(file, header, PHDR[64], { p_offset: offset + at });
      if (paddr !== undefined) writeFields(file, header, PHDR[64], { p_paddr: paddr + at });
      if (vaddr !== undefined) writeFields(file, header, PHDR[64], { p_vaddr: vaddr + BigInt(at) });
    }
  }

  #summarize(choice: Choice, flag: boolean, loadEnd: PhysAddr, parts: readonly Uint8Array[]): RandomizeSummary {
    const input = this.#input;
    const { imageStart } = this.#kernel;
    return {
      input: input.kind,
      compression: input.compression,
      get kernelVersion() {
        return input.kernelVersion; // a search in the whole file, so only if a caller asks
      },
      ...choice,
      slots: {
        align: this.#align ?? PMD_SIZE,
        alignSource: this.#align === undefined ? 'least' : 'option',
        physicalAlign: readPhysicalAlign(input.header, this.#kernel.elf),
      },
      text: {
        virt: `0x${(physToVirt(imageStart) + BigInt(choice.virt)).toString(16)}`,
        phys: imageStart + choice.phys,
      },
      flag,
      relocations: this.#sites,
      noteSites: this.#noteSites,
      slideInNotes: this.#noteSlide(choice) !== 0,
      loadEnd: loadEnd + choice.phys,
      output: parts.reduce((sum, part) => sum + part.length, 0),
    };
  }
}

/** A PT_NOTE's bytes in the file, up to the end of the last PVH note that begins in it, and where their copy lies among the copies. */
interface NotesCopy extends Stretch {
  readonly segment: Segment;
  readonly notes: readonly PvhNote[];
  readonly at: number;
}

/** Kernels have 500 bytes of notes, in one PT_NOTE. */
const COPIES_AT_MOST = 0x10_0000;

/**
 * One for each PT_NOTE by which a loader finds the entry. Throws KernelImageError if they are too large: the same bytes may be named by many
 * PT_NOTEs, and a note that its segment cuts off may reach to the end of the file.
 */
function copiesOf({ notes }: PvhEntry): NotesCopy[] {
  const bySegment = new Map<Segment, PvhNote[]>();
  for (const note of notes) {
    const others = bySegment.get(note.segment);
    if (others === undefined) bySegment.set(note.segment, [note]);
    else others.push(note);
  }
  const copies: NotesCopy[] = [];
  let end = 0;
  for (const [segment, own] of bySegment) {
    const at = alignUp(end, 8);
    const reach = own.reduce(
      (most, { offset, size }) => Math.max(most, offset + size - segment.offset),
      segment.filesz,
    );
    copies.push({ segment, notes: own, at, offset: segment.offset, length: reach });
    end = at + reach;
  }
  if (end <= COPIES_AT_MOST) return copies;
  throw new KernelImageError({
    code: 'too-large',
    what: 'size of all PT_NOTE segments with a PVH note',
    found: end,
    expected: `at most ${hex(COPIES_AT_MOST)}`,
  });
}

function sizeOf(copies: readonly NotesCopy[]): number {
  const last = copies.at(-1);
  return last === undefined ? 0 : last.at + last.length;
}

/** Lists are sorted, so the sites of a segment are one stretch of each list. */
function partOf({ elf }: Vmlinux, load: Segment, table: RelocationTable): Part {
  const stretch = (list: Uint32Array): Uint32Array => {
    const first = physToTableEntry(load.paddr);
    return list.subarray(lowerBound(list, first), lowerBound(list, first + load.filesz));
  };
  const [abs64, inverse32, abs32] = LISTS.map(({ name }) => stretch(table[name])) as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  return {
    offset: load.offset,
    bytes: segmentBytes(elf, load),
    base: load.paddr,
    table: prepareCheckedTable({ abs64, inverse32, abs32 }),
  };
}

/** Bytes that identify this kernel: its notes, which hold the build ID, and where its first sites are. */
function identify({ elf, imageEnd, entry }: Vmlinux, table: RelocationTable): Uint8Array {
  const notes = elf.segments.filter(({ type }) => type === PT_NOTE).map((segment) => segmentBytes(elf, segment));
  const sites = LISTS.map(({ name }) => bytesOfWords(table[name].slice(0, 16)));
  const numbers = `${entry} ${imageEnd} ${LISTS.map(({ name }) => table[name].length).join(' ')}\0`;
  return joinParts([ascii(numbers), ...sites, ...notes]);
}
