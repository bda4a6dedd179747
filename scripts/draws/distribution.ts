/**
 * Repeats the stub's choice of a slide a million times, without a million boots, with each source of entropy alone.
 *
 * This shows that the stub makes an even choice from the entropy that it gets. It does not show how good the sources are: RDRAND in an emulated guest
 * is the host's random number generator; TSC values follow each other closely here (which is harder for the mixing, but is not the case of two boots);
 * and the boot loader's seeds come from this program's own generator.
 */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Slots } from '../../src/kaslr/slots.ts';
import { runProgram } from '../../src/node/processes/run-program.ts';
import { boot } from '../../src/node/qemu/qemu.ts';
import type { BootOptions } from '../../src/node/qemu/qemu.ts';
import { assembleDrawProgram, readDrawCounts, SEED_WORDS } from './draw-program.ts';
import type { CpuidMask, DrawCounts } from './draw-program.ts';

const RDRAND = 1 << 30;
const TSC = 1 << 4;
const RDSEED = 1 << 18;

interface Source {
  /** The CPU features that a process is told about. */
  readonly mask: CpuidMask;
  /** The machine that QEMU gives a guest; undefined if QEMU's emulation lacks the source (RDSEED: up to 7.2 at least). */
  readonly guest: Partial<BootOptions> | undefined;
}

/** The timer chip is the stub's last resort, so the machine for `seed` has none: otherwise the seed would not be the only source. */
const SOURCES = {
  all: { mask: { leaf1Ecx: RDRAND, leaf1Edx: TSC, leaf7Ebx: RDSEED }, guest: { cpu: 'max' } },
  rdseed: { mask: { leaf1Ecx: 0, leaf1Edx: 0, leaf7Ebx: RDSEED }, guest: undefined },
  rdrand: { mask: { leaf1Ecx: RDRAND, leaf1Edx: 0, leaf7Ebx: 0 }, guest: { cpu: 'max,-rdseed,-tsc' } },
  tsc: { mask: { leaf1Ecx: 0, leaf1Edx: TSC, leaf7Ebx: 0 }, guest: { cpu: 'max,-rdseed,-rdrand' } },
  seed: {
    mask: { leaf1Ecx: 0, leaf1Edx: 0, leaf7Ebx: 0 },
    guest: { cpu: 'max,-rdseed,-rdrand,-tsc', machine: 'microvm,pit=off' },
  },
} as const satisfies Record<string, Source>;

export type EntropySource = keyof typeof SOURCES;
export const ENTROPY_SOURCES = Object.keys(SOURCES) as readonly EntropySource[];

export interface DrawOptions {
  readonly slots: Slots;
  readonly draws: number;
  readonly timeoutMs?: number | undefined;
}

export interface Draws extends DrawCounts {
  readonly milliseconds: number;
}

const TIMEOUT_MS = 1_800_000;

/** Whether `drawInGuest` can use this source; QEMU's emulation lacks RDSEED. */
export function guestHas(source: EntropySource): boolean {
  return SOURCES[source].guest !== undefined;
}

/** Makes the choices in a QEMU guest. Throws an Error with the guest's console if the guest does not finish. */
export async function drawInGuest(source: EntropySource, { slots, draws, timeoutMs }: DrawOptions): Promise<Draws> {
  const { guest } = SOURCES[source];
  if (guest === undefined) throw new RangeError(`no guest has ${source} alone`);
  const reseed = source === 'seed';
  const { console, end, errors, milliseconds } = await boot({
    image: assembleDrawProgram({ slots, draws, cpuid: 'guest', reseed }),
    entry: 'linux64',
    // xorshift starts from its last word, which must not be 0.
    linux64: reseed ? { rngSeed: new Uint8Array(SEED_WORDS * 8).fill(1) } : {},
    memoryMib: 64,
    timeoutMs: timeoutMs ?? TIMEOUT_MS,
    ...guest,
  });
  const counts = readDrawCounts(console, slots.count);
  if (counts === undefined) throw new Error(`the guest ended by ${end}: ${errors}${console.slice(-500)}`);
  return { ...counts, milliseconds };
}

/** Makes the choices in a process, with this machine's own CPU: x86-64 Linux only. Throws an Error if the process does not finish. */
export async function drawInProcess(source: EntropySource, { slots, draws, timeoutMs }: DrawOptions): Promise<Draws> {
  const program = assembleDrawProgram({ slots, draws, cpuid: SOURCES[source].mask, reseed: source === 'seed' });
  const folder = await mkdtemp(join(tmpdir(), 'kslide-draw-'));
  try {
    const path = join(folder, 'draw');
    await writeFile(path, program);
    await chmod(path, 0o700);
    const { output, code, by, milliseconds } = await runProgram(path, [], { timeoutMs: timeoutMs ?? TIMEOUT_MS });
    const counts = readDrawCounts(output, slots.count);
    if (counts === undefined) throw new Error(`the process ended by ${by}, exit code ${code}`);
    return { ...counts, milliseconds };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
