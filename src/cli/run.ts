/** Runs one command line: parses it, runs the command, and turns what that throws into one line and an exit code (failure.ts). */
import { Command, CommanderError } from 'commander';
import { describeFailure, EXIT } from './failure.ts';
import { addExamples, HELP } from './help.ts';
import { print, remark } from './print.ts';
import { writeStandard } from '../node/files/standard-streams.ts';
import { version } from './version.ts';

/** A file of commands/: its default export adds the command to the program, whose action passes an exit code other than 0 to `setExitCode`. */
export interface CommandModule {
  readonly default: (program: Command, setExitCode: (code: number) => void) => void;
}

/** The commands by name, in the order of `--help`; each is loaded when it is needed. */
export type Commands = Readonly<Record<string, () => Promise<CommandModule>>>;

/** The program without its commands. The manual and the completions are made of it as well (packaging/manual). */
export function newProgram(): Command {
  return new Command('kslide')
    .description('Makes uncompressed x86-64 Linux kernels randomize themselves: no rebuild, no VMM change.')
    .version(version)
    .configureHelp(HELP);
}

/** Runs one command line and gives its exit code; prints, but never exits. */
export async function run(args: readonly string[], commands: Commands): Promise<number> {
  let help = '';
  const program = newProgram()
    .exitOverride()
    .configureOutput({ writeOut: (text) => void (help += text), outputError: () => {} }); // errors are worded below, on one line, as everything else
  let exitCode = 0;
  const setExitCode = (code: number): void => {
    exitCode = code;
  };
  const one = commands[args[0] ?? ''];
  for (const load of one === undefined ? Object.values(commands) : [one]) (await load()).default(program, setExitCode);
  program.commands.forEach(addExamples);
  try {
    if (args.length === 0) {
      await writeStandard('error', program.helpInformation());
      return EXIT.unusable;
    }
    await parse(program, args);
    await print(help);
    return exitCode;
  } catch (error) {
    const { text, exitCode: failed } = describeFailure(error, one === undefined ? 'kslide' : `kslide ${args[0]}`);
    // When there is nowhere to say it, the environment has failed, whatever else has.
    return remark(text).then(
      () => failed,
      () => EXIT.environment,
    );
  }
}

/** commander throws after it has printed what --help or --version asks for. */
async function parse(program: Command, args: readonly string[]): Promise<void> {
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError && error.exitCode === 0)) throw error;
  }
}
