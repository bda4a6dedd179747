/** `kslide bzimage IN -o OUT`: a bzImage whose kernel randomizes itself. */
import type { Command } from 'commander';
import { nodeCodecs } from '../../node/codecs.ts';
import { systemEncoders } from '../../node/processes/compressors.ts';
import { readInputFile } from '../../node/files/input-file.ts';
import { writeFileAtomic } from '../../node/files/output-file.ts';
import { rebuildBzImage } from '../../rebuild.ts';
import type { RebuildPass } from '../../rebuild.ts';
import { UsageError } from '../failure.ts';
import { oneOf, readAlign, SHARED } from '../options.ts';
import { readIfGiven, refuseOverwriting, refuseSharedStdin, refuseSharedStdout } from '../paths.ts';
import { printResult } from '../print.ts';
import { withProgress } from '../progress.ts';
import { reportRebuild } from '../reports/rebuild.ts';

interface BzImageArguments {
  readonly output: string;
  readonly relocs?: string;
  readonly tableAtEnd?: true;
  readonly compression: string;
  readonly align?: string;
  readonly json?: true;
  readonly quiet?: true;
}

const PASSES: Readonly<Record<RebuildPass, string>> = {
  read: 'reading the kernel',
  relocations: 'checking its relocations',
  write: 'converting',
  compress: 'compressing, which takes about a minute',
  check: 'reading it back',
};

export default function addBzImage(program: Command): void {
  program
    .command('bzimage')
    .description('write a bzImage whose kernel picks its own KASLR slide, also once it is extracted to a vmlinux')
    .argument('<IN>', 'bzImage or UKI; - is standard input')
    .requiredOption('-o, --output <OUT>', 'bzImage to write; - is standard output')
    .option('--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs) to use instead of IN's own")
    .option(
      '--compression <HOW>',
      "same: IN's compression; none: a larger file that boots faster, but not through UEFI",
      'same',
    )
    .option(
      '--table-at-end',
      "keep the relocation table in the kernel's format at the end of the image, where the decompressor uses it too",
    )
    .option(...SHARED.align)
    .option(...SHARED.json)
    .option(...SHARED.quiet)
    .action(run);
}

async function run(input: string, options: BzImageArguments): Promise<void> {
  const { output, relocs, compression, tableAtEnd, quiet } = options;
  const uncompressed = oneOf('--compression', ['same', 'none'], compression) === 'none';
  if (uncompressed && tableAtEnd)
    throw new UsageError('--table-at-end is for a decompressor: not with --compression none');
  const align = readAlign(options.align);
  refuseSharedStdout({ '-o': output }, options);
  refuseSharedStdin({ IN: input, '--relocs': relocs });
  refuseOverwriting([input, relocs], { '-o': output });
  const clock = new PassClock();
  const summary = await withProgress(quiet === true, async (progress) => {
    progress.show(PASSES.read);
    const image = await readInputFile(input);
    const rebuilt = await rebuildBzImage(image, {
      codecs: nodeCodecs,
      encoders: systemEncoders,
      relocs: await readIfGiven(relocs),
      tableAtEnd,
      uncompressed,
      align,
      onPass: (pass) => {
        progress.show(PASSES[pass]);
        clock.begin(pass);
      },
    });
    await writeFileAtomic(output, [rebuilt.bytes]);
    return rebuilt.summary;
  });
  const seconds = { total: clock.total(), compressor: clock.of('compress') };
  await printResult({ ...summary, seconds }, () => reportRebuild(summary, seconds), {
    ...options,
    warnings: summary.warnings,
  });
}

/** How long each pass took, in seconds. */
class PassClock {
  readonly #started = performance.now();
  readonly #seconds = new Map<RebuildPass, number>();
  #pass: RebuildPass | undefined;
  #since = 0;

  begin(pass: RebuildPass | undefined): void {
    const now = performance.now();
    if (this.#pass !== undefined) this.#seconds.set(this.#pass, (now - this.#since) / 1000);
    this.#pass = pass;
    this.#since = now;
  }

  of(pass: RebuildPass): number {
    return this.#seconds.get(pass) ?? 0;
  }

  total(): number {
    return (performance.now() - this.#started) / 1000;
  }
}
