/**
 * Boots a kernel again and again and keeps what each boot said.
 *
 * No initramfs: a kernel without one panics in a second or two, and its panic prints the slide. So the audit works with any kernel, and
 * asks nobody but the kernel itself.
 */
import { randomBytes } from 'node:crypto';
import { availableParallelism, cpus } from 'node:os';
import { EnvironmentError } from '../../node/errors.ts';
import { runProgram } from '../../node/processes/run-program.ts';
import { boot } from '../../node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../node/qemu/qemu.ts';
import type { AuditImage } from './image.ts';
import type { AuditEntry, AuditMachine, AuditRecord } from './record.ts';
import { inParallel } from '../parallel.ts';

/** What each guest is given. */
export interface AuditGuest {
  readonly memoryMib: number;
  /** QEMU's -cpu. */
  readonly cpu: string;
  /** Further words on the kernel command line. */
  readonly append: string;
  readonly accel: NonNullable<BootOptions['accel']>;
  readonly timeoutMs: number;
}

export interface AuditOptions {
  readonly image: AuditImage;
  readonly entry: AuditEntry;
  readonly guest: AuditGuest;
  /** Numbers of the boots to do. */
  readonly boots: readonly number[];
  /** Guests at a time. */
  readonly jobs: number;
  readonly signal?: AbortSignal | undefined;
  /** As each boot ends, in that order. */
  readonly onRecord: (record: AuditRecord) => void;
}

/** How much of a failed boot's console is kept. */
const TAIL = 2_000;

/**
 * Does the boots. Ends early, and without an error, when `signal` fires: boots under way are then as if never begun. A guest that fails is
 * a result; QEMU that fails is an EnvironmentError.
 */
export async function runAudit(options: AuditOptions): Promise<void> {
  const { image, entry, guest, onRecord } = options;
  const run = randomBytes(8).toString('hex');
  const host = { cpu: cpus()[0]?.model.trim() ?? 'unknown', cpus: availableParallelism(), qemu: await qemuVersion() };
  await inParallel(options.boots, options.jobs, async (number, failed) => {
    const signal = options.signal === undefined ? failed : AbortSignal.any([options.signal, failed]);
    if (signal.aborted) return;
    const result = await boot({ image: image.bytes, entry, ...guest, signal });
    if (result.end === 'aborted') return;
    if (result.end === 'qemu-error') throw qemuFailed(result);
    const { memoryMib, cpu, append } = guest;
    const machine: AuditMachine = { ...host, accel: result.accel, guest: { memoryMib, cpu, append } };
    const record = {
      id: `${run}-${number}`,
      image: image.hash,
      slots: image.slots ?? null,
      entry,
      boot: number,
      slide: slideSaid(result),
      end: result.end,
      ms: result.milliseconds,
      at: new Date().toISOString(),
      machine,
    };
    onRecord(hasFailed(record) ? { ...record, tail: result.console.slice(-TAIL) } : record);
  });
}

/** A kernel that came to its panic and said where it is, or that it is where it was linked: the latter is judged by whoever knows whether it should be. */
export function hasFailed({ end, slide }: Pick<AuditRecord, 'end' | 'slide'>): boolean {
  return slide === null || (end !== 'panic' && end !== 'poweroff');
}

function slideSaid({ console, slide }: BootResult): AuditRecord['slide'] {
  return console.includes('Kernel Offset: disabled') ? 'disabled' : (slide ?? null);
}

async function qemuVersion(): Promise<string> {
  const { output } = await runProgram('qemu-system-x86_64', ['--version'], { timeoutMs: 10_000 });
  return /version ([\d.]+)/.exec(output)?.[1] ?? 'unknown';
}

function qemuFailed({ errors }: BootResult): EnvironmentError {
  return new EnvironmentError({
    problem: 'command-failed',
    what: `QEMU failed: ${errors.trim().split('\n')[0] || 'it was killed'}`,
  });
}
