/**
 * Boots one kernel in all its forms to the same point and reports what each boot cost: how much KASLR costs with and without the decompressor.
 *
 * Under TCG it counts instructions, which no other work on the machine changes; guest.ts says how. Whole boots differ from seed to seed, because the
 * kernel's own work depends on its random numbers (most of all its self-tests of cryptography). So there are several boots, and their median and
 * spread count. The stub is also counted by itself.
 *
 * Under KVM it measures time, one guest at a time, the variants taking turns. The stub is still counted under TCG.
 */
import { availableParallelism } from 'node:os';
import { inParallel, qemuVersion } from '../many-boots.ts';
import { chooseAccel } from './accel.ts';
import { countStub } from './count-stub.ts';
import { packBenchInit } from './init.ts';
import { mapRelocations } from './map.ts';
import { countBoot, timeBoot } from './measure.ts';
import type { GuestSettings, MeasuredBoot } from './measure.ts';
import { readSubject } from './subject.ts';
import type { Subject, SubjectOptions, Variant } from './subject.ts';
import { summarizeBench } from './summary.ts';
import type { BenchSummary, StubCount } from './summary.ts';

export interface BenchOptions extends SubjectOptions {
  readonly accel: 'auto' | 'tcg' | 'kvm';
  /** Boots of each variant; undefined: RUNS. */
  readonly runs?: number | undefined;
  /** A boot that takes longer has failed; undefined: BOOT_MS. */
  readonly timeoutMs?: number | undefined;
  readonly memoryMib: number;
  /** Words to add to the kernel command line, after those that `boot` always passes. */
  readonly append: string;
  /** An initramfs whose guest ends by itself: boots are then measured to that end. */
  readonly initrd?: Uint8Array | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with what is done next. */
  readonly onStep?: ((text: string) => void) | undefined;
}

/** Times vary more than counts, so more boots are needed. */
export const RUNS = { tcg: 5, kvm: 25 } as const;
/** A counted boot takes 3 s where nothing else runs, and many times that on a busy machine. */
const BOOT_MS = 600_000;

/** Throws KernelImageError for a kernel that cannot be converted or does not boot, and EnvironmentError when QEMU fails. */
export async function runBench(file: Uint8Array, options: BenchOptions): Promise<BenchSummary> {
  options.onStep?.('converting the kernel');
  const subject = await readSubject(file, options);
  const { memoryMib, append, signal } = options;
  const settings: GuestSettings = {
    memoryMib,
    append,
    initrd: options.initrd ?? packBenchInit(),
    point: options.initrd === undefined ? 'init' : 'end',
    timeoutMs: options.timeoutMs ?? BOOT_MS,
    signal,
  };

  if (options.accel !== 'tcg') options.onStep?.('trying KVM');
  const { accel, fellBack } = await chooseAccel(subject, settings, options.accel);
  const runs = options.runs ?? RUNS[accel];
  const boots = await measureBoots(subject, settings, { accel, runs, onStep: options.onStep });
  options.onStep?.('counting the stub');
  const stubs = await countStubs(subject, settings);
  const guest = {
    accel,
    fellBack,
    qemu: await qemuVersion(),
    memoryMib,
    append,
    ownInitrd: options.initrd !== undefined,
  };
  return summarizeBench({ subject, guest, boots, stubs, map: mapRelocations(subject.plain, subject.relocations) });
}

/** Counts the stubs of vmlinux images only: in a bzImage the same stub would run after a decompressor, which takes longer. */
async function countStubs(subject: Subject, settings: GuestSettings): Promise<readonly StubCount[]> {
  const stubs: StubCount[] = [];
  for (const variant of subject.variants) {
    if (variant.stub === undefined || variant.decompressor || variant.nokaslr) continue;
    const nokaslr = subject.variants.find(({ stub, nokaslr: off }) => stub === variant.stub && off)!;
    stubs.push(await countStub(subject, variant, nokaslr, settings));
  }
  return stubs;
}

interface Turn {
  readonly run: number;
  readonly variant: Variant;
  readonly index: number;
}

/** For each variant, in their order, one measurement per run. */
async function measureBoots(
  subject: Subject,
  settings: GuestSettings,
  { accel, runs, onStep }: { readonly accel: 'tcg' | 'kvm'; readonly runs: number } & Pick<BenchOptions, 'onStep'>,
): Promise<readonly (readonly MeasuredBoot[])[]> {
  const boots = subject.variants.map((): MeasuredBoot[] => []);
  const turns = Array.from({ length: runs }, (_, run) =>
    subject.variants.map((variant, index) => ({ run, variant, index })),
  );
  const total = runs * subject.variants.length;
  let done = 0;
  const show = (): void => onStep?.(`${done} of ${total} boots (${accel})`);
  show();
  const measureOne = async ({ run, variant, index }: Turn, signal: AbortSignal): Promise<void> => {
    const each = { ...settings, signal };
    const boot = await (accel === 'tcg'
      ? countBoot(subject, variant, each, run + 1)
      : timeBoot(subject, variant, each));
    boots[index]![run] = boot;
    done++;
    show();
  };
  // The kernel as it was given goes first, by itself: if it does not boot here, that is what is said, and not that a converted one does not.
  const inOrder = turns.flat();
  const isFirst = ({ run, variant }: Turn): boolean => run === 0 && variant.stub === undefined;
  const measure = (part: readonly Turn[]): Promise<void> =>
    inParallel(part, accel === 'tcg' ? availableParallelism() : 1, measureOne, settings.signal);
  await measure(inOrder.filter(isFirst));
  await measure(inOrder.filter((turn) => !isFirst(turn)));
  return boots;
}
