/**
 * What a kernel is, and what moving it would take: the file and what is in it, where its relocations lie, and how large each way to carry
 * them is. Everything that `kslide inspect` shows is in the one object that this gives; it is also what `--json` prints, and only grows.
 *
 * A converted kernel is described as the kernel that it has in memory, with its own image, slots and table; what was added stands apart.
 */
import { physToVirt, PAGE_SIZE } from './base/addresses.ts';
import type { Codecs } from './codecs/formats.ts';
import type { SetupHeader } from './bzimage/header.ts';
import { hex } from './base/errors.ts';
import type { KernelInput } from './kernel/input.ts';
import { readSegment } from './segment/read.ts';
import type { AddedSegment } from './segment/read.ts';
import { describeNotes, describeSections, describeSegments } from './inspect/elf.ts';
import type { NoteFacts, SectionFacts, SegmentFacts } from './inspect/elf.ts';
import { describePlacement } from './inspect/placement.ts';
import type { Placement } from './inspect/placement.ts';
import { compareForms } from './inspect/sizes.ts';
import type { FormSizes } from './inspect/sizes.ts';
import { entropyBits, largestSlide, slotsOf } from './kaslr/slots.ts';
import { countRela } from './relocs/tool/census.ts';
import type { RelaCensus } from './relocs/tool/census.ts';
import { hasRela, locateRelocations, readFrom } from './relocs/find.ts';
import type { RelocationSource } from './relocs/find.ts';
import { countByCell, loadedSections, mergeSites, touchedByAll, touchedBySection } from './relocs/places.ts';
import type { Touched, TouchedSection } from './relocs/places.ts';
import { checkSites } from './relocs/tables/kernel-table.ts';
import type { RelocationTable } from './relocs/tables/kernel-table.ts';
import { openKernel } from './kernel/open.ts';
import { withoutSegment } from './kernel/vmlinux.ts';
import type { Vmlinux } from './kernel/vmlinux.ts';

export interface InspectOptions {
  readonly codecs: Codecs;
  /** A relocation table in the kernel's format; it goes before those that the file carries. */
  readonly relocs?: Uint8Array | undefined;
}

/** Sizes in bytes. Physical addresses and offsets are numbers; virtual addresses are text in hex, for they do not fit a double. */
export interface Inspection {
  readonly input: KernelInput['kind'];
  readonly compression: string | null;
  readonly kernelVersion: string | null;
  /** Of the file, of the ELF file in it, and of what lies behind that. */
  readonly sizes: { readonly input: number; readonly vmlinux: number; readonly behind: number };
  /** Of a bzImage. */
  readonly setup: SetupFacts | null;
  readonly image: {
    readonly start: number;
    readonly end: number;
    readonly vaddr: string;
    /** startup_64, and pvh_start_xen where the kernel can be entered there; physical link addresses. */
    readonly entries: { readonly linux64: number; readonly pvh: number | null };
  };
  /** Slides that the kernel can take. `align` is assumed where no setup header and no conversion says it. */
  readonly slots: {
    readonly count: number;
    readonly align: number;
    readonly alignAssumed: boolean;
    readonly largest: number;
    readonly bits: number;
  };
  readonly segments: readonly SegmentFacts[];
  readonly sections: SectionFacts;
  readonly notes: readonly NoteFacts[];
  readonly buildId: string | null;
  /** What `kslide convert` added. */
  readonly converted: ConvertedFacts | null;
  /** Null for a kernel that has none, or has left them behind. */
  readonly relocations: RelocationFacts | null;
}

export interface SetupFacts {
  /** "2.15" */
  readonly protocol: string;
  readonly alignment: number;
  readonly relocatable: boolean;
  readonly prefAddress: number | null;
  readonly initSize: number | null;
  readonly cmdlineSize: number;
  /** The compressed kernel as it lies in the file. */
  readonly payload: { readonly bytes: number };
}

export interface ConvertedFacts {
  readonly layout: number;
  /** Bit 0: relocates although KASLR_FLAG is set, as behind a decompressor with an empty table (`kslide bzimage`). */
  readonly flags: number;
  readonly segment: {
    readonly paddr: number;
    readonly offset: number;
    readonly bytes: number;
    readonly memory: number;
  };
  readonly slots: { readonly count: number; readonly align: number };
  readonly table: { readonly format: string; readonly offset: number; readonly bytes: number };
}

