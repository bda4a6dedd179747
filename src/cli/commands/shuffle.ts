/** `kslide shuffle IN --debug VMLINUX -o OUT`: every function in a random place, in a kernel that also relocates itself. */
import type { Command } from 'commander';
import { KernelImageError } from '../../base/errors.ts';
import { withByteSource } from '../../node/files/byte-source.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { readInputFile } from '../../node/files/input-file.ts';
import { writeFileAtomic } from '../../node/files/output-file.ts';
import { memorySource } from '../../relocs/tool/byte-source.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { decodePlan, encodePlan } from '../../shuffle/plan/plan-file.ts';
import type { Plan } from '../../shuffle/plan/plan.ts';
import { planShuffle, shuffle } from '../../shuffle/shuffle.ts';
import type { ShufflePass } from '../../shuffle/shuffle.ts';
import { EXEC_OPTIONS, refuseBadExec, runWithImage } from '../exec.ts';
import { EXIT, UsageError } from '../failure.ts';
import { SHARED } from '../options.ts';
import { readIfGiven, readKernel, refuseOverwriting, refuseSharedStdin, refuseSharedStdout } from '../paths.ts';
import { printResult } from '../print.ts';
import { withProgress } from '../progress.ts';
import { readSeed, refuseBadSeed, SEED_OPTIONS } from '../seed.ts';
import { reportPlan, reportShuffle } from '../reports/shuffle.ts';

interface ShuffleArguments {
  readonly output?: string;
  readonly debug?: string;
  readonly relocs?: string;
  readonly map?: string;
  readonly recover?: true;
  readonly plan?: string;
  readonly planOut?: string;
  readonly seed?: string;
  readonly seedFile?: string;
  readonly symbols?: string;
  readonly plain?: true;
  readonly exec?: true;
  readonly execDir?: string;
  readonly json?: true;
  readonly quiet?: true;
}

/**
 * Spare bytes after the kernel, for the section that lists its moves (0.5 MB in Debian's kernels). With them the kernel is shuffled in the buffer
 * that it was read into.
 */
const ROOM_FOR_MOVES = 2 ** 21;

const PASSES: Readonly<Record<ShufflePass, string>> = {
  read: 'reading the kernel',
  compare: 'comparing it with its debug vmlinux',
  disassemble: 'disassembling its code',
  references: 'collecting references',
  tables: 'reading its tables',
  layout: 'choosing a new layout',
  write: 'writing',
};

export default function addShuffle(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('shuffle')
    .description(
      'write a vmlinux whose functions are in random places, and that picks its own KASLR slide at each boot',
    )
    .argument('<IN>', 'the kernel that boots: bzImage, UKI, or vmlinux')
    .argument(...EXEC_OPTIONS.command)
    .option(...SHARED.output)
    .option('--debug <VMLINUX>', 'unstripped vmlinux of the same build, with .symtab and .rela sections (default: IN)')
    .option(...SHARED.relocs)
    .option(
      '--map <FILE>',
      'link map (ld -Map) of a -ffunction-sections build: gives sizes to functions whose symbols have none',
    )
    .option(
      '--recover',
      'experimental, for a debug vmlinux without .rela sections (Linux 6.5 and newer): find references by disassembly and in known tables',
    )
    .option(...SEED_OPTIONS.seed)
    .option(...SEED_OPTIONS.seedFile)
    .option('--symbols <FILE>', 'write the System.map of the new layout')
    .option('--plain', 'do not make OUT self-relocating; its relocation table follows the vmlinux in the file')
    .option('--plan-out <FILE>', 'save the analysis, for fast layouts of the same kernel')
    .option('--plan <FILE>', 'use a saved analysis instead of --debug')
    .option(...EXEC_OPTIONS.exec)
    .option(...EXEC_OPTIONS.execDir)
    .option(...SHARED.json)
    .option(...SHARED.quiet)
    .action(async (input: string, words: string[], options: ShuffleArguments) =>
      setExitCode(await run(input, words, options)),
    );
}

