/**
 * Boots one kernel in all its forms to the same point and says what each took: the measurement behind "KASLR without the decompressor".
 *
 * Under TCG instructions are counted, which no other work on the machine changes; guest.ts says how. Whole boots differ from seed to seed,
 * because the kernel's own work depends on its random numbers (most of all its self-tests of cryptography): hence medians, and the spread.
 * The stub is counted by itself as well.
 * Under KVM time is measured, one guest at a time, the variants taking turns; the stub is still counted under TCG.
 */
import { availableParallelism } from 'node:os';
import { runProgram } from '../../node/processes/run-program.ts';
import { inParallel } from '../parallel.ts';
import { chooseAccel } from './accel.ts';
import { countStub } from './count-stub.ts';
import { packBenchInit } from './init.ts';
import { mapRelocations } from './map.ts';
import { countBoot, timeBoot } from './measure.ts';
import type { GuestSettings, MeasuredBoot } from './measure.ts';
import { readSubject } from './subject.ts';
import type { Subject, SubjectOptions } from './subject.ts';
import { summarize } from './summary.ts';
import type { BenchSummary, StubCount } from './summary.ts';

export interface BenchOptions extends SubjectOptions {
  readonly accel: 'auto' | 'tcg' | 'kvm';
  /** Of each variant; undefined: RUNS. */
  readonly runs?: number | undefined;
  /** A boot that takes longer hangs; undefined: BOOT_MS. */
  readonly timeoutMs?: number | undefined;
  readonly memoryMib: number;
  /** Behind what `boot` always says. */
  readonly append: string;
  /** Its guest has to end by itself: that is then the point measured to. */
  readonly initrd?: Uint8Array | undefined;
  readonly signal?: AbortSignal | undefined;
  /** What is done next. */
  readonly onStep?: ((text: string) => void) | undefined;
}

/** Time is a worse measure than a count, so it takes more of it. */
export const RUNS = { tcg: 5, kvm: 25 } as const;
/** A count takes 3 s where nothing else runs, and many times that on a busy machine. */
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

  options.onStep?.('counting the stub');
  const stubs = await countStubs(subject, settings);
  if (options.accel !== 'tcg') options.onStep?.('trying KVM');
  const { accel, fellBack } = await chooseAccel(subject, settings, options.accel);
  const runs = options.runs ?? RUNS[accel];
  const boots = await measureBoots(subject, settings, { accel, runs, onStep: options.onStep });
  const guest = {
    accel,
    fellBack,
    qemu: await qemuVersion(),
    memoryMib,
    append,
    ownInitrd: options.initrd !== undefined,
  };
  return summarize({ subject, guest, boots, stubs, map: mapRelocations(subject.plain, subject.relocations) });
}

/** Of the kernels that are nothing but `convert`'s: a decompressor before it would only take longer. */
async function countStubs(subject: Subject, settings: GuestSettings): Promise<readonly StubCount[]> {
  const stubs: StubCount[] = [];
  for (const variant of subject.variants) {
    if (variant.stub === undefined || variant.decompressor || variant.nokaslr) continue;
    const nokaslr = subject.variants.find(({ stub, nokaslr: off }) => stub === variant.stub && off)!;
    stubs.push(await countStub(subject, variant, nokaslr, settings));
  }
  return stubs;
}

/** For each variant, in their order, one measurement a run. */
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
  await inParallel(
    turns.flat(),
    accel === 'tcg' ? availableParallelism() : 1,
    async ({ run, variant, index }, failed) => {
      const signal = settings.signal === undefined ? failed : AbortSignal.any([settings.signal, failed]);
      const each = { ...settings, signal };
      const boot = await (accel === 'tcg'
        ? countBoot(subject, variant, each, run + 1)
        : timeBoot(subject, variant, each));
      boots[index]![run] = boot;
      done++;
      show();
    },
  );
  return boots;
}

async function qemuVersion(): Promise<string> {
  const { output } = await runProgram('qemu-system-x86_64', ['--version'], { timeoutMs: 10_000 });
  return /version ([\d.]+)/.exec(output)?.[1] ?? 'unknown';
}
