/**
 * The main pipeline: it makes a vmlinux that randomizes its own address at each boot, from a kernel in any form that kslide reads.
 *
 * The converted file depends only on the input and the options: the same input gives the same bytes.
 */
import { joinParts, unshared } from './base/bytes.ts';
import { physToTableEntry, tableEntryToVirt } from './base/addresses.ts';
import { hex, KernelImageError } from './base/errors.ts';
import type { Codecs, Compression, Watch } from './codecs/formats.ts';
import { addSegment } from './elf/write.ts';
import type { NewSegment } from './elf/write.ts';
import { entropyBits, largestSlide, slotsOf } from './kaslr/slots.ts';
import type { AlignSource, Slots } from './kaslr/slots.ts';
import { endForSlots, readImageLimit } from './kernel/image-limit.ts';
import type { ImageLimit } from './kernel/image-limit.ts';
import type { KernelInput } from './kernel/input.ts';
import { readPhysicalAlign } from './kernel/physical-align.ts';
import type { PhysicalAlign } from './kernel/physical-align.ts';
import { openKernel } from './kernel/open.ts';
import type { OpenedKernel } from './kernel/open.ts';
import type { Vmlinux } from './kernel/vmlinux.ts';
import { readCheckedRelocations } from './relocs/find.ts';
import { describeRecovery, recoveryWarnings } from './recover/describe.ts';
import type { RecoveredFacts } from './recover/describe.ts';
import { recoverIfNeeded } from './recover/choose.ts';
import type { RecoverChoice } from './recover/choose.ts';
import type { Recovery } from './recover/recover.ts';
import { leaveOutNotes } from './relocs/note-sites.ts';
import { encodeRelocationTable, LISTS } from './relocs/tables/kernel-table.ts';
import type { RelocationTable } from './relocs/tables/kernel-table.ts';
import { buildHook, buildSegment } from './segment/build.ts';
import type { SegmentOptions } from './segment/build.ts';
import { ENTRY_BYTES, TABLE_FORMAT } from './segment/layout.ts';
import { encodeStubTable } from './segment/table.ts';
import type { StubTable, StubTableName } from './segment/table.ts';
import { STUB_PROGRAM } from './stub/assembled.ts';

export interface ConvertOptions {
  readonly codecs: Codecs;
  /** Called with the vmlinux as it arrives. Most of `parts` will be views of it, each at the same offset in the file as in the vmlinux. */
  readonly watch?: Watch | undefined;
  /** A relocation table in the kernel's format, for a vmlinux that does not carry one. */
  readonly relocs?: Uint8Array | undefined;
  /** For slots that are farther apart than the kernel needs: a power of two from 2 MiB on. Undefined: 2 MiB (kaslr/slots.ts). */
  readonly align?: number | undefined;
  /** Recover the relocations of a kernel that carries none from its image (docs/recover.md). */
  readonly recover?: RecoverChoice | undefined;
  /** The format of the table. Undefined: compact. */
  readonly table?: StubTableName | undefined;
  /** Called as each pass begins. */
  readonly onPass?: ((pass: ConvertPass) => void) | undefined;
}

export type ConvertPass = 'read' | 'relocations' | 'write';

/** What was read and what was written. All sizes in bytes. The shape of `kslide convert --json`. */
export interface ConvertSummary {
  readonly input: KernelInput['kind'];
  readonly compression: Compression | undefined;
  /** Why the kernel's own decompressor would not read the payload as it was decoded here, if there is a reason. */
  readonly payloadNote: string | undefined;
  readonly kernelVersion: string | undefined;
  readonly entries: readonly ('linux64' | 'pvh')[];
  readonly relocations: { readonly abs64: number; readonly inverse32: number; readonly abs32: number };
  /** What recovered relocations stand on. Undefined: the kernel has its own. */
  readonly recovered: RecoveredFacts | undefined;
  /** What the file holds after its table or its end, and is neither: padding, a signature. Undefined: nothing. */
  readonly ignored: string | undefined;
  /** Sites in notes, which were left out (relocs/note-sites.ts). `relocations` does not count them. */
  readonly noteSites: number;
  readonly slots: {
    readonly count: number;
    readonly align: number;
    readonly largest: number;
    readonly bits: number;
    /** Where the image, slide included, must end: 1 GiB, or 512 MiB without CONFIG_RANDOMIZE_BASE; and whether the kernel's page tables say so. */
    readonly limit: ImageLimit;
    readonly alignSource: AlignSource;
    /** By which multiples the kernel's own decompressor moves it: CONFIG_PHYSICAL_ALIGN. Null if nothing in the file says it. */
    readonly physicalAlign: PhysicalAlign | null;
  };
  readonly tableFormat: StubTableName;
  /** What the user should know of the result, a sentence each. Empty for every distribution's kernel. */
  readonly warnings: readonly string[];
  /** The added segment's physical link address, and how much memory it takes until the kernel runs. */
  readonly segment: { readonly paddr: number; readonly memory: number };
  readonly sizes: {
    readonly input: number;
    readonly vmlinux: number;
    readonly added: number;
    readonly table: number;
    readonly output: number;
  };
}

