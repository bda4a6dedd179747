/** Which exit code and which one line each kind of failure gets. */
import { CommanderError } from 'commander';
import { KernelImageError } from '../base/errors.ts';
import { EnvironmentError } from '../node/errors.ts';
import { DiskError, InputFileError, OutputFileError } from '../node/errors.ts';

/** Arguments that do not go together, or make no sense. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What the kernel's relocs tool refuses as well, with its exit code. The message is one line. */
export class RelocsError extends Error {
  override readonly name = 'RelocsError';
  readonly exitCode = 1;
}

export interface Failure {
  readonly text: string;
  readonly exitCode: number;
}

const UNUSABLE = 2;
const ENVIRONMENT = 3;
/** EX_SOFTWARE of sysexits.h: none of the documented outcomes. */
const BUG = 70;

export function describeFailure(error: unknown): Failure {
  if (error instanceof CommanderError)
    return { text: firstLine(error.message.replace(/^error: /, '')), exitCode: UNUSABLE };
  if (error instanceof KernelImageError || error instanceof UsageError)
    return { text: error.message, exitCode: UNUSABLE };
  if (error instanceof InputFileError || error instanceof OutputFileError)
    return { text: error.message, exitCode: UNUSABLE };
  if (error instanceof DiskError || error instanceof EnvironmentError)
    return { text: firstLine(error.message), exitCode: ENVIRONMENT };
  if (error instanceof RangeError && /allocation failed/i.test(error.message))
    return { text: 'out of memory', exitCode: ENVIRONMENT };
  if (error instanceof RelocsError) return { text: error.message, exitCode: error.exitCode };
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { text: `internal error, please report it: ${stack}`, exitCode: BUG };
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? text;
}
