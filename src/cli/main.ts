/** The command line: one file a command in commands/, and its name here. */
import { run } from './run.ts';
import type { Commands } from './run.ts';

/** In the order of `--help`. scripts/bundle.js makes a file of each command, so a name here is the name of its file in commands/. */
export const COMMANDS: Commands = {
  convert: () => import('./commands/convert.ts'),
  bzimage: () => import('./commands/bzimage.ts'),
  extract: () => import('./commands/extract.ts'),
  inspect: () => import('./commands/inspect.ts'),
  shuffle: () => import('./commands/shuffle.ts'),
  randomize: () => import('./commands/randomize.ts'),
  relocs: () => import('./commands/relocs.ts'),
  verify: () => import('./commands/verify.ts'),
  boot: () => import('./commands/boot.ts'),
  audit: () => import('./commands/audit.ts'),
  bench: () => import('./commands/bench.ts'),
  offset: () => import('./commands/offset.ts'),
  doctor: () => import('./commands/doctor.ts'),
};

/** Runs one command line and gives its exit code; prints, but never exits. */
export function main(args: readonly string[]): Promise<number> {
  return run(args, COMMANDS);
}
