/**
 * Function-granular KASLR for a kernel that was built without it. Every movable function is placed at random, everything that refers to one is
 * repaired, and the result relocates itself at its entry as any converted kernel does.
 *
 * There are two halves. `planShuffle` finds out, once for each kernel, what is movable and everything that refers to it. `shuffle` makes a kernel from a plan
 * and a seed: the same kernel, plan and seed give the same bytes.
 *
 * Where things are:
 *
 *     read/      what a shuffle is made from: the kernel by address, its debug vmlinux, a link map
 *     analyse/   from these to a plan: pieces of code, references to them, units; recover/ does it without relocations
 *     plan/      the plan, and the format of plan files
 *     layout/    where a seed places each unit, and the entropy of that
 *     tables/    the kernel's tables that are sorted by address, one file each: read for the plan, written for a layout
 *     rewrite.ts the kernel with its units in their new places
 *     verify/    the proof, which shares no decision with all this
 */
import { joinParts, unshared } from '../base/bytes.ts';
import type { Codecs } from '../codecs/formats.ts';
import { convertKernel } from '../convert.ts';
import type { Converted } from '../convert.ts';
import { addFileSections, settleParts } from '../elf/write.ts';
import { KernelImageError } from '../base/errors.ts';
import { checkKernel, openKernel } from '../kernel/open.ts';
import type { KernelInput } from '../kernel/input.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';
import { readRelocations } from '../relocs/find.ts';
import type { ByteSource } from '../relocs/tool/byte-source.ts';
import { encodeRelocationTable } from '../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { analyse } from './analyse/analyse.ts';
import type { AnalysePass } from './analyse/analyse.ts';
import { layoutEntropy } from './layout/entropy.ts';
import type { LayoutEntropy } from './layout/entropy.ts';
import { layOut, sizeClasses } from './layout/layout.ts';
import type { Plan } from './plan/plan.ts';
import { buildIdOf, fingerprint } from './read/identity.ts';
import { withoutSymbols } from './read/kernel-image.ts';
import { encodeMovesSection, MOVES_SECTION, rewrite } from './rewrite.ts';
import { countFunctions, countRewritten } from './summary.ts';
import type { ShuffleSummary } from './summary.ts';
import { systemMap } from './tables/kallsyms.ts';

export interface PlanOptions {
  readonly codecs: Codecs;
  /** The unstripped vmlinux of the same build, with `.symtab` and `.rela` sections. */
  readonly debug: ByteSource;
  /** A relocation table in the kernel's format, for a vmlinux that does not carry one. */
  readonly relocs?: Uint8Array | undefined;
  /** The map that GNU ld wrote when it linked `debug`. It shows where functions without a size end, if each had a section. */
  readonly map?: Uint8Array | undefined;
  /** Find references without the `.rela` sections of `debug`: by disassembly, and by the formats of the kernel's tables. Experimental. */
  readonly recover?: boolean | undefined;
  /** Called as each pass begins. */
  readonly onPass?: ((pass: ShufflePass) => void) | undefined;
}

export type ShufflePass = AnalysePass | 'read' | 'layout' | 'write';

/** Throws KernelImageError for a kernel that cannot be shuffled, and for a debug vmlinux of another build. */
export async function planShuffle(image: Uint8Array, options: PlanOptions): Promise<Plan> {
  options.onPass?.('read');
  const { input, kernel } = await openKernel(image, 'rewrite', options);
  const table = readRelocations({ input, kernel });
  return analyse({
    kernel: withoutSymbols(kernel),
    table,
    debug: options.debug,
    map: options.map,
    kernelVersion: input.kernelVersion,
    recover: options.recover,
    onPass: options.onPass,
  });
}

export interface ShufflerOptions {
  readonly codecs: Codecs;
  readonly plan: Plan;
}

export interface ShuffleOnceOptions extends ShufflerOptions, ShuffleOptions {
  /** Allows `shuffle` to overwrite the image and the rest of its buffer, which saves a copy of 50 MB. */
  readonly takeImage?: boolean | undefined;
}

export interface ShuffleOptions {
  /** Up to 32 bytes. They must all be as secret as the layout. */
  readonly seed: Uint8Array;
  /** Leave out the program that relocates: the relocation table is appended to the file instead, as in a bzImage. */
  readonly plain?: boolean | undefined;
  readonly onPass?: ((pass: ShufflePass) => void) | undefined;
}

/** One kernel, read and checked, for any number of layouts. */
export interface Shuffler {
  shuffle(options: ShuffleOptions): Shuffled;
}

export interface Shuffled {
  /** The file, in order. */
  readonly parts: readonly Uint8Array<ArrayBuffer>[];
  readonly summary: ShuffleSummary;
  /** The file as one array. */
  bytes(): Uint8Array<ArrayBuffer>;
  /** The new System.map; undefined for a kernel without kallsyms. */
  symbols(): Uint8Array | undefined;
}

/** One layout. Throws KernelImageError, also when the plan is of another kernel. */
export async function shuffle(image: Uint8Array, options: ShuffleOnceOptions): Promise<Shuffled> {
  options.onPass?.('read');
  return (await open(image, options, options.takeImage === true)).shuffle(options);
}

