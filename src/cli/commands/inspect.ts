/** `kslide inspect IN`: what a kernel is, where its relocations lie, and how large each way to carry them is. */
import type { Command } from 'commander';
import { inspect } from '../../inspect.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { readInputFile } from '../../node/files/input-file.ts';
import { UsageError } from '../failure.ts';
import { print } from '../print.ts';
import { Progress } from '../progress.ts';
import { reportInspect } from '../reports/inspect.ts';

interface InspectArguments {
  readonly relocs?: string;
  readonly json?: true;
  readonly quiet?: true;
}

export function addInspect(program: Command): void {
  program
    .command('inspect')
    .description('describe a kernel, where its relocations lie, and the size of each way to carry them')
    .argument('<IN>', 'bzImage, UKI or vmlinux, converted or not; - is standard input')
    .option('--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs) to take, whatever IN carries")
    .option('--json', 'print the description as JSON')
    .option('--quiet', 'print nothing: the exit code says whether it could be read')
    .action(run);
}

async function run(path: string, { relocs, json, quiet }: InspectArguments): Promise<void> {
  if (path === '-' && relocs === '-') throw new UsageError('IN and --relocs both want standard input');
  const progress = new Progress(quiet === true);
  try {
    progress.show('reading the kernel');
    const file = await readInputFile(path);
    const table = relocs === undefined ? undefined : await readInputFile(relocs);
    const inspection = await inspect(file, { codecs: nodeCodecs, relocs: table });
    progress.clear();
    if (json) print(`${JSON.stringify(inspection, null, 2)}\n`);
    else if (!quiet) print(reportInspect(inspection));
  } finally {
    progress.clear();
  }
}
