/** Runs one command line: parses it, runs the command, and turns what that throws into one line and an exit code (failure.ts). */
import { Command, CommanderError } from 'commander';
import { describeFailure, EXIT } from './failure.ts';
import { print } from './print.ts';
import { version } from './version.ts';

/** A file of commands/: its default export adds the command to the program, whose action passes an exit code other than 0 to `setExitCode`. */
export interface CommandModule {
  readonly default: (program: Command, setExitCode: (code: number) => void) => void;
}

/** The commands by name, in the order of `--help`; each is loaded when it is needed. */
export type Commands = Readonly<Record<string, () => Promise<CommandModule>>>;

/** Runs one command line and gives its exit code; prints, but never exits. */
export async function run(args: readonly string[], commands: Commands): Promise<number> {
  const program = new Command('kslide')
    .description('Makes uncompressed x86-64 Linux kernels randomize themselves: no rebuild, no VMM change.')
    .version(version)
    .exitOverride()
    .configureOutput({ writeOut: print, outputError: () => {} }); // errors are worded below, on one line, as everything else
  let exitCode = 0;
  const setExitCode = (code: number): void => {
    exitCode = code;
  };
  const one = commands[args[0] ?? ''];
  for (const load of one === undefined ? Object.values(commands) : [one]) (await load()).default(program, setExitCode);
  if (args.length === 0) {
    process.stderr.write(program.helpInformation());
    return EXIT.unusable;
  }
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.done; // --help, --version
    const failure = describeFailure(error);
    process.stderr.write(`kslide: ${failure.text}\n`);
    return failure.exitCode;
  }
}
