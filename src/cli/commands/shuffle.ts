/** `kslide shuffle IN --debug VMLINUX -o OUT`: every function in a place of its own, and the whole self-relocating. */
import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { openByteSource } from '../../node/files/byte-source.ts';
import { nodeCodecs } from '../../node/codecs.ts';
import { readInputFile, refuseSameFile } from '../../node/files/input-file.ts';
import { endLike, launch, PLACEHOLDER } from '../../node/processes/launch.ts';
import { writeFileAtomic } from '../../node/files/output-file.ts';
import { SEED_BYTES } from '../../shuffle/random.ts';
import { decodePlan, encodePlan, planShuffle, shuffle } from '../../shuffle/shuffle.ts';
import type { Plan, ShufflePass } from '../../shuffle/shuffle.ts';
import { UsageError } from '../failure.ts';
import { print, printBeside } from '../print.ts';
import { Progress } from '../progress.ts';
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
  readonly symbols?: string;
  readonly plain?: true;
  readonly exec?: true;
  readonly execDir?: string;
  readonly json?: true;
  readonly quiet?: true;
}

/** Enough behind the kernel for the section of its moves, which takes 0.5 MB in Debian's: then it is shuffled where it was read to. */
const ROOM_FOR_MOVES = 2 ** 21;

const PASSES: Record<ShufflePass, string> = {
  read: 'reading the kernel',
  compare: 'comparing it with its debug vmlinux',
  disassemble: 'disassembling its code',
  references: 'collecting references',
  tables: 'reading its tables',
  layout: 'laying it out anew',
  write: 'writing',
};

export function addShuffle(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('shuffle')
    .description(
      'write a vmlinux whose functions are in random places, and that picks its own KASLR slide at each boot',
    )
    .argument('<IN>', 'the kernel that boots: bzImage, UKI, or vmlinux')
    .argument('[COMMAND...]', `with --exec, behind --: what to run, ${PLACEHOLDER} standing for the image's path`)
    .option('-o, --output <OUT>', 'the vmlinux to write; - is standard output')
    .option('--debug <VMLINUX>', 'unstripped vmlinux of the same build, with .symtab and .rela sections; default: IN')
    .option('--relocs <FILE>', "relocation table (the kernel build's vmlinux.relocs) of a vmlinux that carries none")
    .option('--map <FILE>', 'the map (ld -Map) of a vmlinux with a section for each function: sizes that symbols lack')
    .option(
      '--recover',
      'experimental, for a debug vmlinux without .rela sections (Linux 6.8 and newer): find references by disassembly and in known tables',
    )
    .option('--seed <HEX>', 'up to 32 bytes that decide the layout; default: random ones, which are printed')
    .option('--symbols <FILE>', 'write the new System.map')
    .option('--plain', 'without the program that relocates: the relocation table stands behind the file')
    .option('--plan-out <FILE>', 'save the analysis, for fast layouts of the same kernel')
    .option('--plan <FILE>', 'take the analysis from there, instead of --debug')
    .option('--exec', 'run COMMAND with an image of its own that is gone with it')
    .option('--exec-dir <DIR>', 'with --exec: give the image a name there, for commands that close what they inherit')
    .option('--json', 'print the summary as JSON')
    .option('--quiet', 'print nothing')
    .action(async (input: string, words: string[], options: ShuffleArguments) =>
      setExitCode(await run(input, words, options)),
    );
}

