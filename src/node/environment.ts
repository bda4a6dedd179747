/** What the machine lacks: a program, a package, the network. Never the fault of a kernel image, so not a KernelImageError. */

/** Stable names, as in errors.ts. */
export type EnvironmentProblem = 'missing-program' | 'no-kernel' | 'command-failed';

export interface EnvironmentErrorData {
  readonly problem: EnvironmentProblem;
  /** What is wrong, as a sentence without its full stop. */
  readonly what: string;
  /** The exact command that a person can run against it. */
  readonly command?: string | undefined;
  /** What else helps, as a phrase that follows "or". */
  readonly otherwise?: string | undefined;
  readonly cause?: unknown;
}

/** Exit code 3 at the command line. */
export class EnvironmentError extends Error {
  readonly problem: EnvironmentProblem;
  /** What is wrong, without the remedies. */
  readonly what: string;
  /** The exact command that a person can run against it. */
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

/** The Debian and Ubuntu package of each program that kslide, its tests or its benchmarks start. */
const PACKAGE: Record<string, string> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  'apt-get': 'apt',
  'apt-cache': 'apt',
  'dpkg-deb': 'dpkg',
  xz: 'xz-utils',
  lzma: 'xz-utils',
  '/usr/bin/time': 'time',
};

/** The error for a program that is not in PATH. */
export function missingProgram(program: string, cause?: unknown): EnvironmentError {
  return new EnvironmentError({
    problem: 'missing-program',
    what: `${program} is not installed`,
    command: `apt-get install ${PACKAGE[program] ?? program}`,
    cause,
  });
}
