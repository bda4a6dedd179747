/** `kslide extract IN`: the vmlinux out of a bzImage or UKI, as it was linked, and its relocation table. */
import type { Command } from 'commander';
import { extract } from '../../extract.ts';
import { expectInput } from '../../kernel/open.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { readInputFile, refuseSameFile } from '../../node/files/input-file.ts';
import { OutputFile, writeFileAtomic } from '../../node/files/output-file.ts';
import { UsageError } from '../failure.ts';

interface ExtractArguments {
  readonly output?: string;
  readonly relocsOut?: string;
  readonly relocs?: string;
}

export function addExtract(program: Command): void {
  program
    .command('extract')
    .description('write the vmlinux that a bzImage or UKI holds, and its relocation table')
    .argument('<IN>', 'bzImage, UKI, or vmlinux with its relocations; - is standard input')
    .option('-o, --output <OUT>', 'the vmlinux to write; standard output when neither option is given')
    .option('--relocs-out <FILE>', "the relocation table to write, in the kernel's format")
    .option('--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs) of a vmlinux that carries none")
    .action(run);
}

async function run(input: string, { output, relocsOut, relocs }: ExtractArguments): Promise<void> {
  if (input === '-' && relocs === '-') throw new UsageError('IN and --relocs both want standard input');
  const vmlinuxOut = output ?? (relocsOut === undefined ? '-' : undefined);
  if (vmlinuxOut !== undefined && vmlinuxOut === relocsOut)
    throw new UsageError('-o and --relocs-out name the same file');
  if (vmlinuxOut === '-' && process.stdout.isTTY)
    throw new UsageError('standard output is a terminal; name a file with -o');
  for (const file of [vmlinuxOut, relocsOut]) {
    if (file === undefined) continue;
    refuseSameFile(input, file);
    if (relocs !== undefined) refuseSameFile(relocs, file);
  }
  const image = await readInputFile(input, { onHead: expectInput });
  const given = relocs === undefined ? undefined : await readInputFile(relocs);
  const file = vmlinuxOut === undefined ? undefined : new OutputFile(vmlinuxOut);
  try {
    const watch = (vmlinux: Uint8Array, end: number): void => file?.begin(vmlinux, end);
    const extracted = await extract(image, { codecs: nodeCodecs, relocs: given, watch });
    // Asked for first, so that a kernel without a table leaves no vmlinux behind either.
    const table = relocsOut === undefined ? undefined : extracted.relocs();
    await file?.finish([extracted.vmlinux]);
    if (relocsOut !== undefined && table !== undefined) await writeFileAtomic(relocsOut, [table]);
  } finally {
    await file?.discard();
  }
}
