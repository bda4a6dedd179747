/** `kslide bench IN`: what a boot costs by bzImage, by plain vmlinux, and by a vmlinux that relocates itself. */
import type { Command } from 'commander';
import { runBench } from '../../measure/bench/bench.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { systemEncoders } from '../../node/processes/compressors.ts';
import { readInputFile, refuseSameFile } from '../../node/files/input-file.ts';
import { writeFileAtomic } from '../../node/files/output-file.ts';
import { integer, LONGEST_SECONDS, MOST_BOOTS, oneOf } from '../arguments.ts';
import { interruptible } from '../../node/signals.ts';
import { print } from '../print.ts';
import { Progress } from '../progress.ts';
import { reportBench } from '../reports/bench.ts';
import { reportBenchPage } from '../reports/bench-html.ts';

interface BenchArguments {
  readonly relocs?: string;
  readonly initrd?: string;
  readonly append: string;
  readonly accel: string;
  readonly runs?: string;
  readonly memory: string;
  readonly timeout: string;
  readonly bzimages?: true;
  readonly html?: string;
  readonly json?: true;
  readonly quiet?: true;
}

const ACCELS = ['auto', 'tcg', 'kvm'] as const;

/**
 * The kernel tests its cryptography at boot, with random keys: a third of the instructions of Debian's kernels to /init, and all of the 4% by which one
 * boot differs from another (measured on 6.12; without, 0.1%). What is to be seen here would drown in that.
 */
const APPEND = 'quiet cryptomgr.notests';

/** Nothing a bench measures is a finding: the exit code is 0, or that of a failure. */
export function addBench(program: Command): void {
  program
    .command('bench')
    .description('boot a kernel as bzImage, as vmlinux and converted, and compare what each boot costs')
    .argument('<IN>', 'bzImage, UKI, or vmlinux with its relocations; - is standard input')
    .option('--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs) of a vmlinux that carries none")
    .option('--initrd <FILE>', 'initramfs whose guest ends by itself: boots are measured to that, not to /init')
    .option('--append <WORDS>', 'further words on the kernel command line', APPEND)
    .option('--accel <ACCEL>', 'tcg counts instructions, kvm takes time; auto is kvm if a guest lives under it', 'auto')
    .option('--runs <N>', 'boots of each (default: 5 counted, 25 timed)')
    .option('--memory <MIB>', 'guest memory', '256')
    .option('--timeout <SECONDS>', 'a boot that takes longer hangs', '600')
    .option('--bzimages', 'also the bzImages that `kslide bzimage` makes; compressing them takes minutes')
    .option('--html <FILE>', 'write a report that stands alone')
    .option('--json', 'print the summary as JSON')
    .option('--quiet', 'print nothing')
    .action(run);
}

async function run(path: string, options: BenchArguments): Promise<void> {
  for (const input of [path, options.relocs, options.initrd])
    if (input !== undefined && options.html !== undefined) refuseSameFile(input, options.html);
  const accel = oneOf('--accel', ACCELS, options.accel);
  const runs = options.runs === undefined ? undefined : integer('--runs', options.runs, 1, MOST_BOOTS);
  const memoryMib = integer('--memory', options.memory, 64);
  const timeoutMs = integer('--timeout', options.timeout, 1, LONGEST_SECONDS) * 1000;
  const file = await readInputFile(path);
  const relocs = options.relocs === undefined ? undefined : await readInputFile(options.relocs);
  const initrd = options.initrd === undefined ? undefined : await readInputFile(options.initrd);
  const progress = new Progress(options.quiet === true);
  const summary = await interruptible((signal) =>
    runBench(file, {
      codecs: nodeCodecs,
      relocs,
      accel,
      runs,
      memoryMib,
      timeoutMs,
      append: options.append,
      encoders: options.bzimages && systemEncoders,
      initrd,
      signal,
      onStep: (text) => progress.show(text),
    }).finally(() => progress.clear()),
  );
  if (options.html !== undefined)
    await writeFileAtomic(options.html, [new TextEncoder().encode(reportBenchPage(summary))]);
  if (options.json) print(`${JSON.stringify(summary, null, 2)}\n`);
  else if (!options.quiet) print(reportBench(summary));
}
