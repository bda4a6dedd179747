/** `kslide convert IN -o OUT`: a kernel that randomizes itself. */
import { Option } from 'commander';
import type { Command } from 'commander';
import { convert } from '../../convert.ts';
import { expectInput } from '../../kernel/open.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { readInputFile, refuseSameFile } from '../../node/files/input-file.ts';
import { OutputFile } from '../../node/files/output-file.ts';
import { stubProgram } from '../../segment/build.ts';
import { STUB_TABLES } from '../../segment/table.ts';
import type { StubTableName } from '../../segment/table.ts';
import { UsageError } from '../failure.ts';
import { print, printBeside } from '../print.ts';
import { Progress } from '../progress.ts';
import { reportConvert } from '../reports/convert.ts';

interface ConvertArguments {
  readonly output: string;
  readonly relocs?: string;
  readonly table: StubTableName;
  readonly json?: true;
  readonly quiet?: true;
}

const PASSES = { read: 'reading the kernel', relocations: 'checking its relocations', write: 'writing' } as const;

export function addConvert(program: Command): void {
  program
    .command('convert')
    .description('write a vmlinux that picks its own KASLR slide at each boot')
    .argument('<IN>', 'bzImage, UKI, or vmlinux with its relocations; - is standard input')
    .requiredOption('-o, --output <OUT>', 'the vmlinux to write; - is standard output')
    .option('--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs) of a vmlinux that carries none")
    .addOption(
      new Option(
        '--table <FORMAT>',
        "how the relocations are written: in a sixth of the bytes, or in the kernel's format",
      )
        .choices(STUB_TABLES)
        .default('compact'),
    )
    .option('--json', 'print the summary as JSON')
    .option('--quiet', 'print nothing')
    .action(run);
}

async function run(input: string, { output, relocs, table: format, json, quiet }: ConvertArguments): Promise<void> {
  if (json && output === '-') throw new UsageError('--json and -o - both want standard output');
  if (input === '-' && relocs === '-') throw new UsageError('IN and --relocs both want standard input');
  refuseSameFile(input, output);
  if (relocs !== undefined) refuseSameFile(relocs, output);
  const progress = new Progress(quiet === true);
  const file = new OutputFile(output);
  try {
    progress.show(PASSES.read);
    const reading = readInputFile(input, { onHead: expectInput });
    stubProgram(); // while the file comes in
    const image = await reading;
    const table = relocs === undefined ? undefined : await readInputFile(relocs);
    const onPass = (pass: keyof typeof PASSES): void => progress.show(PASSES[pass]);
    const { parts, summary } = await convert(image, {
      codecs: nodeCodecs,
      relocs: table,
      table: format,
      onPass,
      watch: (vmlinux, end) => file.begin(vmlinux, end),
    });
    await file.finish(parts);
    progress.clear();
    if (json) print(`${JSON.stringify(summary, null, 2)}\n`);
    else if (!quiet) printBeside(output, reportConvert(summary));
  } finally {
    await file.discard();
    progress.clear();
  }
}
