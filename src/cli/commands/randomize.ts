/** `kslide randomize IN -o OUT`: a kernel that the host has moved; with `--exec`, for one run of a command. */
import { MIB } from '../../base/addresses.ts';
import type { Command } from 'commander';
import { expectInput } from '../../kernel/input.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import type { ImageParts } from '../../node/processes/launch.ts';
import { OutputFile } from '../../node/files/output-file.ts';
import { openMovedFile } from '../../node/files/randomize-file.ts';
import type { MovedFile } from '../../node/files/randomize-file.ts';
import { randomize } from '../../randomize.ts';
import type { RandomizeOptions, RandomizeSummary } from '../../randomize.ts';
import { EXEC_OPTIONS, refuseBadExec, runWithImage } from '../exec.ts';
import { EXIT, UsageError } from '../failure.ts';
import { integer, oneOf, readAlign, SHARED } from '../options.ts';
import { readIfGiven, readKernel, refuseOverwriting, refuseSharedStdin, refuseSharedStdout } from '../paths.ts';
import { printResult } from '../print.ts';
import { withProgress } from '../progress.ts';
import { readSeed, refuseBadSeed, SEED_OPTIONS } from '../seed.ts';
import { reportRandomize } from '../reports/randomize.ts';

interface RandomizeArguments {
  readonly output?: string;
  readonly relocs?: string;
  readonly virt: string;
  readonly phys?: string;
  readonly entry?: string;
  readonly memory?: string;
  readonly initrdSize?: string;
  readonly identityMap?: string;
  readonly align?: string;
  readonly seed?: string;
  readonly seedFile?: string;
  readonly flag: boolean;
  readonly exec?: true;
  readonly execDir?: string;
  readonly force?: true;
  readonly json?: true;
  readonly quiet?: true;
}

const ENTRIES = ['linux64', 'pvh', 'both'] as const;

export default function addRandomize(program: Command, setExitCode: (code: number) => void): void {
  const command = program
    .command('randomize')
    .description('write a kernel that the host has already moved, so that the guest does no work for it')
    .argument(...SHARED.input)
    .argument(...EXEC_OPTIONS.command)
    .option(...SHARED.output)
    .option('--virt <BYTES>', 'virtual slide, or random', 'random')
    .option('--phys <BYTES>', 'physical slide, or random (default: 0, or the virtual slide where PVH needs that)')
    .option('--entry <ENTRY>', 'how OUT will be booted: linux64, pvh or both (default: every entry that IN has)')
    .option('--memory <MIB>', 'guest memory: a physical slide stays within it')
    .option('--initrd-size <MIB>', 'memory to leave free for an initrd at the top of guest memory')
    .option('--identity-map <MIB>', 'memory that a linux64 loader maps one to one (default: 1024, as Firecracker)')
    .option(...SHARED.align)
    .option(...SEED_OPTIONS.seed)
    .option(...SEED_OPTIONS.seedFile)
    .option(
      '--no-flag',
      'leave KASLR_FLAG unset: the kernel then randomizes nothing else (direct map, vmalloc, vmemmap)',
    )
    .option(...EXEC_OPTIONS.exec)
    .option(...EXEC_OPTIONS.execDir)
    .option(...SHARED.relocs)
    .option(...SHARED.json)
    .option(...SHARED.quiet);
  command.addOption(command.createOption('--force', 'take the slides as given, even if OUT will not boot').hideHelp());
  command.action(async (input: string, words: string[], options: RandomizeArguments) =>
    setExitCode(await run(input, words, options)),
  );
}

async function run(input: string, words: readonly string[], options: RandomizeArguments): Promise<number> {
  const { output, relocs, seedFile, exec, execDir, quiet } = options;
  refuseBadSeed(options);
  const wish = readWish(options);
  const align = readAlign(options.align);
  refuseBadExec(options, words);
  if (!exec && output === undefined)
    throw new UsageError("required option '-o, --output <OUT>' not specified; see kslide randomize --help");
  refuseSharedStdout({ '-o': output }, options);
  refuseSharedStdin({ IN: input, '--relocs': relocs, '--seed-file': seedFile });
  refuseOverwriting([input, relocs, seedFile], { '-o': output });
  const seed = await readSeed(options);

  const file = output === undefined ? undefined : new OutputFile(output, { secret: true });
  try {
    return await withProgress(quiet === true || exec === true, async (progress) => {
      const all = { codecs: nodeCodecs, relocs: await readIfGiven(relocs), inPlace: true, align, seed, ...wish };
      // The summary's kernel version is searched for in the whole file, so only a run that prints no summary can move the file piece by piece.
      const piecewise = (exec || quiet) && input !== '-';
      const inPieces = async (): Promise<MovedFile | undefined> =>
        piecewise ? openMovedFile(input, all, { onOpen: (path) => file?.beginCopy(path) }) : undefined;
      const whole = async (): Promise<ImageParts & { readonly summary: RandomizeSummary }> => {
        progress.show('reading the kernel');
        const image = await readKernel(input, { quiet, progress, onHead: expectInput });
        progress.show('moving it');
        const { parts, summary } = await randomize(image, all);
        return Object.assign([...parts], { summary });
      };
      if (exec) return runWithImage(async () => (await inPieces()) ?? whole(), words, execDir);
      const pieces = await inPieces();
      const moved = pieces ?? (await whole());
      const copied = pieces !== undefined && (await file!.hasCopy(pieces.size));
      await file!.finish(copied ? pieces.overCopy() : moved);
      moved.close?.();
      progress.clear();
      await printResult(moved.summary, () => reportRandomize(moved.summary), options);
      return EXIT.done;
    });
  } finally {
    await file?.discard();
  }
}

function readWish(options: RandomizeArguments): Omit<RandomizeOptions, 'seed'> {
  const slide = (name: string, value: string): number | 'random' => (value === 'random' ? value : integer(name, value));
  const mib = (name: string, value: string | undefined, least: number): number | undefined =>
    value === undefined ? undefined : integer(name, value, least) * MIB;
  const { virt, phys, entry, memory, initrdSize, identityMap, flag, force } = options;
  const wish = {
    virt: slide('--virt', virt),
    phys: phys === undefined ? undefined : slide('--phys', phys),
    entry: entry === undefined ? undefined : oneOf('--entry', ENTRIES, entry),
    memory: mib('--memory', memory, 16),
    initrdSize: mib('--initrd-size', initrdSize, 0),
    identityMap: mib('--identity-map', identityMap, 16),
    flag,
    force,
  };
  if (force && (wish.virt === 'random' || wish.phys === 'random'))
    throw new UsageError('--force wants --virt and --phys as numbers');
  return wish;
}
