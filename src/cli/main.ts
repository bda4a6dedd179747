/**
 * The command line. One file a command; this one knows their names, and turns whatever they throw into one line and an exit code:
 * 0 done, 1 a finding (verify, audit), 2 unusable input or arguments, 3 an environment failure (no QEMU, disk full), 70 a bug of ours.
 */
import { Command, CommanderError } from 'commander';
import { describeFailure } from './failure.ts';
import { print } from './print.ts';
import { version } from './version.ts';

/** Adds a command to the program; its action says an exit code other than 0 by the second argument. */
type AddCommand = (program: Command, setExitCode: (code: number) => void) => void;

/** In the order of `--help`. Each is loaded when it is wanted: `convert` should not wait for what `audit` needs. */
const COMMANDS: Record<string, () => Promise<AddCommand>> = {
  convert: async () => (await import('./commands/convert.ts')).addConvert,
  bzimage: async () => (await import('./commands/bzimage.ts')).addBzImage,
  extract: async () => (await import('./commands/extract.ts')).addExtract,
  inspect: async () => (await import('./commands/inspect.ts')).addInspect,
  shuffle: async () => (await import('./commands/shuffle.ts')).addShuffle,
  randomize: async () => (await import('./commands/randomize.ts')).addRandomize,
  relocs: async () => (await import('./commands/relocs.ts')).addRelocs,
  verify: async () => (await import('./commands/verify.ts')).addVerify,
  boot: async () => (await import('./commands/boot.ts')).addBoot,
  audit: async () => (await import('./commands/audit.ts')).addAudit,
  bench: async () => (await import('./commands/bench.ts')).addBench,
  offset: async () => (await import('./commands/offset.ts')).addOffset,
};

/** Runs one command line and gives its exit code; prints, but never exits. */
export async function main(args: readonly string[]): Promise<number> {
  const program = new Command('kslide')
    .description('Makes uncompressed x86-64 Linux kernels randomize themselves: no rebuild, no VMM change.')
    .version(version)
    .exitOverride()
    .configureOutput({ writeOut: print, outputError: () => {} }); // errors are worded below, on one line, as everything else
  let exitCode = 0;
  const setExitCode = (code: number): void => {
    exitCode = code;
  };
  const one = COMMANDS[args[0] ?? ''];
  for (const load of one === undefined ? Object.values(COMMANDS) : [one]) (await load())(program, setExitCode);
  if (args.length === 0) {
    process.stderr.write(program.helpInformation());
    return 2;
  }
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help, --version
    const failure = describeFailure(error);
    process.stderr.write(`kslide: ${failure.text}\n`);
    return failure.exitCode;
  }
}
