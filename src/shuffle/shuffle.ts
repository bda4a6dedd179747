/**
 * Function-granular KASLR for a kernel that nobody rebuilt: every function that can move is placed at random, everything that names one is repaired,
 * and the result relocates itself at its entry as any converted kernel does.
 *
 * Two halves. `planShuffle` finds out, once for each kernel, what can move and all that names it. `shuffle` makes a kernel of a plan and a seed: the same
 * kernel, plan and seed, the same bytes.
 */
import type { Codecs } from '../codecs/formats.ts';
import { convertInput } from '../convert.ts';
import type { Converted, ConvertSummary } from '../convert.ts';
import { addFileSections, joinParts, settleParts } from '../elf/write.ts';
import { KernelImageError } from '../base/errors.ts';
import { refuseConverted, refuseMoved } from '../kernel/hookable.ts';
import { readInput } from '../kernel/open.ts';
import type { KernelInput } from '../kernel/open.ts';
import { findRelocations } from '../relocs/find.ts';
import type { ByteSource } from '../relocs/tool/byte-source.ts';
import { checkSites, encodeRelocationTable } from '../relocs/tables/kernel-table.ts';
import type { RelocationTable } from '../relocs/tables/kernel-table.ts';
import { analyse } from './analyse/analyse.ts';
import type { AnalysePass } from './analyse/analyse.ts';
import { buildIdOf } from './read/identity.ts';
import { fingerprint } from './fingerprint.ts';
import { layOut, sizeClasses } from './layout/layout.ts';
import { encodeMoves, MOVES_SECTION } from './moves-section.ts';
import type { Plan } from './plan/plan.ts';
import { rewrite } from './rewrite.ts';
import { withoutSymbols } from './strip.ts';
import { systemMap } from './system-map.ts';
import { measure } from './layout/entropy.ts';
import type { Worth } from './layout/entropy.ts';
import { readVmlinux } from '../kernel/vmlinux.ts';
import type { Vmlinux } from '../kernel/vmlinux.ts';

export { decodePlan, encodePlan } from './plan/plan-file.ts';
export type { Plan } from './plan/plan.ts';

export interface PlanOptions {
  readonly codecs: Codecs;
  /** The unstripped vmlinux of the same build, with `.symtab` and `.rela` sections. */
  readonly debug: ByteSource;
  /** A relocation table in the kernel's format, for a vmlinux that does not carry one. */
  readonly relocs?: Uint8Array | undefined;
  /** The map that GNU ld wrote when it linked `debug`: where functions without a size end, if each had a section. */
  readonly map?: Uint8Array | undefined;
  /** Find references without the `.rela` sections of `debug`: by disassembly, and by the formats of the kernel's tables. Experimental. */
  readonly recover?: boolean | undefined;
  /** Called as each pass begins. */
  readonly onPass?: ((pass: ShufflePass) => void) | undefined;
}

export type ShufflePass = AnalysePass | 'read' | 'layout' | 'write';

/** Throws KernelImageError for a kernel that cannot be shuffled, and for a debug vmlinux that is not this kernel's. */
export async function planShuffle(image: Uint8Array, options: PlanOptions): Promise<Plan> {
  options.onPass?.('read');
  const { input, kernel } = await readKernel(image, options);
  const table = findRelocations(kernel, input);
  checkSites(table, kernel.loads);
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
  /** The image is the shuffle's to write over, and so is its buffer behind it: a copy of 50 MB less. */
  readonly takeImage?: boolean | undefined;
}

export interface ShuffleOptions {
  /** Up to 32 bytes, all of them as secret as the layout is to be. */
  readonly seed: Uint8Array;
  /** Without the program that relocates: with the relocation table behind the file, as in a bzImage. */
  readonly plain?: boolean | undefined;
  readonly onPass?: ((pass: ShufflePass) => void) | undefined;
}

/** One kernel, read and checked, and shuffled as often as wanted. */
export interface Shuffler {
  shuffle(options: ShuffleOptions): Shuffled;
}

/** The shape of `kslide shuffle --json`, seed and file names aside. */
export interface ShuffleSummary {
  readonly input: KernelInput['kind'];
  readonly kernelVersion: string | undefined;
  readonly buildId: string;
  /** Of all that there are; those that stay, by reason. */
  readonly functions: {
    readonly all: number;
    readonly moved: number;
    readonly staying: Readonly<Record<string, number>>;
  };
  readonly worth: Worth;
  readonly rewritten: {
    readonly relative: number;
    readonly absolute: number;
    readonly branchesFound: number;
    readonly kallsyms: number;
    readonly orc: number;
    readonly extable: number;
    readonly mcount: number;
  };
  readonly sizes: { readonly input: number; readonly output: number };
  /** What `convert` says; undefined for a plain one. */
  readonly converted: ConvertSummary | undefined;
}

