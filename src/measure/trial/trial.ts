/**
 * Trials of a relocation table that cannot be proved: the kernel, moved by the table, runs in QEMU at chosen slides, and all that its guest program sees is compared
 * with the same kernel unmoved. A trial is no proof: it runs a small part of the kernel, and a field that nobody used may be wrong. What is wrong in a
 * field that the boot or the program uses is found at a slide at which it matters.
 *
 * The stub draws its slide, so the host applies the table at the chosen slides (randomize.ts), and the file that will be written boots once by each
 * entry. 64-bit boots get different slides, virtual and physical; PVH boots get the same, as most kernels need there.
 */
import { hex, KernelImageError } from '../../base/errors.ts';
import { MIB } from '../../base/addresses.ts';
import type { Slide } from '../../base/addresses.ts';
import { lines } from '../../base/text.ts';
import type { Codecs } from '../../codecs/formats.ts';
import type { Slots } from '../../kaslr/slots.ts';
import { largestSlide } from '../../kaslr/slots.ts';
import { EnvironmentError } from '../../node/errors.ts';
import { boot } from '../../node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../node/qemu/qemu.ts';
import { openRandomizer } from '../../randomize.ts';
import type { Randomizer } from '../../randomize.ts';
import { inParallel, qemuVersion } from '../many-boots.ts';
import { packTrialGuest } from './guest.ts';
import { comparable, compareTrial, readTrial } from './report.ts';
import type { Moved } from './report.ts';
import { chooseSlides } from './slides.ts';

export type TrialEntry = 'linux64' | 'pvh';

export interface TrialOptions {
  readonly codecs: Codecs;
  /** The file that was converted. */
  readonly image: Uint8Array;
  /** The table, in the kernel's format. */
  readonly relocs: Uint8Array;
  /** What `convert` made of it. */
  readonly converted: Uint8Array;
  readonly slots: Slots;
  readonly entries: readonly TrialEntry[];
  readonly signal?: AbortSignal | undefined;
  /** Guests that run at a time. */
  readonly jobs?: number | undefined;
  /** Called after each boot, the reference among them. */
  readonly onRun?: ((done: number, of: number) => void) | undefined;
  /** Undefined: QEMU. */
  readonly bootWith?: ((options: BootOptions) => Promise<BootResult>) | undefined;
}

/** One boot that was like the unmoved kernel's. */
export interface TrialRun {
  /** The kernel, moved by the host; or the file that was written, which draws its own slide. */
  readonly file: 'moved' | 'converted';
  readonly entry: TrialEntry;
  readonly slide: Slide;
  /** Undefined: not known. */
  readonly physicalSlide: Slide | undefined;
  readonly cpus: number;
  readonly why: string;
  readonly milliseconds: number;
}

/** The shape of `tried` in `kslide convert --recover --try --json`. */
export interface TrialSummary {
  readonly qemu: string;
  readonly runs: readonly TrialRun[];
  /** Slides that a guest cannot have by an entry, in words. */
  readonly skipped: readonly string[];
  readonly compared: readonly string[];
  /** What this kernel has not, or no trial does. */
  readonly notCompared: readonly string[];
  /** What a trial is worth. */
  readonly note: string;
}

/** A kernel that dies, or is not what it is unmoved. */
export class TrialError extends Error {
  override readonly name = 'TrialError';
  readonly differences: readonly string[];
  /** The last lines of the console, safe to show. */
  readonly console: readonly string[];

  constructor(run: string, differences: readonly string[], console: string) {
    super(`trial failed: ${run}: ${differences.join('; ')}`);
    this.differences = differences;
    this.console = lastLines(console);
  }
}

const NOTE = 'no proof: fields that no boot used were not tried';
const LAST_LINES = 12;

function lastLines(console: string): string[] {
  return lines(console.slice(-8192))
    .split('\n')
    .filter((line) => line.trim() !== '')
    .slice(-LAST_LINES);
}

/** Enough for a kernel at any slide by both entries: a PVH entry maps 1 GiB. */
const MEMORY_MIB = 1280;
const MAPPED = 1024 * MIB;
/** The unmoved kernel gets this long; a moved one ten times what that took, but no less than the least. */
const REFERENCE_MS = 300_000;
const LEAST_MS = 60_000;

/**
 * What a guest must not fail for.
 *
 * - A guest on a busy host is no soft lockup of the kernel's making.
 * - CPUs that take turns in one thread: with a thread each, QEMU 7.2 may run an old translation of code that another CPU has patched ("Oops: int3" while
 *   functions are traced: 4 of 32 boots, none of 64 with one thread).
 * - No CMPXCHG16B: QEMU 7.2 gets the flags wrong that an interrupt saves behind it (28 of 69 boots of one layout ended in a double fault).
 */
const GUEST = {
  accel: 'tcg',
  append: 'nowatchdog',
  cpu: 'max,-cx16',
  extra: ['-accel', 'tcg,thread=single'],
} as const satisfies Partial<BootOptions>;

interface Planned {
  readonly file: TrialRun['file'];
  readonly entry: TrialEntry;
  /** Undefined: the file draws it. */
  readonly moved: Moved;
  readonly cpus: number;
  readonly why: string;
}

