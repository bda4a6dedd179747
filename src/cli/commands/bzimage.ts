/** `kslide bzimage IN -o OUT`: a bzImage whose kernel randomizes itself. */
import type { Command } from 'commander';
import { nodeCodecs } from '../../node/codecs.ts';
import { systemEncoders } from '../../node/processes/compressors.ts';
import { readInputFile, refuseSameFile } from '../../node/files/input-file.ts';
import { writeFileAtomic } from '../../node/files/output-file.ts';
import { rebuildBzImage } from '../../rebuild.ts';
import type { RebuildPass } from '../../rebuild.ts';
import { oneOf } from '../arguments.ts';
import { UsageError } from '../failure.ts';
import { print, printBeside } from '../print.ts';
import { Progress } from '../progress.ts';
import { reportRebuild } from '../reports/rebuild.ts';

interface BzImageArguments {
  readonly output: string;
  readonly relocs?: string;
  readonly tableAtEnd?: true;
  readonly compression: string;
  readonly json?: true;
  readonly quiet?: true;
}

const PASSES: Readonly<Record<RebuildPass, string>> = {
  read: 'reading the kernel',
  relocations: 'checking its relocations',
  write: 'converting',
  compress: 'compressing; a minute or so',
  check: 'reading it back',
};

export function addBzImage(program: Command): void {
  program
    .command('bzimage')
    .description('write a bzImage whose kernel picks its own KASLR slide, as does the vmlinux extracted from it')
    .argument('<IN>', 'bzImage or UKI; - is standard input')
    .requiredOption('-o, --output <OUT>', 'the bzImage to write; - is standard output')
    .option('--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs) instead of the image's own")
    .option('--compression <HOW>', 'same: as the input; none: a larger file that boots faster, but not by UEFI', 'same')
    .option(
      '--table-at-end',
      "keep the table in the kernel's format, last in the image, where the decompressor reads it too",
    )
    .option('--json', 'print the summary as JSON')
    .option('--quiet', 'print nothing')
    .action(run);
}

async function run(
  input: string,
  { output, relocs, compression, tableAtEnd, json, quiet }: BzImageArguments,
): Promise<void> {
  if (json && output === '-') throw new UsageError('--json and -o - both want standard output');
  if (input === '-' && relocs === '-') throw new UsageError('IN and --relocs both want standard input');
  const uncompressed = oneOf('--compression', ['same', 'none'], compression) === 'none';
  if (uncompressed && tableAtEnd)
    throw new UsageError('--table-at-end is for a decompressor: not with --compression none');
  refuseSameFile(input, output);
  if (relocs !== undefined) refuseSameFile(relocs, output);
  const progress = new Progress(quiet === true);
  const clock = new PassClock();
  try {
    progress.show(PASSES.read);
    const image = await readInputFile(input);
    const table = relocs === undefined ? undefined : await readInputFile(relocs);
    const { bytes, summary } = await rebuildBzImage(image, {
      codecs: nodeCodecs,
      encoders: systemEncoders,
      relocs: table,
      tableAtEnd,
      uncompressed,
      onPass: (pass) => {
        progress.show(PASSES[pass]);
        clock.begin(pass);
      },
    });
    await writeFileAtomic(output, [bytes]);
    progress.clear();
    const seconds = { total: clock.total(), compressor: clock.of('compress') };
    if (json) print(`${JSON.stringify({ ...summary, seconds }, null, 2)}\n`);
    else if (!quiet) printBeside(output, reportRebuild(summary, seconds));
  } finally {
    progress.clear();
  }
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