export interface Shuffled {
  /** The file, in order. */
  readonly parts: readonly Uint8Array[];
  readonly summary: ShuffleSummary;
  /** The file as one array. */
  bytes(): Uint8Array;
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

/** `once`: the kernel may be written over. */
async function open(image: Uint8Array, { codecs, plan }: ShufflerOptions, once: boolean): Promise<Shuffler> {
  const { input, kernel: original } = await readKernel(image, { codecs });
  const kernel = withoutSymbols(original);
  expectPlanned(kernel, plan);
  // What is the same for all layouts.
  const classes = sizeClasses(plan);
  const movesSize = encodeMoves(plan, plan.starts).length;
  const sample = addFileSections(kernel.elf, [{ name: MOVES_SECTION, bytes: new Uint8Array(movesSize) }]);
  const plainSize = sizeOf(sample);
  const kernelVersion = plan.facts.kernelVersion ?? input.kernelVersion;
  let worth: Worth | undefined;

  const shuffleOnce = ({ seed, plain, onPass }: ShuffleOptions): Shuffled => {
    onPass?.('layout');
    const placed = layOut(plan, seed, classes);
    const file = (once ? roomAt(kernel, input.vmlinux, image, plainSize) : undefined) ?? new Uint8Array(plainSize);
    const vmlinux = file.subarray(0, kernel.elf.bytes.length);
    if (file.buffer !== kernel.elf.bytes.buffer) vmlinux.set(kernel.elf.bytes);
    const table = rewrite(vmlinux, plan, placed);

    onPass?.('write');
    const moves = { name: MOVES_SECTION, bytes: encodeMoves(plan, placed) };
    settleParts(file, addFileSections({ ...kernel.elf, bytes: vmlinux }, [moves]));
    const converted = plain ? undefined : convertShuffled(input, kernelVersion, file, table, image.length);
    const parts = converted?.parts ?? [file, encodeRelocationTable(table)];
    return {
      parts,
      summary: {
        input: input.kind,
        kernelVersion,
        buildId: plan.kernel.buildId,
        functions: countFunctions(plan),
        // Counted when it is asked for: it takes longer than the layout.
        get worth() {
          return (worth ??= measure(plan, classes));
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

/** Where the kernel lies, if there is room for `size` bytes; what may be behind it is the table, which the plan has as well. */
function roomAt({ elf }: Vmlinux, vmlinux: Uint8Array, image: Uint8Array, size: number): Uint8Array | undefined {
  const { buffer, byteOffset } = elf.bytes;
  const end = buffer === image.buffer ? buffer.byteLength : vmlinux.byteOffset + vmlinux.length;
  const fits = buffer === vmlinux.buffer && byteOffset + size <= end;
  return fits ? new Uint8Array(buffer, byteOffset, size) : undefined;
}

function convertShuffled(
  { kind, bzImage, header, compression }: KernelInput,
  kernelVersion: string | undefined,
  vmlinux: Uint8Array,
  table: RelocationTable,
  size: number,
): Converted {
  const input = { kind, bzImage, header, compression, kernelVersion, vmlinux, relocs: undefined };
  return convertInput(input, size, { relocations: table });
}

function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

async function readKernel(
  image: Uint8Array,
  options: { readonly codecs: Codecs; readonly relocs?: Uint8Array | undefined },
): Promise<{ input: KernelInput; kernel: Vmlinux }> {
  const input = await readInput(image, options);
  refuseMoved(input.vmlinux);
  refuseConverted(input.vmlinux);
  return { input, kernel: readVmlinux(input.vmlinux) };
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

function countFunctions({ runs, functions, facts }: Plan): ShuffleSummary['functions'] {
  let moved = 0;
  for (const { first, count } of runs) for (let unit = first; unit < first + count; unit++) moved += functions[unit]!;
  return { all: facts.functions, moved, staying: facts.staying };
}

function countRewritten(plan: Plan): ShuffleSummary['rewritten'] {
  return {
    relative: plan.relative32.offsets.length + plan.relative64.offsets.length,
    absolute: plan.absolute32.offsets.length + plan.absolute64.offsets.length,
    branchesFound: plan.facts.branches.crossing,
    kallsyms: plan.kallsyms?.places.length ?? 0,
    orc: plan.orc?.count ?? 0,
    extable: plan.extable.insns.length,
    mcount: plan.mcount?.callsites.length ?? 0,
  };
}
