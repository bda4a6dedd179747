/** `kslide verify ORIGINAL CONVERTED`: is the one the other, made self-relocating, and nothing else? */
import type { Command } from 'commander';
import { KernelImageError } from '../../base/errors.ts';
import { refuseMoved } from '../../kernel/hookable.ts';
import { openByteSource } from '../../node/files/byte-source.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { readInputFile } from '../../node/files/input-file.ts';
import type { ShuffleVerification, VerifyShuffledOptions } from '../../shuffle/verify/verify.ts';
import { verify } from '../../verify/verify.ts';
import { UsageError } from '../failure.ts';
import { print } from '../print.ts';
import { Progress } from '../progress.ts';
import { reportVerify, reportVerifyShuffled } from '../reports/verify.ts';

interface VerifyArguments {
  readonly relocs?: string;
  readonly shuffled?: true;
  readonly debug?: string;
  readonly recover?: true;
  readonly json?: true;
  readonly quiet?: true;
}

const PROVED = 0;
const REFUTED = 1;

export function addVerify(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('verify')
    .description('prove that a converted kernel is the original, made self-relocating, and nothing else')
    .argument('<ORIGINAL>', 'what it was converted from: bzImage, UKI, or vmlinux with its relocations')
    .argument('<CONVERTED>', 'what `kslide convert` or `kslide bzimage` wrote; one of the two may be -, standard input')
    .option('--relocs <FILE>', "the original's relocation table, when convert was given one")
    .option('--shuffled', 'CONVERTED is what `kslide shuffle` wrote: prove where everything went, too')
    .option('--debug <VMLINUX>', "with --shuffled: the debug vmlinux of the original's build; default: ORIGINAL")
    .option(
      '--recover',
      'with --shuffled, experimental: do without the relocations of the debug vmlinux (Linux 6.8 and newer), and show less',
    )
    .option('--json', 'print the result as JSON')
    .option('--quiet', 'print nothing: the exit code is the answer')
    .action(async (original: string, converted: string, options: VerifyArguments) =>
      setExitCode(await run(original, converted, options)),
    );
}

async function run(original: string, converted: string, options: VerifyArguments): Promise<number> {
  const { relocs, shuffled, debug, recover, json, quiet } = options;
  if ([original, converted, relocs, debug].filter((file) => file === '-').length > 1)
    throw new UsageError('only one of ORIGINAL, CONVERTED, --relocs and --debug can be standard input');
  if ((debug ?? recover) !== undefined && !shuffled) throw new UsageError('--debug and --recover go with --shuffled');
  if (shuffled && debug === undefined && original === '-')
    throw new UsageError('ORIGINAL is standard input: --debug says where its symbols are');
  const progress = new Progress(quiet === true);
  try {
    progress.show('reading the kernels');
    const kernel = await readInputFile(original);
    const file = await readInputFile(converted);
    const table = relocs === undefined ? undefined : await readInputFile(relocs);
    const onCheck = (name: string): void => progress.show(`checking ${name}`);
    if (shuffled) {
      const result = await proveShuffled(kernel, file, debug ?? original, { relocs: table, recover, onCheck });
      progress.clear();
      if (json) print(`${JSON.stringify(result, null, 2)}\n`);
      else if (!quiet) print(reportVerifyShuffled(result));
      return result.verdict === 'refuted' ? REFUTED : PROVED;
    }
    const result = await verify(kernel, file, { codecs: nodeCodecs, relocs: table, onCheck });
    progress.clear();
    if (json) print(`${JSON.stringify(result, null, 2)}\n`);
    else if (!quiet) print(reportVerify(result));
    if (result.verdict === 'proved') return PROVED;
    if (!quiet) sayIfMoved(file);
    return REFUTED;
  } finally {
    progress.clear();
  }
}

/** The usual mistake: what `randomize` wrote, which is refuted, but by words that do not say so. */
function sayIfMoved(converted: Uint8Array): void {
  try {
    refuseMoved(converted);
  } catch (error) {
    if (error instanceof KernelImageError && error.code === 'unsupported')
      process.stderr.write(`kslide: ${error.message}\n`);
  }
}

/** Its disassembler is loaded only when it is wanted. */
async function proveShuffled(
  kernel: Uint8Array,
  file: Uint8Array,
  debug: string,
  options: Omit<VerifyShuffledOptions, 'codecs' | 'debug'>,
): Promise<ShuffleVerification> {
  const { verifyShuffled } = await import('../../shuffle/verify/verify.ts');
  const source = await openByteSource(debug);
  try {
    return await verifyShuffled(kernel, file, { codecs: nodeCodecs, debug: source, ...options });
  } finally {
    source.close();
  }
}
