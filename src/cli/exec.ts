/** `--exec` of `randomize` and `shuffle`: run a command with a kernel image made for this run alone. */
import type { ImageMaker } from '../node/processes/launch.ts';
import { UsageError } from './failure.ts';

/** As in node/processes/launch.ts, which is not loaded only to print `--help`. */
const PLACEHOLDER = '{}';

export const EXEC_OPTIONS = {
  command: ['[COMMAND...]', `with --exec, after --: the command to run; ${PLACEHOLDER} stands for the image's path`],
  exec: ['--exec', 'run COMMAND with an image made for this run, which disappears when COMMAND ends'],
  execDir: [
    '--exec-dir <DIR>',
    'with --exec: make the image a file in DIR, for commands that close inherited file descriptors',
  ],
} as const;

export interface ExecArguments {
  readonly output?: string;
  readonly exec?: true;
  readonly execDir?: string;
  readonly json?: true;
}

export function refuseBadExec({ output, exec, execDir, json }: ExecArguments, command: readonly string[]): void {
  if (exec) {
    if (output !== undefined) throw new UsageError('--exec and -o do not go together');
    if (json) throw new UsageError("--json and --exec do not go together: standard output is the command's");
    if (command.length === 0) throw new UsageError(`--exec needs a command: --exec -- COMMAND … ${PLACEHOLDER} …`);
    return;
  }
  if (command.length > 0) throw new UsageError(`a command (${command[0]}) without --exec`);
  if (execDir !== undefined) throw new UsageError('--exec-dir without --exec');
}

/** Runs the command to its end. Gives its exit code; when a signal ended it, the same signal ends this process. */
export async function runWithImage(
  image: ImageMaker,
  command: readonly string[],
  directory: string | undefined,
): Promise<number> {
  // Loaded here and not above: the parts of Node that it needs take as long to load as a kernel takes to move.
  const { endLike, launch } = await import('../node/processes/launch.ts');
  return endLike(await launch(image, { command, directory }));
}