async function run(input: string, words: readonly string[], options: ShuffleArguments): Promise<number> {
  const { output, debug, plan: planFile, planOut, symbols, plain, exec, execDir, json, quiet } = options;
  refuseContradictions(input, words, options);
  const seed = readSeed(options.seed);
  const progress = new Progress(quiet === true || exec === true);
  const onPass = (pass: ShufflePass): void => progress.show(PASSES[pass]);
  try {
    onPass('read');
    // The plan is decoded while the kernel is read, on another thread.
    const [image, saved] = await Promise.all([
      readInputFile(input, { spare: ROOM_FOR_MOVES }),
      planFile === undefined ? undefined : readInputFile(planFile).then(decodePlan),
    ]);
    const plan = saved ?? (await makePlan(image, debug ?? input, options, onPass));
    if (planOut !== undefined) await writeFileAtomic(planOut, encodePlan(plan));
    if (output === undefined && !exec) {
      progress.clear();
      if (!quiet) print(json ? `${JSON.stringify(plan.facts, null, 2)}\n` : reportPlan(plan));
      return 0;
    }
    const shuffled = await shuffle(image, { codecs: nodeCodecs, plan, seed, plain, onPass, takeImage: true });
    const map = symbols === undefined ? undefined : shuffled.symbols();
    if (symbols !== undefined && map === undefined) throw new UsageError('--symbols: this kernel has no kallsyms');
    // The kernel last: where it is, all of it is.
    if (symbols !== undefined && map !== undefined) await writeFileAtomic(symbols, [map], { mode: 0o600 });
    if (exec) return await endLike(await launch(shuffled.parts, { command: words, directory: execDir }));
    await writeFileAtomic(output!, shuffled.parts);
    progress.clear();
    const hexSeed = Buffer.from(seed).toString('hex');
    if (json) print(`${JSON.stringify({ seed: hexSeed, ...shuffled.summary }, null, 2)}\n`);
    else if (!quiet) printBeside(output, reportShuffle(shuffled.summary, hexSeed));
    return 0;
  } finally {
    progress.clear();
  }
}

async function makePlan(
  image: Uint8Array,
  debug: string,
  { relocs, map, recover }: ShuffleArguments,
  onPass: (pass: ShufflePass) => void,
): Promise<Plan> {
  const table = relocs === undefined ? undefined : await readInputFile(relocs);
  const linkMap = map === undefined ? undefined : await readInputFile(map);
  const source = await openByteSource(debug);
  try {
    const options = { codecs: nodeCodecs, debug: source, relocs: table, map: linkMap, recover, onPass };
    return await planShuffle(image, options);
  } finally {
    source.close();
  }
}

function refuseContradictions(input: string, words: readonly string[], options: ShuffleArguments): void {
  const { output, debug, relocs, map, recover, plan, planOut, seed, symbols, plain, exec, execDir, json } = options;
  if (exec) {
    if (output !== undefined) throw new UsageError('--exec and -o do not go together');
    if (json) throw new UsageError("--json and --exec do not go together: standard output is the command's");
    if (words.length === 0) throw new UsageError(`--exec needs a command: --exec -- COMMAND … ${PLACEHOLDER} …`);
  } else if (words.length > 0) throw new UsageError(`a command (${words[0]}) without --exec`);
  if (execDir !== undefined && !exec) throw new UsageError('--exec-dir without --exec');
  if (output === undefined && planOut === undefined && !exec)
    throw new UsageError('neither -o nor --plan-out nor --exec: nothing to write');
  if (output === undefined && !exec && (seed ?? symbols ?? plain) !== undefined)
    throw new UsageError('--seed, --symbols and --plain want -o or --exec');
  if (plan !== undefined && (debug ?? relocs ?? map ?? recover ?? planOut) !== undefined)
    throw new UsageError('--plan goes without --debug, --relocs, --map, --recover and --plan-out');
  const inputs = [input, debug, relocs, map, plan].filter((file) => file !== undefined);
  const outputs = [output, planOut, symbols].filter((file) => file !== undefined);
  if (debug === undefined && plan === undefined && input === '-')
    throw new UsageError('IN is standard input: --debug or --plan says where its symbols are');
  if (inputs.filter((file) => file === '-').length > 1) throw new UsageError('only one input can be standard input');
  if (outputs.filter((file) => file === '-').length > (json ? 0 : 1))
    throw new UsageError('only one output, the summary of --json included, can be standard output');
  if (new Set(outputs).size < outputs.length) throw new UsageError('two outputs have the same name');
  for (const from of inputs) for (const to of outputs) refuseSameFile(from, to);
}

function readSeed(text: string | undefined): Uint8Array {
  if (text === undefined) return randomBytes(SEED_BYTES);
  if (/^(?:[0-9a-f]{2})+$/i.test(text) && text.length <= 2 * SEED_BYTES) return Buffer.from(text, 'hex');
  throw new UsageError(`--seed is ${JSON.stringify(text)}, expected 1 to ${SEED_BYTES} bytes in hex`);
}
