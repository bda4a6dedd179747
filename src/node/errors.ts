/**
 * What can go wrong outside of a kernel image, and the words for it. Faults of the image itself are KernelImageError (base/errors.ts).
 *
 * - EnvironmentError: the machine lacks a program, a package or the network.
 * - InputFileError, OutputFileError: the user has to name another file.
 * - DiskError: the file is the right one, but the machine could not read or write it.
 *
 * A system error of Node (ENOENT, ENOSPC, EPIPE …) becomes one of the file errors here, in the system's own words.
 */
import { getSystemErrorMap } from 'node:util';
import { oneLine } from '../base/text.ts';

/** Stable names, as the codes in base/errors.ts. */
export type EnvironmentProblem = 'missing-program' | 'no-kernel' | 'command-failed';

export interface EnvironmentErrorData {
  readonly problem: EnvironmentProblem;
  /** What is wrong, as a sentence without its full stop. */
  readonly what: string;
  /** The exact command to run. */
  readonly command?: string | undefined;
  /** Another remedy, as a phrase that follows "or". */
  readonly otherwise?: string | undefined;
  readonly cause?: unknown;
}

/** Exit code 3 at the command line. */
export class EnvironmentError extends Error {
  readonly problem: EnvironmentProblem;
  /** What is wrong, without the remedies. */
  readonly what: string;
  /** The exact command to run. */
  readonly command: string | undefined;

  constructor({ problem, what, command, otherwise, cause }: EnvironmentErrorData) {
    const remedies = [command === undefined ? undefined : `run: ${command}`, otherwise].filter(
      (it) => it !== undefined,
    );
    super(
      [what, remedies.join(', or ')].filter((it) => it !== '').join('; '),
      cause === undefined ? undefined : { cause },
    );
    this.name = 'EnvironmentError';
    this.problem = problem;
    this.what = what;
    this.command = command;
  }
}

/** Where its name is not the program's: of the programs that kslide, its tests or its benchmarks start. */
const PACKAGE: Record<string, string> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  'apt-get': 'apt',
  'apt-cache': 'apt',
  'dpkg-deb': 'dpkg',
  xz: 'xz-utils',
  lzma: 'xz-utils',
  '/usr/bin/time': 'time',
};

/** The package of Debian and Ubuntu that has a program. */
export const packageOf = (program: string): string => PACKAGE[program] ?? program;

/** The error for a program that is not in PATH. */
export function missingProgram(program: string, cause?: unknown): EnvironmentError {
  return new EnvironmentError({
    problem: 'missing-program',
    what: `${program} is not installed`,
    command: `apt-get install ${packageOf(program)}`,
    cause,
  });
}

class FileError extends Error {
  /** As the user gave it, or "standard input" and "standard output". */
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string, cause?: unknown) {
    super(`${oneLine(path)}: ${oneLine(reason)}`, cause === undefined ? undefined : { cause });
    this.path = path;
    this.reason = reason;
  }
}

/** An input that cannot be read: the user has to name another file. */
export class InputFileError extends FileError {
  override readonly name = 'InputFileError';
}

/** An output that cannot be written under that name: a directory, no permission, the input itself. */
export class OutputFileError extends FileError {
  override readonly name = 'OutputFileError';
}

/** The name is right, but the machine failed: disk full, I/O error, a reader that went away. */
export class DiskError extends FileError {
  override readonly name = 'DiskError';
}

/** Errors that another path can avoid. All others are the machine's. */
const WRONG_PATH = new Set([
  'EACCES',
  'EEXIST',
  'EISDIR',
  'ELOOP',
  'ENAMETOOLONG',
  'ENOENT',
  'ENOTDIR',
  'ENXIO',
  'EPERM',
  'EROFS',
]);

/** The error for a system error that came while writing to `name`. */
export function outputError(name: string, error: NodeJS.ErrnoException): FileError {
  if (WRONG_PATH.has(error.code ?? '')) return new OutputFileError(name, reasonOf(error), error);
  return streamError(name, error);
}

/** The same for a standard stream, which has no other path: whatever goes wrong is the machine's. */
export function streamError(name: string, error: NodeJS.ErrnoException): DiskError {
  return new DiskError(name, error.code === 'EPIPE' ? 'its reader closed it' : reasonOf(error), error);
}

/** An error of a system call, as Node throws it. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'errno' in error;
}

/** The system's words for an error number, without the call and the path that Node adds. */
export function reasonOf(error: NodeJS.ErrnoException): string {
  return getSystemErrorMap().get(error.errno ?? 0)?.[1] ?? error.message;
}
