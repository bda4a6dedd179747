/** `kslide convert IN -o OUT`: a kernel that randomizes itself. */
import { Option } from 'commander';
import type { Command } from 'commander';
import { convert } from '../../convert.ts';
import type { ConvertPass } from '../../convert.ts';
import { expectInput } from '../../kernel/input.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { readInputFile } from '../../node/files/input-file.ts';
import { OutputFile } from '../../node/files/output-file.ts';
import { STUB_TABLES } from '../../segment/table.ts';
import type { StubTableName } from '../../segment/table.ts';
import { SHARED } from '../options.ts';
import { addRecoverOptions, readRecover, tellingDoubts } from '../recover.ts';
import type { RecoverArguments } from '../recover.ts';
import { readIfGiven, refuseOverwriting, refuseSharedStdin, refuseSharedStdout } from '../paths.ts';
import { printResult } from '../print.ts';
import { withProgress } from '../progress.ts';
import { reportConvert } from '../reports/convert.ts';

interface ConvertArguments extends RecoverArguments {
  readonly output: string;
  readonly relocs?: string;
  readonly table: StubTableName;
  readonly json?: true;
  readonly quiet?: true;
}

const PASSES: Readonly<Record<ConvertPass, string>> = {
  read: 'reading the kernel',
  relocations: 'checking its relocations',
  write: 'writing',
};

export default function addConvert(program: Command): void {
  const command = program
    .command('convert')
    .description('write a vmlinux that picks its own KASLR slide at each boot')
    .argument(...SHARED.input)
    .requiredOption(...SHARED.output)
    .option(...SHARED.relocs);
  addRecoverOptions(command)
    .addOption(
      new Option(
        '--table <FORMAT>',
        "format of the relocation table in OUT; compact: one sixth the size; kernel: the kernel's own",
      )
        .choices(STUB_TABLES)
        .default('compact'),
    )
    .option(...SHARED.json)
    .option(...SHARED.quiet)
    .action(run);
}

async function run(input: string, options: ConvertArguments): Promise<void> {
  const { output, relocs, table, quiet } = options;
  const recover = readRecover(options, relocs);
  refuseSharedStdout({ '-o': output }, options);
  refuseSharedStdin({ IN: input, '--relocs': relocs });
  refuseOverwriting([input, relocs], { '-o': output });
  const file = new OutputFile(output);
  try {
    const summary = await tellingDoubts(options.json === true, () =>
      withProgress(quiet === true, async (progress) => {
        progress.show(PASSES.read);
        let leftOut: number | undefined;
        const image = await readInputFile(input, { onHead: expectInput, onLeftOut: (bytes) => (leftOut = bytes) });
        const converted = await convert(image, {
          codecs: nodeCodecs,
          relocs: await readIfGiven(relocs),
          recover,
          table,
          onPass: (pass) => progress.show(PASSES[pass]),
          watch: (vmlinux, end) => file.begin(vmlinux, end),
        });
        await file.finish(converted.parts);
        return { ...converted.summary, leftOut };
      }),
    );
    await printResult(summary, () => reportConvert(summary), { ...options, warnings: summary.warnings });
  } finally {
    await file.discard();
  }
}