/** Throws TrialError for a kernel that fails, and EnvironmentError without QEMU. */
export async function tryKernel(options: TrialOptions): Promise<TrialSummary> {
  const { converted, slots, entries, signal, jobs = 2, onRun, bootWith = boot } = options;
  const qemu = bootWith === boot ? await qemuVersion() : 'none';
  const randomizer = await openRandomizer(options.image, {
    codecs: options.codecs,
    relocs: options.relocs,
    align: slots.align,
  });
  const { planned, skipped } = plan(randomizer, slots, entries);
  const of = planned.length + 1;
  let done = 0;
  const initrd = packTrialGuest();
  const run = async (
    image: Uint8Array,
    { entry, cpus }: Pick<Planned, 'entry' | 'cpus'>,
    timeoutMs: number,
    stop = signal,
  ): Promise<BootResult> => {
    const result = await bootWith({
      ...GUEST,
      image,
      entry,
      cpus,
      initrd,
      timeoutMs,
      signal: stop,
      memoryMib: MEMORY_MIB,
      linux64: { identityGib: 1 },
    });
    if (result.end === 'qemu-error')
      throw new EnvironmentError({
        problem: 'command-failed',
        what: `QEMU failed: ${result.errors.trim().split('\n')[0] ?? ''}`,
      });
    if (result.end !== 'aborted') onRun?.(++done, of);
    return result;
  };

  const first = entries.includes('pvh') ? 'pvh' : 'linux64';
  const unmoved = randomizer.randomize({ entry: first, virt: 0, phys: 0, flag: false }).bytes();
  const result = await run(unmoved, { entry: first, cpus: 1 }, REFERENCE_MS);
  expectNotInterrupted(signal);
  const reference = readTrial(result);
  if (!reference.done || reference.symbols.length === 0)
    throw new TrialError(
      'the kernel that was not moved',
      [
        reference.done
          ? 'it has no /proc/kallsyms to compare with'
          : `the guest's program did not reach its end (${reference.end}), so there is nothing to compare with`,
      ],
      result.console,
    );

  const timeoutMs = Math.max(LEAST_MS, 10 * result.milliseconds);
  const runs = new Map<Planned, TrialRun>();
  await inParallel(
    planned,
    jobs,
    async (item, stop) => {
      const { entry, moved } = item;
      const image =
        item.file === 'converted'
          ? converted
          : randomizer.randomize({ ...limits(entry), virt: moved.virt!, phys: moved.phys! }).bytes();
      const ended = await run(image, item, timeoutMs, stop);
      if (ended.end === 'aborted') return;
      const report = readTrial(ended);
      const differences = compareTrial(report, reference, moved);
      const slide = moved.virt ?? report.slide;
      if (slide === undefined || slide % slots.align !== 0 || slide > largestSlide(slots))
        differences.push(`its slide is ${slide === undefined ? 'unknown' : `${hex(slide)}, which is no slot`}`);
      if (differences.length > 0) throw new TrialError(describePlanned(item, slide), differences, ended.console);
      const { file, cpus, why } = item;
      const milliseconds = Math.round(ended.milliseconds);
      runs.set(item, { file, entry, slide: slide!, physicalSlide: moved.phys, cpus, why, milliseconds });
    },
    signal,
  );
  expectNotInterrupted(signal);
  return { qemu, runs: planned.flatMap((item) => runs.get(item) ?? []), skipped, ...comparable(reference), note: NOTE };
}

/** Nothing may be written after boots that did not take place. */
function expectNotInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new EnvironmentError({ problem: 'command-failed', what: 'interrupted' });
}

function describePlanned({ file, entry, moved, cpus, why }: Planned, slide: Slide | undefined): string {
  const by = `by ${entry}, ${cpus === 1 ? 'one CPU' : `${cpus} CPUs`}`;
  if (file === 'converted') return `the converted kernel, slide ${slide === undefined ? 'unknown' : hex(slide)}, ${by}`;
  return `slide ${hex(moved.virt!)} (${why}), physical ${hex(moved.phys!)}, ${by}`;
}

/** The converted file by each entry; the ends of the range by each entry, one with two CPUs; the others by one, in turn. */
function plan(
  randomizer: Randomizer,
  slots: Slots,
  entries: readonly TrialEntry[],
): { planned: Planned[]; skipped: string[] } {
  const skipped: string[] = [];
  const planned = entries.map((entry, index): Planned => ({
    file: 'converted',
    entry,
    moved: { virt: undefined, phys: undefined },
    cpus: 1 + (index % 2),
    why: 'as it is written',
  }));
  for (const [index, { slide, why }] of chooseSlides(slots).entries())
    for (const [at, entry] of entries.entries()) {
      if (index >= 2 && at !== index % entries.length) continue;
      const moved = findSlides(randomizer, slots, entry, slide);
      if (moved === undefined) skipped.push(`${hex(slide)} (${why}) by ${entry}`);
      else planned.push({ file: 'moved', entry, moved, cpus: index === 1 ? 2 : 1, why });
    }
  return { planned, skipped };
}

/** Slots that a kernel may have to be below the largest, so that what is after it is mapped as well. */
const STEPS_DOWN = 16;

/** What is nearest to `slide` and can be had by this entry. */
function findSlides(
  randomizer: Randomizer,
  { align, count }: Slots,
  entry: TrialEntry,
  slide: Slide,
): { readonly virt: Slide; readonly phys: Slide } | undefined {
  const quarter = Math.floor(count / 4) * align;
  const other = slide === quarter ? quarter + align : quarter;
  const candidates = (entry === 'pvh' ? [slide, 0] : [other, slide, 0]).map((phys) => ({ virt: slide, phys }));
  for (let step = 1; step <= STEPS_DOWN && step * align < slide; step++)
    candidates.push({ virt: slide - step * align, phys: slide - step * align });
  return candidates.find(({ virt, phys }) => {
    try {
      randomizer.randomize({ ...limits(entry), virt, phys });
      return true;
    } catch (error) {
      if (error instanceof KernelImageError && error.code === 'would-not-boot') return false;
      throw error;
    }
  });
}

function limits(entry: TrialEntry): { entry: TrialEntry; memory: number; identityMap: number } {
  return { entry, memory: MAPPED, identityMap: MAPPED };
}
