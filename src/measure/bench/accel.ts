/** Whether boots are counted or timed. */
import { EnvironmentError } from '../../node/errors.ts';
import { packBenchInit } from './init.ts';
import { timeBoot } from './measure.ts';
import type { GuestSettings } from './measure.ts';
import { PLAIN } from './subject.ts';
import type { Subject } from './subject.ts';

export interface ChosenAccel {
  readonly accel: 'tcg' | 'kvm';
  /** KVM was to be taken if it runs a guest here, and does not. */
  readonly fellBack: boolean;
}

/** KVM needs about one second to /init, nested perhaps ten. */
const PROBE_MS = 20_000;

/**
 * That /dev/kvm opens proves nothing (on some machines it does, and stock kernels do not run), so a whole boot of the plain vmlinux is the
 * probe. Throws EnvironmentError when KVM is what was asked for.
 */
export async function chooseAccel(
  subject: Subject,
  settings: GuestSettings,
  asked: 'auto' | 'tcg' | 'kvm',
  probeMs = PROBE_MS,
): Promise<ChosenAccel> {
  if (asked === 'tcg') return { accel: 'tcg', fellBack: false };
  const plain = subject.variants.find(({ name }) => name === PLAIN)!;
  const probe: GuestSettings = { ...settings, initrd: packBenchInit(), point: 'init', timeoutMs: probeMs };
  try {
    await timeBoot(subject, plain, probe);
    return { accel: 'kvm', fellBack: false };
  } catch (error) {
    if (settings.signal?.aborted === true) throw error;
    if (asked === 'auto') return { accel: 'tcg', fellBack: true };
    const reason = error instanceof Error ? error.message : String(error);
    throw new EnvironmentError({
      problem: 'command-failed',
      what: `KVM does not run this kernel here: ${reason}`,
      otherwise: '--accel tcg counts instructions instead',
      cause: error,
    });
  }
}