export interface RelocationFacts {
  /** Where they were read from. */
  readonly source: RelocationSource | 'converted';
  readonly lists: 2 | 3;
  readonly total: Touched;
  /** Those that have sites, by rising address. */
  readonly sections: readonly TouchedSection[];
  readonly placement: Placement;
  /** Sites in each `cell` bytes, from the cell that holds the image's first byte. */
  readonly map: { readonly start: number; readonly cell: number; readonly counts: readonly number[] };
  /** What the `.rela` sections hold, where there are some. */
  readonly rela: RelaCensus | null;
  readonly forms: FormSizes;
}

/** Throws KernelImageError when this is no x86-64 kernel, or its relocations are broken. That it has none is no error. */
export async function inspect(file: Uint8Array, options: InspectOptions): Promise<Inspection> {
  const { input, kernel: whole } = await openKernel(file, 'describe', options);
  const added = readSegment(whole.elf);
  const kernel = added === undefined ? whole : withoutSegment(whole, added.segment);
  const { elf, trailer, imageStart, imageEnd } = kernel;
  const { notes, buildId } = describeNotes(elf);
  return {
    input: input.kind,
    compression: input.compression ?? null,
    kernelVersion: input.kernelVersion ?? null,
    sizes: { input: file.length, vmlinux: elf.bytes.length, behind: trailer.length },
    setup: input.header === undefined ? null : describeSetup(input.header),
    image: {
      start: imageStart,
      end: imageEnd,
      vaddr: hex(physToVirt(imageStart)),
      entries: { linux64: kernel.entry, pvh: kernel.pvhEntry ?? null },
    },
    slots: describeSlots(kernel, input, added),
    segments: describeSegments(elf),
    sections: describeSections(elf),
    notes,
    buildId,
    converted: added === undefined ? null : describeAdded(added),
    relocations: describeRelocations(kernel, input, added),
  };
}

function describeSetup(header: SetupHeader): SetupFacts {
  return {
    protocol: `${header.protocol >> 8}.${header.protocol & 0xff}`,
    alignment: header.kernelAlignment,
    relocatable: header.relocatable,
    prefAddress: header.prefAddress ?? null,
    initSize: header.initSize ?? null,
    cmdlineSize: header.cmdlineSize,
    payload: { bytes: header.payloadLength },
  };
}

function describeSlots(kernel: Vmlinux, { header }: KernelInput, added: AddedSegment | undefined): Inspection['slots'] {
  const slots = slotsOf(kernel.imageEnd, added?.slots.align ?? header?.kernelAlignment);
  const alignAssumed = added === undefined && header === undefined;
  const { count, align } = slots;
  return { count, align, alignAssumed, largest: largestSlide(slots), bits: entropyBits(slots) };
}

function describeAdded({ layout, flags, segment, slots, table }: AddedSegment): ConvertedFacts {
  const { paddr, offset, filesz, memsz } = segment;
  return { layout, flags, segment: { paddr, offset, bytes: filesz, memory: memsz }, slots, table };
}

function describeRelocations(
  kernel: Vmlinux,
  input: KernelInput,
  added: AddedSegment | undefined,
): RelocationFacts | null {
  const source = added !== undefined && input.relocs === undefined ? 'converted' : locateRelocations(kernel, input);
  if (source === undefined) return null;
  const table: RelocationTable =
    source === 'converted' ? { ...added!.sites, lists: 3 } : readFrom(source, kernel, input);
  // From here every site is known to lie inside the image.
  checkSites(table, kernel.loads);

  const merged = mergeSites(table);
  const cell = cellOf(kernel);
  const census = hasRela(kernel) ? countRela(kernel.elf.bytes) : undefined;
  return {
    source,
    lists: table.lists,
    total: touchedByAll(merged),
    sections: touchedBySection(merged, loadedSections(kernel)),
    placement: describePlacement(table),
    map: { start: Math.floor(kernel.imageStart / cell) * cell, cell, counts: countByCell(merged, kernel, cell) },
    rela: census ?? null,
    forms: compareForms(table, census),
  };
}

/** Cells of the map: few enough for a line of text. */
const MAP_CELLS = 64;

function cellOf({ imageStart, imageEnd }: Vmlinux): number {
  let cell = PAGE_SIZE;
  while (Math.ceil(imageEnd / cell) - Math.floor(imageStart / cell) > MAP_CELLS) cell *= 2;
  return cell;
}