async function run(input: string, words: readonly string[], options: ShuffleArguments): Promise<number> {
  const { output, debug, plan: planFile, planOut, symbols, plain, exec, execDir, quiet } = options;
  refuseContradictions(input, words, options);
  const seed = await readSeed(options);
  return withProgress(quiet === true || exec === true, async (progress) => {
    const onPass = (pass: ShufflePass): void => progress.show(PASSES[pass]);
    onPass('read');
    // The plan is decoded on this thread while another one reads the kernel.
    const [image, saved] = await Promise.all([
      readKernel(input, { spare: ROOM_FOR_MOVES, quiet, progress }),
      planFile === undefined ? undefined : readInputFile(planFile).then(decodePlan),
    ]);
    const plan = saved ?? (await makePlan(image, debug, options, onPass));
    if (planOut !== undefined) await writeFileAtomic(planOut, encodePlan(plan), { secret: true });
    if (output === undefined && !exec) {
      progress.clear();
      await printResult(plan.facts, () => reportPlan(plan), { ...options, output: undefined });
      return EXIT.done;
    }
    // A kernel without kallsyms confirms no symbol of its debug file, so a forged one may give a wrong kernel: what is written is proved first.
    const unconfirmed = saved === undefined && plan.kallsyms === undefined;
    const shuffled = await shuffle(image, {
      codecs: progress.codecs(),
      plan,
      seed,
      plain,
      onPass,
      takeImage: !unconfirmed,
    });
    if (unconfirmed) await expectProved(image, shuffled.bytes(), options);
    const map = symbols === undefined ? undefined : shuffled.symbols();
    if (symbols !== undefined && map === undefined) throw new UsageError('--symbols: this kernel has no kallsyms');
    // The kernel is written last: once OUT exists, all outputs do.
    if (symbols !== undefined && map !== undefined) await writeFileAtomic(symbols, [map], { secret: true });
    if (exec) return runWithImage(shuffled.parts, words, execDir);
    await writeFileAtomic(output!, shuffled.parts, { secret: true });
    progress.clear();
    // What a file kept from others is not printed.
    const hexSeed = options.seedFile === undefined ? Buffer.from(seed).toString('hex') : undefined;
    const { summary } = shuffled;
    await printResult({ seed: hexSeed, ...summary }, () => reportShuffle(summary, hexSeed), {
      ...options,
      warnings: summary.converted?.warnings,
    });
    return EXIT.done;
  });
}

/** Throws KernelImageError for a shuffled kernel that `verify --shuffled` would refute. */
async function expectProved(
  image: Uint8Array,
  shuffled: Uint8Array,
  { debug, relocs, recover }: ShuffleArguments,
): Promise<void> {
  const { verifyShuffled } = await import('../../shuffle/verify/verify.ts');
  const table = await readIfGiven(relocs);
  const prove = (source: ByteSource): ReturnType<typeof verifyShuffled> =>
    verifyShuffled(image, shuffled, { codecs: nodeCodecs, debug: source, relocs: table, recover });
  const { verdict, offence } = await (debug === undefined ? prove(memorySource(image)) : withByteSource(debug, prove));
  if (verdict !== 'refuted') return;
  throw new KernelImageError({
    code: 'bad-value',
    what: 'the shuffled kernel, which was not written,',
    found: offence === undefined ? 'refuted' : `refuted by ${offence.check}: ${offence.what} is ${offence.found}`,
    expected: 'one that verify --shuffled proves',
    hint: 'the debug file is not of this build, or its symbols are wrong, and this kernel has no kallsyms to tell',
  });
}

async function makePlan(
  image: Uint8Array,
  debug: string | undefined,
  { relocs, map, recover }: ShuffleArguments,
  onPass: (pass: ShufflePass) => void,
): Promise<Plan> {
  const table = await readIfGiven(relocs);
  const linkMap = await readIfGiven(map);
  const plan = (source: ByteSource): Promise<Plan> =>
    planShuffle(image, { codecs: nodeCodecs, debug: source, relocs: table, map: linkMap, recover, onPass });
  // IN is in memory: read again, it might be another file by now.
  return debug === undefined ? plan(memorySource(image)) : withByteSource(debug, plan);
}

function refuseContradictions(input: string, words: readonly string[], options: ShuffleArguments): void {
  const { output, debug, relocs, map, recover, plan, planOut, seed, seedFile, symbols, plain, exec } = options;
  refuseBadExec(options, words);
  refuseBadSeed(options);
  if (output === undefined && planOut === undefined && !exec)
    throw new UsageError('neither -o nor --plan-out nor --exec: nothing to write');
  if (output === undefined && !exec && (seed ?? seedFile ?? symbols ?? plain) !== undefined)
    throw new UsageError('--seed, --seed-file, --symbols and --plain want -o or --exec');
  if (plan !== undefined && (debug ?? relocs ?? map ?? recover ?? planOut) !== undefined)
    throw new UsageError('--plan goes without --debug, --relocs, --map, --recover and --plan-out');
  if (debug === undefined && plan === undefined && input === '-')
    throw new UsageError('IN is standard input: name the file with its symbols by --debug or --plan');
  const outputs = { '-o': output, '--plan-out': planOut, '--symbols': symbols };
  refuseSharedStdin({
    IN: input,
    '--debug': debug,
    '--relocs': relocs,
    '--map': map,
    '--plan': plan,
    '--seed-file': seedFile,
  });
  refuseSharedStdout(outputs, options);
  refuseOverwriting([input, debug, relocs, map, plan, seedFile], outputs);
}