/** Throws KernelImageError, also when the plan is of another kernel. The image must not change while the shuffler is used. */
export function openShuffler(image: Uint8Array, options: ShufflerOptions): Promise<Shuffler> {
  return open(image, options, false);
}

/** `once`: the image may be overwritten. */
async function open(image: Uint8Array, { codecs, plan }: ShufflerOptions, once: boolean): Promise<Shuffler> {
  const { input, kernel: original } = await openKernel(image, 'rewrite', { codecs });
  const kernel = withoutSymbols(original);
  expectPlanned(kernel, plan);
  expectMoves(plan);

  // What all layouts share: the classes of units that may change places, and the size of the file.
  const classes = sizeClasses(plan);
  const movesSize = encodeMovesSection(plan, plan.starts).length;
  const sample = addFileSections(kernel.elf, [{ name: MOVES_SECTION, bytes: new Uint8Array(movesSize) }]);
  const plainSize = sizeOf(sample);
  const kernelVersion = plan.facts.kernelVersion ?? input.kernelVersion;
  let worth: LayoutEntropy | undefined;

  const shuffleOnce = ({ seed, plain, onPass }: ShuffleOptions): Shuffled => {
    // Choose a place for each unit, and rewrite the kernel in a buffer that has room for the whole plain file.
    onPass?.('layout');
    const placed = layOut(plan, seed, classes);
    const file = (once ? roomAt(kernel, input.vmlinux, image, plainSize) : undefined) ?? new Uint8Array(plainSize);
    const vmlinux = file.subarray(0, kernel.elf.bytes.length);
    if (file.buffer !== kernel.elf.bytes.buffer) vmlinux.set(kernel.elf.bytes);
    const table = rewrite(vmlinux, plan, placed);

    // Add the section that says where everything went, then the program that relocates, or else the table.
    onPass?.('write');
    const moves = { name: MOVES_SECTION, bytes: encodeMovesSection(plan, placed) };
    settleParts(file, addFileSections({ ...kernel.elf, bytes: vmlinux }, [moves]));
    const converted = plain ? undefined : convertShuffled(input, kernelVersion, file, table, image.length);
    const parts = converted?.parts ?? [file, encodeRelocationTable(table)].map(unshared);
    return {
      parts,
      summary: {
        input: input.kind,
        kernelVersion,
        buildId: plan.kernel.buildId,
        functions: countFunctions(plan),
        // Computed only when it is read: it takes longer than the layout.
        get worth() {
          return (worth ??= layoutEntropy(plan, classes));
        },
        rewritten: countRewritten(plan),
        sizes: { input: image.length, output: sizeOf(parts) },
        converted: converted?.summary,
      },
      bytes: () => joinParts(parts),
      symbols: () => (plan.kallsyms === undefined ? undefined : systemMap(vmlinux, plan.kallsyms)),
    };
  };
  return { shuffle: shuffleOnce };
}

/** The place of the kernel in its own buffer, if `size` bytes fit there. They may overwrite the relocation table after it, which the plan has as well. */
function roomAt({ elf }: Vmlinux, vmlinux: Uint8Array, image: Uint8Array, size: number): Uint8Array | undefined {
  const { buffer, byteOffset } = elf.bytes;
  const end = buffer === image.buffer ? buffer.byteLength : vmlinux.byteOffset + vmlinux.length;
  const fits = buffer === vmlinux.buffer && byteOffset + size <= end;
  return fits ? new Uint8Array(buffer, byteOffset, size) : undefined;
}

function convertShuffled(
  { kind, bzImage, header, compression, payloadDiffers }: KernelInput,
  kernelVersion: string | undefined,
  vmlinux: Uint8Array,
  table: RelocationTable,
  size: number,
): Converted {
  const input = { kind, bzImage, header, compression, payloadDiffers, kernelVersion, vmlinux, relocs: undefined };
  return convertKernel(checkKernel(input, 'rewrite'), size, { relocations: table });
}

function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/** A kernel that keeps every function in its place is not shuffled: whoever asked for that must know. */
function expectMoves({ runs, facts }: Plan): void {
  if (runs.length > 0) return;
  const reasons = Object.entries(facts.staying).map(([reason, count]) => `${count} ${reason}`);
  throw new KernelImageError({
    code: 'unsupported',
    what: 'shuffling a kernel of which nothing can move',
    found: `all of its ${facts.functions} functions staying: ${reasons.join(', ')}`,
    expected: 'two functions or more that may change places',
    hint: '`kslide convert` makes it self-relocating as it is',
  });
}

function expectPlanned(kernel: Vmlinux, { kernel: planned }: Plan): void {
  const id = buildIdOf(kernel);
  if (id !== planned.buildId) {
    throw new KernelImageError({
      code: 'bad-value',
      what: 'build-id of the kernel',
      found: id ?? 'none',
      expected: `${planned.buildId}, that of the plan`,
    });
  }
  const { bytes } = kernel.elf;
  if (bytes.length === planned.size && fingerprint(bytes) === planned.checksum) return;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'contents of the kernel',
    found: 'changed since the plan was made',
    expected: 'the same bytes',
  });
}
