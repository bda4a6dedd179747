/**
 * The command line. One file a command; this one knows their names, and turns whatever they throw into one line and an exit code:
 * 0 done, 1 a finding (verify, audit), 2 unusable input or arguments, 3 an environment failure (no QEMU, disk full), 70 a bug of ours.
 */
import { Command, CommanderError } from 'commander';
import { addBoot } from './boot.ts';
import { addConvert } from './convert.ts';
import { addExtract } from './extract.ts';
import { describeFailure } from './failure.ts';
import { addRelocs } from './relocs.ts';
import { version } from './version.ts';

/** Runs one command line and gives its exit code; prints, but never exits. */
export async function main(args: readonly string[]): Promise<number> {
  const program = new Command('kslide')
    .description('Makes uncompressed x86-64 Linux kernels randomize themselves: no rebuild, no VMM change.')
    .version(version)
    .exitOverride()
    .configureOutput({ outputError: () => {} }); // worded below, on one line, as everything else
  let exitCode = 0;
  const setExitCode = (code: number): void => {
    exitCode = code;
  };
  addConvert(program);
  addExtract(program);
  addRelocs(program);
  addBoot(program, setExitCode);
  if (args.length === 0) {
    process.stderr.write(program.helpInformation());
    return 2;
  }
  // A reader that has seen enough is no failure of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
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
