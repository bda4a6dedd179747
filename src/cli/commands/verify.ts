/** `kslide verify ORIGINAL CONVERTED`: is CONVERTED the original made self-relocating, with nothing else changed? */
import type { Command } from 'commander';
import { KernelImageError } from '../../base/errors.ts';
import { isElf, readElf } from '../../elf/read.ts';
import { refuseMoved } from '../../kernel/open.ts';
import { withByteSource } from '../../node/files/byte-source.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { memorySource } from '../../relocs/tool/byte-source.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import type { ShuffleVerification, VerifyShuffledOptions } from '../../shuffle/index.ts';
import { verify } from '../../verify/verify.ts';
import { EXIT, UsageError } from '../failure.ts';
import { readAlign } from '../options.ts';
import { readIfGiven, readKernel, refuseSharedStdin } from '../paths.ts';
import { printResult, remark } from '../print.ts';
import { withProgress } from '../progress.ts';
import { reportVerify, reportVerifyShuffled } from '../reports/verify.ts';

interface VerifyArguments {
  readonly relocs?: string;
  readonly align?: string;
  readonly extracted?: true;
  readonly shuffled?: true;
  readonly debug?: string;
  readonly recover?: true;
  readonly json?: true;
  readonly quiet?: true;
}

export default function addVerify(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('verify')
    .description(
      'prove that a converted kernel is the original made self-relocating, and that nothing else was changed',
    )
    .argument(
      '<ORIGINAL>',
      'what it was converted from: bzImage, UKI, or vmlinux; without relocations in it, those in CONVERTED are judged',
    )
    .argument('<CONVERTED>', 'what `kslide convert` or `kslide bzimage` wrote; one of the two may be -, standard input')
    .option('--relocs <FILE>', 'relocation table of ORIGINAL, if `convert` was given one')
    .option('--align <BYTES>', 'step of the slides, if CONVERTED was written with it (default: 2 MiB)')
    .option('--extracted', 'CONVERTED is a vmlinux that was taken out of a bzImage of `kslide bzimage`')
    .option('--shuffled', 'CONVERTED was written by `kslide shuffle`: prove also where each function went')
    .option('--debug <VMLINUX>', "with --shuffled: debug vmlinux of the original's build (default: ORIGINAL)")
    .option(
      '--recover',
      'with --shuffled, experimental: do without the relocations of the debug vmlinux (Linux 6.5 and newer), and prove less',
    )
    .option('--json', 'print the result as JSON')
    .option('-q, --quiet', 'print nothing: the exit code is the answer')
    .action(async (original: string, converted: string, options: VerifyArguments) =>
      setExitCode(await run(original, converted, options)),
    );
}

async function run(original: string, converted: string, options: VerifyArguments): Promise<number> {
  const { relocs, extracted, shuffled, debug, recover, quiet } = options;
  const align = readAlign(options.align);
  refuseSharedStdin({ ORIGINAL: original, CONVERTED: converted, '--relocs': relocs, '--debug': debug });
  if (align !== undefined && shuffled) throw new UsageError('--align and --shuffled exclude each other');
  if (extracted && shuffled) throw new UsageError('--extracted and --shuffled exclude each other');
  if ((debug ?? recover) !== undefined && !shuffled) throw new UsageError('--debug and --recover go with --shuffled');
  if (shuffled && debug === undefined && original === '-')
    throw new UsageError('ORIGINAL is standard input: name the file with its symbols by --debug');
  return withProgress(quiet === true, async (progress) => {
    progress.show('reading the kernels');
    const kernel = await readKernel(original, { quiet, progress });
    const file = await readKernel(converted, { quiet, progress });
    const table = await readIfGiven(relocs);
    const onCheck = (name: string): void => progress.show(`checking ${name}`);
    if (shuffled) {
      const result = await proveShuffled(kernel, file, debug, { relocs: table, recover, onCheck });
      progress.clear();
      await printResult(result, () => reportVerifyShuffled(result, debug ?? original), options);
      return result.verdict === 'refuted' ? EXIT.finding : EXIT.done;
    }
    const result = await verify(kernel, file, {
      codecs: nodeCodecs,
      relocs: table,
      align,
      extracted,
      // Only an original without relocations needs it.
      loadDisassembler: async () => {
        const { loadOperandDisassembler } = await import('../../shuffle/verify/operand-disassembler.ts');
        return loadOperandDisassembler();
      },
      onCheck,
    });
    progress.clear();
    await printResult(result, () => reportVerify(result), options);
    if (result.verdict !== 'refuted') return EXIT.done;
    if (!quiet) await explainIfMoved(file);
    return EXIT.finding;
  });
}

/** The usual mistake is to verify what `randomize` wrote. The refutation is right, but does not name that cause: this line does. */
async function explainIfMoved(converted: Uint8Array): Promise<void> {
  try {
    if (isElf(converted)) refuseMoved(readElf(converted));
  } catch (error) {
    if (error instanceof KernelImageError && error.code === 'unsupported') await remark(error.message);
  }
}

/** Loads the shuffle verifier, and the disassembler that it needs, only when it is asked for. */
async function proveShuffled(
  kernel: Uint8Array,
  file: Uint8Array,
  debug: string | undefined,
  options: Omit<VerifyShuffledOptions, 'codecs' | 'debug'>,
): Promise<ShuffleVerification> {
  const { verifyShuffled } = await import('../../shuffle/verify/verify.ts');
  const prove = (source: ByteSource): Promise<ShuffleVerification> =>
    verifyShuffled(kernel, file, { codecs: nodeCodecs, debug: source, ...options });
  // ORIGINAL is in memory: read again, it might be another file by now.
  return debug === undefined ? prove(memorySource(kernel)) : withByteSource(debug, prove);
}
