/** `kslide extract IN`: the vmlinux in a bzImage or UKI, as it was linked, and its relocation table. */
import { isatty } from 'node:tty';
import type { Command } from 'commander';
import { extract } from '../../extract.ts';
import { expectInput } from '../../kernel/input.ts';
import { OutputFile, writeFileAtomic } from '../../node/files/output-file.ts';
import { STDOUT } from '../../node/files/target.ts';
import { UsageError } from '../failure.ts';
import { SHARED } from '../options.ts';
import { addRecoverOptions, readRecover, tellingDoubts } from '../recover.ts';
import type { RecoverArguments } from '../recover.ts';
import { recoveryWarnings } from '../../recover/describe.ts';
import { remark } from '../print.ts';
import { withProgress } from '../progress.ts';
import { readIfGiven, readKernel, refuseOverwriting, refuseSharedStdin } from '../paths.ts';

interface ExtractArguments extends RecoverArguments {
  readonly output?: string;
  readonly relocsOut?: string;
  readonly relocs?: string;
  readonly quiet?: true;
}

export default function addExtract(program: Command): void {
  const command = program
    .command('extract')
    .description('write the vmlinux that a bzImage or UKI contains, and its relocation table')
    .argument(...SHARED.input)
    .option('-o, --output <OUT>', 'vmlinux to write (default: standard output, unless --relocs-out is given)')
    .option('--relocs-out <FILE>', "relocation table to write, in the kernel's format")
    .option(
      '--relocs <FILE>',
      "relocation table to write instead of IN's own: checked against the kernel, and in the kernel's format",
    )
    .option('-q, --quiet', 'print no remarks');
  addRecoverOptions(command).action(run);
}

async function run(input: string, options: ExtractArguments): Promise<void> {
  const { output, relocsOut, relocs, quiet } = options;
  const recover = readRecover(options, relocs);
  const vmlinuxOut = output ?? (relocsOut === undefined ? '-' : undefined);
  if (relocs !== undefined && relocsOut === undefined)
    throw new UsageError('--relocs wants --relocs-out: it changes nothing in the vmlinux');
  if (recover !== undefined && relocsOut === undefined)
    throw new UsageError('--recover wants --relocs-out: it changes nothing in the vmlinux');
  refuseSharedStdin({ IN: input, '--relocs': relocs });
  refuseOverwriting([input, relocs], { '-o': vmlinuxOut, '--relocs-out': relocsOut });
  if (vmlinuxOut === '-' && isatty(STDOUT)) throw new UsageError('standard output is a terminal; name a file with -o');
  const image = await readKernel(input, { onHead: expectInput, quiet });
  const given = await readIfGiven(relocs);
  const file = vmlinuxOut === undefined ? undefined : new OutputFile(vmlinuxOut);
  try {
    const watch = (vmlinux: Uint8Array, end: number): void => file?.begin(vmlinux, end);
    const extracted = await withProgress(quiet === true, (progress) =>
      tellingDoubts(false, () => extract(image, { codecs: progress.codecs(), relocs: given, watch, recover })),
    );
    // Before the vmlinux is finished: a kernel without a table must not leave a vmlinux either.
    const table = relocsOut === undefined ? undefined : extracted.relocs();
    await file?.finish([extracted.vmlinux]);
    const { payloadNote } = extracted;
    if (payloadNote !== undefined && !quiet) await remark(`${input}: ${payloadNote}`);
    for (const warning of extracted.recovered === undefined ? [] : recoveryWarnings(extracted.recovered))
      await remark(`warning: ${warning}`);
    if (relocsOut !== undefined && table !== undefined) await writeFileAtomic(relocsOut, [table]);
  } finally {
    await file?.discard();
  }
}
