/** `kslide offset [FILE]`: the slide of a kernel that ran, and the gdb and crash commands for it. */
import type { Command } from 'commander';
import { jsonText } from '../../base/text.ts';
import { hex } from '../../base/errors.ts';
import { findOffsets } from '../../measure/offset.ts';
import { readOffsetKernel } from '../../measure/offset-kernel.ts';
import type { OffsetFound, OffsetSearch } from '../../measure/offset.ts';
import { InputFileError } from '../../node/errors.ts';
import { readInputFile } from '../../node/files/input-file.ts';
import { foreignArchitecture } from '../../node/qemu/kernel-offset.ts';
import { EXIT } from '../failure.ts';
import { readKernel } from '../paths.ts';
import { print, remark } from '../print.ts';
import { rows } from '../text.ts';

interface OffsetArguments {
  readonly vmlinux?: string;
  readonly json?: true;
}

const SOURCES: Record<OffsetFound['source'], string> = {
  panic: "the panic's Kernel Offset",
  kallsyms: '_text of /proc/kallsyms',
  vmcoreinfo: "vmcoreinfo's KERNELOFFSET",
  symbols: 'addresses of symbols',
  file: 'the file: the host has moved this kernel',
};

/** V8's longest string; no log is as long. */
const LONGEST_LOG = 0x1fff_ffe8;

export default function addOffset(program: Command, setExitCode: (code: number) => void): void {
  program
    .command('offset')
    .description(
      'find the slide in a console log, /proc/kallsyms or vmcoreinfo, and print the gdb and crash commands for it',
    )
    .argument('[FILE]', 'text to search; - is standard input', '-')
    .option(
      '--vmlinux <FILE>',
      'the kernel that ran, or its build with symbols: named in the commands; addresses in the log are compared with its own',
    )
    .option('--json', 'print the result as JSON')
    .action(async (file: string, options: OffsetArguments) => setExitCode(await run(file, options)));
}

async function run(file: string, { vmlinux, json }: OffsetArguments): Promise<number> {
  const kernel = vmlinux === undefined ? undefined : readOffsetKernel(await readKernel(vmlinux, { quiet: true }));
  const log = await readInputFile(file, { mayGrow: true });
  if (log.length > LONGEST_LOG) throw new InputFileError(file, 'is longer than any log');
  // latin1 keeps every byte: noise on a console need not be UTF-8.
  const search = findOffsets(Buffer.from(log.buffer, log.byteOffset, log.length).toString('latin1'), kernel);
  const report = reportOffset(search, { vmlinux, json: json === true });
  await print(report.output);
  if (report.remark !== undefined) await remark(`${file === '-' ? 'standard input' : file}: ${report.remark}`);
  return report.exitCode;
}

export interface OffsetReport {
  readonly output: string;
  /** One line for standard error. */
  readonly remark: string | undefined;
  readonly exitCode: number;
}

export function reportOffset(
  { found, useless, disabled, silent }: OffsetSearch,
  { vmlinux, json }: { readonly vmlinux?: string | undefined; readonly json: boolean },
): OffsetReport {
  const last = found.at(-1);
  // A slide of an earlier boot would be a wrong answer.
  if (disabled) return { output: '', remark: DISABLED, exitCode: EXIT.finding };
  if (silent) return { output: '', remark: SILENT, exitCode: EXIT.finding };
  if (last === undefined) return { output: '', remark: describeNothing(useless.at(-1)), exitCode: EXIT.finding };
  const different = new Set(found.map(({ slide }) => slide)).size;
  const commands = commandsFor(last, vmlinux ?? 'vmlinux');
  return {
    output: json ? `${jsonText({ ...last, ...commands }, 2)}\n` : inWords(last, commands),
    remark: different === 1 ? undefined : `has ${different} different slides; this is the last one`,
    exitCode: EXIT.done,
  };
}

interface DebuggerCommands {
  /** First for a gdb without symbols, then for one that has loaded others. */
  readonly gdb: readonly string[];
  readonly crash: string;
}

function commandsFor({ slide }: OffsetFound, vmlinux: string): DebuggerCommands {
  const file = quote(vmlinux);
  return {
    gdb: [`symbol-file -o ${hex(slide)} ${file}`, `add-symbol-file ${file} -o ${hex(slide)}`],
    crash: `crash --kaslr=${hex(slide)} ${file} vmcore`,
  };
}

function inWords({ slide, source }: OffsetFound, { gdb, crash }: DebuggerCommands): string {
  const megabytes = `${slide / 0x10_0000} MiB`;
  return rows([
    ['slide', `${hex(slide)} (${slide === 0 ? 'where it is linked' : megabytes}), from ${SOURCES[source]}`],
    ...gdb.map((command) => ['gdb', command] as const),
    ['crash', crash],
  ]);
}

const DISABLED =
  '"Kernel Offset: disabled" does not tell the slide: a kernel that the host has moved says the same; name the file that was booted with --vmlinux, or give /proc/kallsyms';

const SILENT =
  'the last boot in it does not tell its slide, and the slides before are of earlier boots; give a log with its panic, or its /proc/kallsyms';

/** `address`: the last address of _text that gave no slide. */
function describeNothing(address: bigint | undefined): string {
  if (address === 0n) return 'its addresses are hidden; read /proc/kallsyms as root, with kernel.kptr_restrict below 2';
  const foreign = address === undefined ? undefined : foreignArchitecture(address);
  if (address !== undefined && foreign !== undefined)
    return `_text at ${hex(address)} is an address of ${foreign}, not of x86-64`;
  if (address !== undefined)
    return `_text at ${hex(address)} is not a possible slide above its usual link address; name the kernel with --vmlinux`;
  return `no slide found; looked for ${[SOURCES.panic, SOURCES.kallsyms, SOURCES.vmcoreinfo].join(', ')}`;
}

/** Quoted so that the shell and gdb read it the same way. */
function quote(file: string): string {
  return /^[\w./+@%=:-]+$/.test(file) ? file : `'${file.replaceAll("'", String.raw`'\''`)}'`;
}
