/** Whether a bench counts instructions under TCG or measures time under KVM. */
import { EnvironmentError } from '../../node/errors.ts';
import { packBenchInit } from './init.ts';
import { timeBoot } from './measure.ts';
import type { GuestSettings } from './measure.ts';
import { PLAIN } from './subject.ts';
import type { Subject } from './subject.ts';

export interface ChosenAccel {
  readonly accel: 'tcg' | 'kvm';
  /** `auto` was asked for, and KVM cannot run this kernel here. */
  readonly fellBack: boolean;
}

/** A boot to /init takes about one second under KVM, perhaps ten when KVM is nested. */
const PROBE_MS = 20_000;

/**
 * Opening /dev/kvm proves nothing: on some machines it opens, and stock kernels still do not run. So the probe is a whole boot of the plain vmlinux.
 * Throws EnvironmentError when `kvm` was asked for and the probe fails.
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
