/**
 * Describes a kernel, and what it would take to move it: the file and its contents, where the relocation sites are, and how large each form of the
 * relocations is. `inspect` returns one object with everything that `kslide inspect` shows. `--json` prints that object as it is, so fields
 * may be added to it, but never renamed or removed.
 *
 * For a converted kernel, image, slots and relocations are those of the kernel in it; what `convert` added is in `converted`.
 */
import { physToVirt } from './base/addresses.ts';
import type { Codecs } from './codecs/formats.ts';
import type { SetupHeader } from './bzimage/header.ts';
import { hex } from './base/errors.ts';
import { endForSlots, readImageLimit } from './kernel/image-limit.ts';
import type { ImageLimit } from './kernel/image-limit.ts';
import type { KernelInput } from './kernel/input.ts';
import { readPhysicalAlign } from './kernel/physical-align.ts';
import type { PhysicalAlign } from './kernel/physical-align.ts';
import { readSegment } from './segment/read.ts';
import type { AddedSegment } from './segment/read.ts';
import { describeNotes, describeSections, describeSegments } from './inspect/elf.ts';
import type { NoteFacts, SectionFacts, SegmentFacts } from './inspect/elf.ts';
import { describePlacement } from './inspect/placement.ts';
import type { Placement } from './inspect/placement.ts';
import { compareForms } from './inspect/sizes.ts';
import type { FormSizes } from './inspect/sizes.ts';
import { entropyBits, largestSlide, slotsOf } from './kaslr/slots.ts';
import { relaStatistics } from './inspect/rela-statistics.ts';
import type { RelaStatistics } from './inspect/rela-statistics.ts';
import { hasRela, locateRelocations, readRelocations } from './relocs/find.ts';
import type { RelocationSource } from './relocs/find.ts';
import {
  countByCell,
  loadedSections,
  mergeSites,
  PAGE,
  touchedByAll,
  touchedBySection,
} from './inspect/site-locations.ts';
import type { Touched, TouchedSection } from './inspect/site-locations.ts';
import { checkSites } from './relocs/tables/kernel-table.ts';
import type { RelocationTable } from './relocs/tables/kernel-table.ts';
import { openKernel } from './kernel/open.ts';
import { withoutSegment } from './kernel/vmlinux.ts';
import type { Vmlinux } from './kernel/vmlinux.ts';

export interface InspectOptions {
  readonly codecs: Codecs;
  /** A relocation table in the kernel's format, to be used instead of the file's own. */
  readonly relocs?: Uint8Array | undefined;
}

/** Sizes are in bytes. Physical addresses and offsets are numbers. Virtual addresses are text in hex, because they do not fit a double. */
export interface Inspection {
  readonly input: KernelInput['kind'];
  readonly compression: string | null;
  readonly kernelVersion: string | null;
  /** The file, the ELF file in it, and what follows that. (`behind` is part of the `--json` output.) */
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
  /** Slides that the kernel can take, or that a converted one takes. */
  readonly slots: {
    readonly count: number;
    readonly align: number;
    /** `least`: every kernel can move by 2 MiB (kaslr/slots.ts); `converted`: so says the conversion. */
    readonly alignSource: 'least' | 'converted';
    /** Always false: no kernel's step has to be assumed. */
    readonly alignAssumed: false;
    /** By which multiples the kernel's own decompressor moves it: CONFIG_PHYSICAL_ALIGN. Null if nothing in the file says it. */
    readonly physicalAlign: PhysicalAlign | null;
    readonly largest: number;
    readonly bits: number;
    /** Where the image, slide included, must end, and whether the kernel's page tables say so. */
    readonly limit: ImageLimit;
  };
  readonly segments: readonly SegmentFacts[];
  readonly sections: SectionFacts;
  readonly notes: readonly NoteFacts[];
  readonly buildId: string | null;
  /** What `kslide convert` added. */
  readonly converted: ConvertedFacts | null;
  /** Null for a kernel that was built without relocations or stripped of them. */
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
  /** The compressed kernel, as it is in the file. */
  readonly payload: {
    readonly bytes: number;
    /** Why the kernel's own decompressor would not read the payload as it was decoded here, if there is a reason. */
    readonly note: string | null;
  };
}

export interface ConvertedFacts {
  readonly layout: number;
  /** Bit 0: the stub relocates although KASLR_FLAG is set, because the decompressor before it has an empty table (`kslide bzimage`). */
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
  /** The sections that have sites, by rising address. */
  readonly sections: readonly TouchedSection[];
  readonly placement: Placement;
  /** Number of sites in each cell of `cell` bytes, from the cell that holds the image's first byte. */
  readonly map: { readonly start: number; readonly cell: number; readonly counts: readonly number[] };
  /** The entries of the `.rela` sections; null for a file without them. */
  readonly rela: RelaStatistics | null;
  readonly forms: FormSizes;
}

/** Throws KernelImageError if this is not an x86-64 kernel, or if its relocations are broken. Having none is not an error. */
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
    setup: input.header === undefined ? null : describeSetup(input.header, input),
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

function describeSetup(header: SetupHeader, { payloadDiffers }: KernelInput): SetupFacts {
  return {
    protocol: `${header.protocol >> 8}.${header.protocol & 0xff}`,
    alignment: header.kernelAlignment,
    relocatable: header.relocatable,
    prefAddress: header.prefAddress ?? null,
    initSize: header.initSize ?? null,
    cmdlineSize: header.cmdlineSize,
    payload: { bytes: header.payloadLength, note: payloadDiffers?.message ?? null },
  };
}

function describeSlots(kernel: Vmlinux, { header }: KernelInput, added: AddedSegment | undefined): Inspection['slots'] {
  const limit = readImageLimit(kernel);
  const slots = slotsOf({ imageEnd: endForSlots(kernel, limit), limit: limit.bytes, align: added?.slots.align });
  return {
    ...slots,
    alignSource: added === undefined ? 'least' : 'converted',
    alignAssumed: false,
    physicalAlign: readPhysicalAlign(header, kernel.elf),
    largest: largestSlide(slots),
    bits: entropyBits(slots),
    limit,
  };
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
    source === 'converted' ? { ...added!.sites, lists: 3 } : readRelocations({ input, kernel });
  // What follows relies on every site being inside the image.
  if (source === 'converted') checkSites(table, kernel.loads);

  const merged = mergeSites(table);
  const cell = cellOf(kernel);
  const statistics = hasRela(kernel) ? relaStatistics(kernel.elf.bytes) : undefined;
  return {
    source,
    lists: table.lists,
    total: touchedByAll(merged),
    sections: touchedBySection(merged, loadedSections(kernel)),
    placement: describePlacement(table),
    map: { start: Math.floor(kernel.imageStart / cell) * cell, cell, counts: countByCell(merged, kernel, cell) },
    rela: statistics ?? null,
    forms: compareForms(table, statistics),
  };
}

/** The most cells of the map. They fit on a line of text. */
const MAP_CELLS = 64;

function cellOf({ imageStart, imageEnd }: Vmlinux): number {
  let cell = PAGE;
  while (Math.ceil(imageEnd / cell) - Math.floor(imageStart / cell) > MAP_CELLS) cell *= 2;
  return cell;
}