export interface Converted {
  /** The file, in order. Most parts are views of the input, so write them before you change the input. `new Blob` takes them. */
  readonly parts: readonly Uint8Array<ArrayBuffer>[];
  readonly summary: ConvertSummary;
  /** The file as one new array. */
  bytes(): Uint8Array<ArrayBuffer>;
  /** The relocations that the stub applies, in the kernel's format. */
  relocs(): Uint8Array<ArrayBuffer>;
}

/** Throws KernelImageError for anything that cannot be converted; see errors.ts for the codes. */
export async function convert(image: Uint8Array, options: ConvertOptions): Promise<Converted> {
  options.onPass?.('read');
  const opened = await openKernel(image, 'rewrite', options);
  const recovery = options.recover === undefined ? undefined : recoverIfNeeded(opened, options.recover);
  return convertKernel(opened, image.length, { ...options, relocations: recovery?.table, recovery });
}

export interface ConvertKernelOptions extends Pick<ConvertOptions, 'align' | 'table' | 'onPass'> {
  readonly segment?: SegmentOptions | undefined;
  /** The kernel's relocations, if the caller has read them already. */
  readonly relocations?: RelocationTable | undefined;
  /** Where they come from, if they were recovered. */
  readonly recovery?: Recovery | undefined;
}

/** The remaining passes, for a kernel that was opened with purpose `rewrite`. `size`: of the file that it came in, in bytes. */
export function convertKernel(opened: OpenedKernel, size: number, options: ConvertKernelOptions): Converted {
  const { kernel } = opened;
  // From here every site is known to lie inside the image: applying the table cannot go wrong.
  options.onPass?.('relocations');
  const { table: whole, ignored } = readCheckedRelocations(opened, { known: options.relocations });
  const { table: relocations, left: noteSites } = leaveOutNotes(whole, kernel);

  options.onPass?.('write');
  const table = encodeTable(kernel, relocations, options);
  const limit = readImageLimit(kernel);
  const slots = slotsOf({
    imageEnd: endForSlots(kernel, limit),
    limit: limit.bytes,
    align: options.align,
  });
  const segment = buildSegment(kernel, STUB_PROGRAM, slots, table, options.segment);
  expectWithinMap(segment, limit.bytes);
  const hook = { offset: kernel.entryOffset, bytes: buildHook(kernel.entry, segment.paddr) };
  const parts = addSegment(kernel.elf, segment, [hook]).map(unshared);
  const { recovery } = options;
  const summary = summarize(opened, {
    size,
    relocations,
    recovery,
    noteSites,
    ignored,
    slots,
    alignSource: options.align === undefined ? 'least' : 'option',
    limit,
    table,
    segment,
    parts,
  });
  return { parts, summary, bytes: () => joinParts(parts), relocs: () => unshared(encodeRelocationTable(relocations)) };
}

function encodeTable(kernel: Vmlinux, table: RelocationTable, options: ConvertKernelOptions): StubTable {
  // A decompressor that reads the same table knows only the kernel's format.
  return options.segment?.tableAtEnd === true
    ? encodeSharedTable(kernel, table)
    : encodeStubTable(table, options.table ?? 'compact');
}

