/**
 * `kslide relocs VMLINUX`: a drop-in replacement for the kernel's arch/x86/tools/relocs; and `--keep`, which puts the table into the vmlinux.
 *
 * Build scripts check exit codes, so this command has those of the kernel's tool: 1 for everything that the tool refuses, bad command lines included.
 */
import { isatty } from 'node:tty';
import type { Command, CommanderError } from 'commander';
import { KernelImageError } from '../../base/errors.ts';
import { openByteSource } from '../../node/files/byte-source.ts';
import type { OpenByteSource } from '../../node/files/byte-source.ts';
import { InputFileError } from '../../node/errors.ts';
import { readInputFile } from '../../node/files/input-file.ts';
import { writeFileAtomic } from '../../node/files/output-file.ts';
import { writeStandard } from '../../node/files/standard-streams.ts';
import { STDOUT } from '../../node/files/target.ts';
import { runRelocsTool } from '../../relocs/tool/tool.ts';
import type { RelocsToolOptions } from '../../relocs/tool/tool.ts';
import { RelocsError } from '../failure.ts';
import { refuseOverwriting } from '../paths.ts';

interface RelocsArguments {
  readonly absSyms?: true;
  readonly absRelocs?: true;
  readonly relocInfo?: true;
  readonly text?: true;
  readonly realmode?: true;
  readonly lists?: string;
  readonly keep?: true;
  readonly output?: string;
}

export default function addRelocs(program: Command): void {
  program
    .command('relocs')
    .description("print a vmlinux's relocation table as the kernel's own tool does, or put it into the vmlinux")
    .argument('<VMLINUX>', 'vmlinux with .rela sections (x86-64) or .rel sections (i386); - is standard input')
    .option('--abs-syms', 'list absolute symbols')
    .option('--abs-relocs', 'list relocations against absolute symbols')
    .option('--reloc-info', 'list all relocations of loaded sections')
    .option('--text', 'print the table as assembler source')
    .option('--realmode', 'the file is real-mode code (i386)')
    .option(
      '--lists <2|3>',
      'number of lists in an x86-64 table: 3 up to Linux 6.14, then 2 (default: found out from the vmlinux)',
    )
    .option('--keep', "write the table into the vmlinux's section .data.reloc or .data.relocs")
    .option('-o, --output <OUT>', 'file to write (default: standard output; with --keep, VMLINUX itself)')
    .exitOverride((error: CommanderError) => {
      throw error.exitCode === 0 ? error : new RelocsError(oneLine(error.message.replace(/^error: /, '')));
    })
    .action(run);
}

/** commander puts a suggestion on a second line. */
function oneLine(text: string): string {
  return text.trimEnd().replaceAll('\n', ' ');
}

async function run(input: string, options: RelocsArguments): Promise<void> {
  try {
    const lists = listsOf(options);
    if (options.keep) await keep(input, options, lists);
    else await print(input, options, lists);
  } catch (error) {
    if (error instanceof KernelImageError || error instanceof InputFileError)
      throw new RelocsError(error.message, { cause: error });
    throw error;
  }
}

function listsOf({ lists }: RelocsArguments): 2 | 3 | undefined {
  if (lists === undefined) return undefined;
  if (lists === '2') return 2;
  if (lists === '3') return 3;
  throw new RelocsError(`--lists ${lists}: expected 2 or 3`);
}

/** When several are given, the first in the kernel tool's order counts. */
function printOf(options: RelocsArguments): RelocsToolOptions['print'] {
  if (options.absSyms) return 'abs-syms';
  if (options.absRelocs) return 'abs-relocs';
  if (options.relocInfo) return 'reloc-info';
  return options.text ? 'text' : 'table';
}

async function print(input: string, options: RelocsArguments, lists: 2 | 3 | undefined): Promise<void> {
  const { output = '-' } = options;
  refuseOverwriting([input], { '-o': output });
  const source = await openByteSource(input);
  try {
    const what = printOf(options);
    const pieces = steadily(
      source,
      runRelocsTool(source, { print: what, realMode: options.realmode === true, lists, needsCode: true }),
    );
    if (output !== '-') return await writeFileAtomic(output, [...pieces]);
    // A table is one piece. It must not leave before the file is known to be unchanged; a listing may be longer than memory.
    for (const piece of what === 'table' ? [...pieces] : pieces) {
      if (what !== 'table' && isatty(STDOUT)) await writeStandard('output', piece);
      else await writeFileAtomic('-', [piece]);
    }
  } finally {
    source.close();
  }
}

/** The same pieces; ends with an error if the file has changed by then, and not with what is wrong with a mixture of two files. */
function* steadily(source: OpenByteSource, pieces: Iterable<Uint8Array>): Generator<Uint8Array, void, undefined> {
  try {
    yield* pieces;
  } catch (error) {
    source.expectUnchanged();
    throw error;
  }
  source.expectUnchanged();
}

async function keep(input: string, options: RelocsArguments, lists: 2 | 3 | undefined): Promise<void> {
  if (printOf(options) !== 'table' || options.realmode) throw new RelocsError('--keep goes with --lists and -o only');
  const { output = input } = options;
  refuseOverwriting([input], { '-o': options.output });
  const { insertRelocations } = await import('../../insert.ts'); // not needed, and not loaded, to print
  const vmlinux = await readInputFile(input);
  await writeFileAtomic(output, insertRelocations(vmlinux, { lists }), { mode: 0o777 });
}
