/** `kslide bench IN`: what a boot costs as bzImage, as plain vmlinux, and as a vmlinux that relocates itself. */
import type { Command } from 'commander';
import { runBench } from '../../measure/bench/bench.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { systemEncoders } from '../../node/processes/compressors.ts';
import { interruptible } from '../../node/signals.ts';
import { integer, MOST_BOOTS, readAccel, readTimeout, SHARED } from '../options.ts';
import {
  readIfGiven,
  readKernel,
  refuseOverwriting,
  refuseSharedStdin,
  refuseSharedStdout,
  writeText,
} from '../paths.ts';
import { printResult } from '../print.ts';
import { withProgress } from '../progress.ts';
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

/**
 * At boot the kernel tests its cryptography with random keys. That is a third of the instructions that Debian's kernels take to /init, and the whole of
 * the 4% by which one boot differs from another (measured on 6.12; 0.1% without the tests). The differences that a bench shows would drown in it.
 */
const APPEND = 'quiet cryptomgr.notests';

/** Nothing that a bench measures is a finding, so the exit code is 0, or that of a failure. */
export default function addBench(program: Command): void {
  program
    .command('bench')
    .description('boot a kernel as bzImage, as vmlinux and converted, and compare what each boot costs')
    .argument(...SHARED.input)
    .option(...SHARED.relocs)
    .option('--initrd <FILE>', 'initramfs whose guest ends by itself: boots are measured to that end, not to /init')
    .option(...SHARED.append, APPEND)
    .option(
      '--accel <ACCEL>',
      'tcg (count instructions), kvm (measure time), or auto: kvm if it can run a guest here',
      'auto',
    )
    .option('--runs <N>', 'boots of each image (default: 5 counted, 25 timed)')
    .option(...SHARED.memory)
    .option('--timeout <SECONDS>', 'a boot that takes longer has failed', '600')
    .option('--bzimages', 'also boot what `kslide bzimage` makes; compressing it takes minutes')
    .option(...SHARED.html)
    .option(...SHARED.json)
    .option(...SHARED.quiet)
    .action(run);
}

async function run(path: string, options: BenchArguments): Promise<void> {
  refuseSharedStdout({ '--html': options.html }, options);
  refuseSharedStdin({ IN: path, '--relocs': options.relocs, '--initrd': options.initrd });
  refuseOverwriting([path, options.relocs, options.initrd], { '--html': options.html });
  const accel = readAccel(options.accel);
  const runs = options.runs === undefined ? undefined : integer('--runs', options.runs, 1, MOST_BOOTS);
  const memoryMib = integer('--memory', options.memory, 64);
  const timeoutMs = readTimeout(options.timeout);
  const file = await readKernel(path, { quiet: options.quiet });
  const relocs = await readIfGiven(options.relocs);
  const initrd = await readIfGiven(options.initrd);
  const summary = await interruptible((signal) =>
    withProgress(options.quiet === true, (progress) =>
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
      }),
    ),
  );
  if (options.html !== undefined) await writeText(options.html, reportBenchPage(summary));
  await printResult(summary, () => reportBench(summary), { ...options, output: options.html });
}
