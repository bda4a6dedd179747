/** `kslide randomize IN -o OUT`: a kernel that the host has moved; with `--exec`, for one run of a command. */
import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { MIB } from '../../base/addresses.ts';
import { expectInput } from '../../kernel/input.ts';
import { SEED_BYTES } from '../../kaslr/draw.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { readInputFile, refuseSameFile } from '../../node/files/files.ts';
import type { Image } from '../../node/processes/launch.ts';
import { OutputFile } from '../../node/files/output-file.ts';
import { openMovedFile } from '../../node/files/randomize-file.ts';
import type { MovedFile } from '../../node/files/randomize-file.ts';
import { randomize } from '../../randomize.ts';
import type { RandomizeOptions, RandomizeSummary } from '../../randomize.ts';
import { integer, oneOf } from '../arguments.ts';
import { UsageError } from '../failure.ts';
import { print, printBeside } from '../print.ts';
import { Progress } from '../progress.ts';
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
  readonly seed?: string;
  readonly flag: boolean;
  readonly exec?: true;
  readonly execDir?: string;
  readonly force?: true;
  readonly json?: true;
  readonly quiet?: true;
}

const ENTRIES = ['linux64', 'pvh', 'both'] as const;
const PLACEHOLDER = '{}';

export function addRandomize(program: Command, setExitCode: (code: number) => void): void {
  const command = program
    .command('randomize')
    .description('write a kernel that is moved already, so that the guest has nothing to do')
    .argument('<IN>', 'bzImage, UKI, or vmlinux with its relocations; - is standard input')
    .argument('[COMMAND...]', `with --exec, behind --: what to run, ${PLACEHOLDER} standing for the image's path`)
    .option('-o, --output <OUT>', 'the vmlinux to write; - is standard output')
    .option('--virt <BYTES>', 'virtual slide, or random', 'random')
    .option('--phys <BYTES>', 'physical slide, or random (default: 0, or as --virt where the PVH entry needs that)')
    .option('--entry <ENTRY>', 'linux64, pvh or both: how it will be booted (default: by all entries that it has)')
    .option('--memory <MIB>', 'guest memory that a physical slide must keep to')
    .option('--initrd-size <MIB>', 'room for an initrd at the top of it')
    .option('--identity-map <MIB>', 'what a linux64 loader maps one to one (default: 1024, as Firecracker does)')
    .option('--seed <HEX>', `draw random slides from this, ${SEED_BYTES} bytes or more: the same seed, the same file`)
    .option('--no-flag', 'do not have KASLR_FLAG set in the guest: nothing but the image is randomized')
    .option('--exec', 'run COMMAND with an image of its own that is gone with it')
    .option('--exec-dir <DIR>', 'with --exec: give the image a name there, for commands that close what they inherit')
    .option('--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs) of a vmlinux that carries none")
    .option('--json', 'print the summary as JSON')
    .option('--quiet', 'print nothing');
  command.addOption(command.createOption('--force', 'take the slides as given, whatever comes of it').hideHelp());
  command.action(async (input: string, words: string[], options: RandomizeArguments) =>
    setExitCode(await run(input, words, options)),
  );
}

async function run(input: string, words: readonly string[], options: RandomizeArguments): Promise<number> {
  const { output, relocs, exec, execDir, json, quiet } = options;
  const wish = readWish(options);
  checkTargets(options, words);
  if (input === '-' && relocs === '-') throw new UsageError('IN and --relocs both want standard input');
  for (const file of [input, relocs]) if (file !== undefined && output !== undefined) refuseSameFile(file, output);

  const progress = new Progress(quiet === true || exec === true);
  const file = output === undefined ? undefined : new OutputFile(output);
  try {
    const table = relocs === undefined ? undefined : await readInputFile(relocs);
    const all = { codecs: nodeCodecs, relocs: table, inPlace: true, ...wish };
    // Who wants to know the kernel's version has it looked for in all of the file.
    const piecewise = (exec || quiet) && input !== '-';
    const inPieces = async (): Promise<MovedFile | undefined> =>
      piecewise ? openMovedFile(input, all, { onOpen: (path) => file?.beginCopy(path) }) : undefined;
    const whole = async (): Promise<Image & { readonly summary: RandomizeSummary }> => {
      progress.show('reading the kernel');
      const image = await readInputFile(input, { onHead: expectInput });
      progress.show('moving it');
      const { parts, summary } = await randomize(image, all);
      return Object.assign([...parts], { summary });
    };
    if (exec) {
      // Loaded when it is wanted: what it needs of Node takes as long to load as a kernel takes to move.
      const { endLike, launch } = await import('../../node/processes/launch.ts');
      const make = async (): Promise<Image> => (await inPieces()) ?? whole();
      return await endLike(await launch(make, { command: words, directory: execDir }));
    }
    const pieces = await inPieces();
    const moved = pieces ?? (await whole());
    const copied = pieces !== undefined && (await file!.hasCopy(pieces.size));
    await file!.finish(copied ? pieces.overCopy() : moved);
    moved.close?.();
    progress.clear();
    if (json) print(`${JSON.stringify(moved.summary, null, 2)}\n`);
    else if (!quiet) printBeside(output, reportRandomize(moved.summary));
    return 0;
  } finally {
    await file?.discard();
    progress.clear();
  }
}

function checkTargets({ output, exec, execDir, json }: RandomizeArguments, words: readonly string[]): void {
  if (exec) {
    if (output !== undefined) throw new UsageError('--exec and -o do not go together');
    if (json) throw new UsageError('--json and --exec do not go together: standard output is the command’s');
    if (words.length === 0) throw new UsageError(`--exec needs a command: --exec -- COMMAND … ${PLACEHOLDER} …`);
    return;
  }
  if (output === undefined) throw new UsageError("required option '-o, --output <OUT>' not specified");
  if (words.length > 0) throw new UsageError(`a command (${words[0]}) without --exec`);
  if (execDir !== undefined) throw new UsageError('--exec-dir without --exec');
  if (json && output === '-') throw new UsageError('--json and -o - both want standard output');
}

function readWish(options: RandomizeArguments): RandomizeOptions {
  const slide = (name: string, value: string): number | 'random' => (value === 'random' ? value : integer(name, value));
  const mib = (name: string, value: string | undefined, least: number): number | undefined =>
    value === undefined ? undefined : integer(name, value, least) * MIB;
  const { virt, phys, entry, memory, initrdSize, identityMap, seed, flag, force } = options;
  const wish = {
    virt: slide('--virt', virt),
    phys: phys === undefined ? undefined : slide('--phys', phys),
    entry: entry === undefined ? undefined : oneOf('--entry', ENTRIES, entry),
    memory: mib('--memory', memory, 16),
    initrdSize: mib('--initrd-size', initrdSize, 0),
    identityMap: mib('--identity-map', identityMap, 16),
    seed: seed === undefined ? randomBytes(32) : readSeed(seed),
    flag,
    force,
  };
  if (force && (wish.virt === 'random' || wish.phys === 'random'))
    throw new UsageError('--force wants --virt and --phys as numbers');
  return wish;
}

function readSeed(text: string): Uint8Array {
  if (/^([0-9a-f]{2})+$/i.test(text) && text.length >= 2 * SEED_BYTES) return Buffer.from(text, 'hex');
  throw new UsageError(`--seed wants ${SEED_BYTES} bytes or more in hex, for example from: openssl rand -hex 32`);
}
