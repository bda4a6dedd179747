/**
 * How a command ends: its exit code, and for each kind of failure the one line on standard error.
 *
 *     code  meaning
 *     0     done
 *     1     a finding: `verify` refutes, `audit` finds a fault or has too few boots to tell, the guest of `boot` neither panics nor powers off, `offset` finds no slide, `doctor` misses something, recovered relocations have doubts or fail a trial
 *     2     unusable input or arguments
 *     3     the environment failed: no QEMU, disk full, out of memory, a standard stream that cannot be written
 *     70    a bug in kslide (EX_SOFTWARE of sysexits.h)
 *
 * Two exceptions. `relocs` replaces the kernel's own tool in build scripts, so it exits with 1 for everything that the kernel's tool refuses,
 * bad command lines included. `--exec` ends as the command that it runs ends.
 */
import { CommanderError } from 'commander';
import { KernelImageError } from '../base/errors.ts';
import { oneLine } from '../base/text.ts';
import { TrialError } from '../measure/trial/trial.ts';
import { DoubtsError } from '../recover/choose.ts';
import { DiskError, EnvironmentError, InputFileError, isSystemError, OutputFileError } from '../node/errors.ts';
import { describeBug, outOfMemory } from './reports/failure.ts';

export const EXIT = { done: 0, finding: 1, unusable: 2, environment: 3, bug: 70 } as const;

/** Arguments that contradict each other, or make no sense. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** In `relocs`, any input or command line that the kernel's tool would also refuse. The message is one line. */
export class RelocsError extends Error {
  override readonly name = 'RelocsError';
  readonly exitCode = 1;
}

export interface Failure {
  readonly text: string;
  readonly exitCode: number;
}

/** `command`: as the user types it, to point to its help where the command line is not understood. */
export function describeFailure(error: unknown, command: string): Failure {
  if (error instanceof CommanderError) {
    // commander says on a line of its own what may have been meant.
    const text = oneLine(error.message.replace(/^error: /, '').replace('\n', ' '));
    return { text: `${text}; see ${command} --help`, exitCode: EXIT.unusable };
  }
  if (error instanceof KernelImageError || error instanceof UsageError)
    return { text: error.message, exitCode: EXIT.unusable };
  if (error instanceof DoubtsError)
    return {
      text: `${error.message}: decide each with --site or --not-site, or leave all of them as they are with --accept-doubts`,
      exitCode: EXIT.finding,
    };
  if (error instanceof TrialError) return { text: error.message, exitCode: EXIT.finding };
  if (error instanceof InputFileError || error instanceof OutputFileError)
    return { text: error.message, exitCode: EXIT.unusable };
  if (error instanceof DiskError || error instanceof EnvironmentError)
    return { text: firstLine(error.message), exitCode: EXIT.environment };
  const exhausted = outOfMemory(error);
  if (exhausted !== undefined) return { text: exhausted, exitCode: EXIT.environment };
  // One that nobody expected: too many open files, a device that fails.
  if (isSystemError(error)) return { text: firstLine(error.message), exitCode: EXIT.environment };
  if (error instanceof RelocsError) return { text: error.message, exitCode: error.exitCode };
  return { text: describeBug(error), exitCode: EXIT.bug };
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? text;
}
