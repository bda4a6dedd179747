/** `kslide relocs` alone, from the sources; exit codes as main gives them. */
import { Command } from 'commander';
import { RelocsError } from '../../src/cli/failure.ts';
import { addRelocs } from '../../src/cli/relocs.ts';

const program = new Command('kslide').exitOverride().configureOutput({ outputError: () => {} });
addRelocs(program);
try {
  await program.parseAsync(process.argv.slice(2), { from: 'user' });
} catch (error) {
  process.stderr.write(`kslide: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof RelocsError ? error.exitCode : 70;
}
