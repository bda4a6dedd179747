/** `kslide inspect IN`: what a kernel is, where its relocations are, and how large each way to store them is. */
import type { Command } from 'commander';
import { inspect } from '../../inspect.ts';
import { readIfGiven, readKernel, refuseSharedStdin } from '../paths.ts';
import { printResult } from '../print.ts';
import { withProgress } from '../progress.ts';
import { reportInspect } from '../reports/inspect.ts';

interface InspectArguments {
  readonly relocs?: string;
  readonly json?: true;
  readonly quiet?: true;
}

export default function addInspect(program: Command): void {
  program
    .command('inspect')
    .description('describe a kernel, where its relocations are, and how large each way to store them is')
    .argument('<IN>', 'bzImage, UKI or vmlinux, converted or not; - is standard input')
    .option('--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs) to use instead of IN's own")
    .option('--json', 'print the description as JSON')
    .option('-q, --quiet', 'print nothing: the exit code says whether IN could be read')
    .action(run);
}

async function run(path: string, options: InspectArguments): Promise<void> {
  const { relocs, quiet } = options;
  refuseSharedStdin({ IN: path, '--relocs': relocs });
  const inspection = await withProgress(quiet === true, async (progress) => {
    progress.show('reading the kernel');
    const file = await readKernel(path, { quiet, progress });
    return inspect(file, { codecs: progress.codecs(), relocs: await readIfGiven(relocs) });
  });
  await printResult(inspection, () => reportInspect(inspection), options);
}