/**
 * The table in the form that this kernel's decompressor reads. The decompressor applies it while the hook is in place, so no site may touch the
 * ENTRY_BYTES bytes at the entry, which the stub restores later.
 */
function encodeSharedTable(kernel: Vmlinux, table: RelocationTable): StubTable {
  const from = physToTableEntry(kernel.entry);
  for (const { name, width } of LISTS) {
    const site = table[name].find((entry) => entry + width > from && entry < from + ENTRY_BYTES);
    if (site === undefined) continue;
    throw new KernelImageError({
      code: 'unsupported',
      what: 'relocation table',
      found: `a site at ${hex(tableEntryToVirt(site))}, in the bytes that the hook takes`,
      expected: 'none there, when the decompressor applies the table before the hook is undone',
      hint: 'leave out --table-at-end',
    });
  }
  const format = table.lists === 2 ? TABLE_FORMAT.kernel_two_lists : TABLE_FORMAT.kernel;
  return { name: 'kernel', format, bytes: encodeRelocationTable(table) };
}

/** With fewer slots than this, the summary warns. Distribution kernels have some 480. */
const FEW_SLOTS = 64;

function warningsAbout(kernel: Vmlinux, slots: Slots, limit: ImageLimit): string[] {
  const { align, count } = slots;
  const most = hex(limit.bytes);
  const within = endForSlots(kernel, limit) > kernel.imageEnd ? `below ${most}` : `at ${most} or below`;
  const end = `its image ends at ${hex(kernel.imageEnd)}, moves by multiples of ${hex(align)}, and must end ${within}`;
  if (count === 1)
    return [`this kernel will never move: it has only one slot, 0. ${end[0]!.toUpperCase()}${end.slice(1)}`];
  if (count < FEW_SLOTS)
    return [`this kernel has only ${count} slots (${entropyBits(slots).toFixed(2)} bits of entropy): ${end}`];
  return [];
}

/** The PVH entry's page tables, and the kernel's own, map no more of the image than KERNEL_IMAGE_SIZE. */
function expectWithinMap({ paddr, memsz }: NewSegment, limit: number): void {
  if (paddr + memsz <= limit) return;
  throw new KernelImageError({
    code: 'would-not-boot',
    what: "end of the added segment, after the kernel's image",
    found: paddr + memsz,
    expected: `at most ${hex(limit)} (KERNEL_IMAGE_SIZE)`,
  });
}

interface Made {
  readonly size: number;
  readonly relocations: RelocationTable;
  readonly recovery: Recovery | undefined;
  readonly ignored: string | undefined;
  readonly noteSites: number;
  readonly slots: Slots;
  readonly alignSource: AlignSource;
  readonly limit: ImageLimit;
  readonly table: StubTable;
  readonly segment: NewSegment;
  readonly parts: readonly Uint8Array[];
}

function summarize({ input, kernel }: OpenedKernel, made: Made): ConvertSummary {
  const { size, relocations, recovery, noteSites, ignored, slots, alignSource, limit, table, segment, parts } = made;
  const output = parts.reduce((sum, part) => sum + part.length, 0);
  const recovered = recovery === undefined ? undefined : describeRecovery(recovery);
  const vmlinux = kernel.elf.bytes.length;
  return {
    input: input.kind,
    compression: input.compression,
    payloadNote: input.payloadDiffers?.message,
    kernelVersion: input.kernelVersion,
    entries: kernel.pvhEntry === undefined ? ['linux64'] : ['linux64', 'pvh'],
    relocations: {
      abs64: relocations.abs64.length,
      inverse32: relocations.inverse32.length,
      abs32: relocations.abs32.length,
    },
    recovered,
    ignored,
    noteSites,
    slots: {
      count: slots.count,
      align: slots.align,
      largest: largestSlide(slots),
      bits: entropyBits(slots),
      limit,
      alignSource,
      physicalAlign: readPhysicalAlign(input.header, kernel.elf),
    },
    warnings: [...(recovered === undefined ? [] : recoveryWarnings(recovered)), ...warningsAbout(kernel, slots, limit)],
    tableFormat: table.name,
    segment: { paddr: segment.paddr, memory: segment.memsz },
    sizes: { input: size, vmlinux, added: output - vmlinux, table: table.bytes.length, output },
  };
}
