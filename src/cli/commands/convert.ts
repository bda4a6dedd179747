/** `kslide convert IN -o OUT`: a kernel that randomizes itself. */
import { Option } from 'commander';
import type { Command } from 'commander';
import { convert } from '../../convert.ts';
import type { ConvertPass } from '../../convert.ts';
import { expectInput } from '../../kernel/input.ts';
import { qemuVersion } from '../../measure/many-boots.ts';
import { tryKernel } from '../../measure/trial/trial.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { interruptible } from '../../node/signals.ts';
import { readInputFile } from '../../node/files/input-file.ts';
import { OutputFile } from '../../node/files/output-file.ts';
import { STUB_TABLES } from '../../segment/table.ts';
import type { StubTableName } from '../../segment/table.ts';
import { readAlign, SHARED } from '../options.ts';
import { addRecoverOptions, addTryOption, readRecover, readTry, tellingDoubts, tellingTrials } from '../recover.ts';
import type { RecoverArguments, TryArguments } from '../recover.ts';
import { readIfGiven, refuseOverwriting, refuseSharedStdin, refuseSharedStdout } from '../paths.ts';
import { printResult } from '../print.ts';
import { withProgress } from '../progress.ts';
import { reportConvert } from '../reports/convert.ts';

interface ConvertArguments extends RecoverArguments, TryArguments {
  readonly output: string;
  readonly relocs?: string;
  readonly align?: string;
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
  addTryOption(addRecoverOptions(command))
    .addOption(
      new Option(
        '--table <FORMAT>',
        "format of the relocation table in OUT; compact: one sixth the size; kernel: the kernel's own",
      )
        .choices(STUB_TABLES)
        .default('compact'),
    )
    .option(...SHARED.align)
    .option(...SHARED.json)
    .option(...SHARED.quiet)
    .action(run);
}

async function run(input: string, options: ConvertArguments): Promise<void> {
  const { output, relocs, table, quiet } = options;
  const align = readAlign(options.align);
  const recover = readRecover(options, relocs);
  const tries = readTry(options);
  refuseSharedStdout({ '-o': output }, options);
  refuseSharedStdin({ IN: input, '--relocs': relocs });
  refuseOverwriting([input, relocs], { '-o': output });
  const json = options.json === true;
  // Recovering takes seconds: not before it is known that there is a QEMU.
  if (tries) await qemuVersion();
  const file = new OutputFile(output);
  try {
    const telling = <T>(action: () => Promise<T>): Promise<T> => tellingTrials(json, () => tellingDoubts(json, action));
    const summary = await telling(() =>
      withProgress(quiet === true, async (progress) => {
        progress.show(PASSES.read);
        let leftOut: number | undefined;
        const image = await readInputFile(input, { onHead: expectInput, onLeftOut: (bytes) => (leftOut = bytes) });
        const converted = await convert(image, {
          codecs: nodeCodecs,
          relocs: await readIfGiven(relocs),
          recover,
          align,
          table,
          onPass: (pass) => progress.show(PASSES[pass]),
          watch: (vmlinux, end) => file.begin(vmlinux, end),
        });
        const tried = tries
          ? await interruptible((signal) =>
              tryKernel({
                codecs: nodeCodecs,
                image,
                relocs: converted.relocs(),
                converted: converted.bytes(),
                slots: converted.summary.slots,
                entries: converted.summary.entries,
                signal,
                onRun: (done, of) => progress.show(`trying it in QEMU: ${done} of ${of} boots`),
              }),
            )
          : undefined;
        await file.finish(converted.parts);
        return { ...converted.summary, leftOut, tried };
      }),
    );
    await printResult(summary, () => reportConvert(summary), { ...options, warnings: summary.warnings });
  } finally {
    await file.discard();
  }
}
