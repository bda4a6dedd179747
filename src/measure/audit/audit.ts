/**
 * Boots a kernel many times and records the slide that each boot printed.
 *
 * The guests have no initramfs: a kernel without one panics in a second or two, and its panic prints the slide. So an audit works with any kernel,
 * and the slide is the kernel's own word. A kernel that may move and still say "disabled" gets an /init that reads /proc/kallsyms
 * (node/qemu/kallsyms-guest.ts).
 */
import { randomBytes } from 'node:crypto';
import { availableParallelism, cpus } from 'node:os';
import { EnvironmentError } from '../../node/errors.ts';
import { kallsymsInitramfs } from '../../node/qemu/kallsyms-guest.ts';
import { boot } from '../../node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../node/qemu/qemu.ts';
import type { AuditImage } from './image.ts';
import type { AuditEntry, AuditMachine, AuditRecord } from './record.ts';
import { inParallel, qemuVersion } from '../many-boots.ts';

/** What each guest is given. */
export interface AuditGuest {
  readonly memoryMib: number;
  /** QEMU's -cpu. */
  readonly cpu: string;
  /** Words to add to the kernel command line. */
  readonly append: string;
  readonly accel: NonNullable<BootOptions['accel']>;
  readonly timeoutMs: number;
}

export interface AuditOptions {
  readonly image: AuditImage;
  readonly entry: AuditEntry;
  readonly guest: AuditGuest;
  /** The boots to do, by their numbers. */
  readonly boots: readonly number[];
  /** Guests at a time. */
  readonly jobs: number;
  readonly signal?: AbortSignal | undefined;
  /** Called when a boot ends: in the order in which they end. */
  readonly onRecord: (record: AuditRecord) => void;
}

/** Characters of a failed boot's console that are kept: the last ones. */
const TAIL = 2_000;

/**
 * Does the boots. When `signal` fires it ends early and without an error; boots under way then leave no record. A guest that fails is a result.
 * Throws EnvironmentError when QEMU itself fails.
 */
export async function runAudit(options: AuditOptions): Promise<void> {
  const { image, entry, guest, onRecord } = options;
  const run = randomBytes(8).toString('hex');
  const host = { cpu: cpus()[0]?.model.trim() ?? 'unknown', cpus: availableParallelism(), qemu: await qemuVersion() };
  const initrd = await kallsymsInitramfs(image.bytes);
  const bootOnce = async (number: number, signal: AbortSignal): Promise<void> => {
    if (signal.aborted) return;
    const result = await boot({ image: image.bytes, entry, initrd, ...guest, signal });
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
      slide: slideOfBoot(result),
      end: result.end,
      ms: result.milliseconds,
      at: new Date().toISOString(),
      machine,
    };
    onRecord(hasFailed(record) ? { ...record, tail: result.console.slice(-TAIL) } : record);
  };
  await inParallel(options.boots, options.jobs, bootOnce, options.signal);
}

/** Whether a boot did not reach the kernel's end, or printed no slide there. A kernel that says that it was not randomized, or does not tell, has not failed: the summary judges that. */
export function hasFailed({ end, slide }: Pick<AuditRecord, 'end' | 'slide'>): boolean {
  return slide === null || (end !== 'panic' && end !== 'poweroff');
}

/**
 * "Kernel Offset: disabled" alone tells neither that the kernel stayed where it is linked nor that it moved. It stayed if its file
 * says so.
 */
export function slideOfBoot({ report, slide }: Pick<BootResult, 'report' | 'slide'>): AuditRecord['slide'] {
  if (report.kaslr !== 'off') return slide ?? null;
  if (slide === undefined) return 'unknown';
  // By the address in kallsyms, 0 is a slide as good as any other: the first slot.
  return slide === 0 && report.slide === undefined ? 'disabled' : slide;
}

function qemuFailed({ errors }: BootResult): EnvironmentError {
  return new EnvironmentError({
    problem: 'command-failed',
    what: `QEMU failed: ${errors.trim().split('\n')[0] || 'it was killed'}`,
  });
}
