/**
 * Many kinds of machines, boot loaders and command lines, and what a converted kernel has to do on each.
 *
 * Each cell boots with a guest program that reports where the kernel is, where it put its memory regions, and whether its modules load. A kernel that
 * must not move has to stay where it is linked, with its regions at their documented addresses. A kernel that must move has to be in one of its slots,
 * with its regions elsewhere. A cell that fails is tried again with the kernel as it was before `convert`: if that fails too, the stub is not the cause.
 */
import { hex } from '../../src/base/errors.ts';
import { largestSlide } from '../../src/kaslr/slots.ts';
import type { Slots } from '../../src/kaslr/slots.ts';
import type { GuestReport } from '../../src/node/qemu/console.ts';
import { boot } from '../../src/node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../src/node/qemu/qemu.ts';
import { pairwise, product } from './pairwise.ts';
import type { Cell, Rule } from './pairwise.ts';

const MIB = 0x10_0000;
/** The words that node/qemu/qemu.ts passes, and explains. */
const CONSOLE = 'console=ttyS0 panic=-1 no_timer_check';
/** A line of 2,000 characters that ends with `last`. The kernel's own limit is 2,048. */
const long = (last: string): string =>
  `${CONSOLE} ${'fill='.padEnd(2000 - CONSOLE.length - last.length - 2, 'x')} ${last}`;
/** With it everything still fits into 128 MiB. */
const PHYSICAL_SLIDE = 12 * MIB;

/** Command lines, and whether the kernel has to stay. Quotes mean nothing, as in the decompressor. */
const COMMAND_LINES = {
  none: { line: CONSOLE, stays: false },
  'nokaslr first': { line: `nokaslr ${CONSOLE}`, stays: true },
  'nokaslr between': { line: 'console=ttyS0 nokaslr panic=-1 no_timer_check', stays: true },
  'nokaslr last': { line: `${CONSOLE} nokaslr`, stays: true },
  'part of a word': { line: `${CONSOLE} xnokaslr nokaslrx nokaslr=1 no-kaslr`, stays: false },
  'quoted word': { line: `${CONSOLE} "nokaslr"`, stays: false },
  'between quotes': { line: `${CONSOLE} x="a nokaslr b"`, stays: true },
  '2,000 characters': { line: long('randomize'), stays: false },
  '2,000 with nokaslr': { line: long('nokaslr'), stays: true },
  missing: { line: CONSOLE, stays: false },
} as const;

/**
 * Words that a machine needs. microvm has one timer, with which the kernel calibrates its TSC. On a busy host that fails, and then the kernel has no
 * clock and hangs (measured on 6.12, with and without the stub). So the frequency is given; and the way to end the guest (node/qemu/qemu.ts).
 */
const NEEDED: Readonly<Record<string, string>> = { microvm: 'tsc_early_khz=1000000 reboot=t ' };

const ENTRIES = {
  pvh: { entry: 'pvh' },
  linux64: { entry: 'linux64', linux64: {} },
  'linux64, physical slide': { entry: 'linux64', linux64: { physicalSlide: PHYSICAL_SLIDE } },
  'linux64, 5 levels': { entry: 'linux64', linux64: { fiveLevel: true } },
} as const satisfies Record<string, Partial<BootOptions>>;

/** Plain levels first. QEMU's -machine, -m, -smp and -cpu as they stand; `max` has RDRAND, SMEP, SMAP and la57, but no RDSEED. */
export const MATRIX = {
  entry: Object.keys(ENTRIES) as (keyof typeof ENTRIES)[],
  machine: ['pc', 'q35', 'microvm'],
  memory: ['512', '128', '4096', '6144'],
  cpus: ['1', '2', '4'],
  cpu: [
    'max',
    'max,-rdrand',
    'max,-rdrand,-tsc',
    'max,-la57',
    'max,-smep,-smap',
    'qemu64',
    'Nehalem',
    'Haswell',
    'Skylake-Server',
    'EPYC',
  ],
  words: Object.keys(COMMAND_LINES) as (keyof typeof COMMAND_LINES)[],
} as const;

export type MatrixCell = Cell<typeof MATRIX>;

/** Only the 64-bit protocol can omit the command line, and only a CPU with la57 can be entered with 5-level paging. */
const canBe: Rule = ({ entry, cpu, words }) => {
  if (entry === 'pvh' && words === 'missing') return false;
  return entry !== 'linux64, 5 levels' || cpu === undefined || (cpu.startsWith('max') && !cpu.includes('-la57'));
};

/** Cells in which every pair of levels occurs, or the whole product. */
export function matrixCells(full: boolean): MatrixCell[] {
  return full ? product(MATRIX, canBe) : pairwise(MATRIX, canBe);
}

export interface MatrixKernel {
  readonly name: string;
  readonly original: Uint8Array;
  readonly converted: Uint8Array;
  readonly slots: Slots;
  /** An initramfs with the guest program (test/guest/init.ts) and the modules that it loads. */
  readonly initrd: Uint8Array;
  readonly modules: number;
  /** A boot that takes longer has failed. */
  readonly timeoutMs: number;
}

/**
 * `ok`; `failed`: failed twice, and the original did not; `unsteady`: failed once, then not; `neither`: the original fails too.
 */
export type Outcome = 'ok' | 'failed' | 'unsteady' | 'neither';

export interface MatrixResult {
  readonly outcome: Outcome;
  /** What was wrong with the converted kernel the first time. */
  readonly what?: string | undefined;
  /** What was wrong with the original, if it failed. */
  readonly original?: string | undefined;
  /** The end of the console's output, if the converted kernel failed. */
  readonly tail?: string | undefined;
  readonly ms: number;
}

const TAIL = 1_500;

export async function runCell(kernel: MatrixKernel, cell: MatrixCell): Promise<MatrixResult> {
  const { stays } = COMMAND_LINES[cell.words];
  const attempt = (image: Uint8Array): Promise<BootResult> => boot({ image, ...optionsOf(kernel, cell) });
  const judge = (result: BootResult): string | undefined => judgeBoot(kernel, cell, stays, result);
  const first = await attempt(kernel.converted);
  const what = judge(first);
  const ms = first.milliseconds;
  if (what === undefined) return { outcome: 'ok', ms };
  const tail = first.console.slice(-TAIL);
  // The original always stays.
  const original = judgeBoot(kernel, cell, true, await attempt(kernel.original));
  if (original !== undefined) return { outcome: 'neither', what, original, tail, ms };
  const again = judge(await attempt(kernel.converted));
  return { outcome: again === undefined ? 'unsteady' : 'failed', what, tail, ms };
}

function optionsOf({ initrd, timeoutMs }: MatrixKernel, cell: MatrixCell): Omit<BootOptions, 'image'> {
  const { machine, memory, cpus, cpu } = cell;
  const entry: Partial<BootOptions> = ENTRIES[cell.entry];
  const commandLine = cell.words === 'missing' ? 'none' : 'as-given';
  const { line } = COMMAND_LINES[cell.words];
  return {
    ...entry,
    linux64: { ...entry.linux64, commandLine },
    machine,
    memoryMib: Number(memory),
    cpus: Number(cpus),
    cpu,
    initrd,
    timeoutMs,
    // QEMU takes the last -append. With it, words can come before those that the harness always passes.
    extra: ['-append', line.replace('console=', `${NEEDED[machine] ?? ''}console=`)],
  };
}

/** Where Linux has vmalloc unless it randomizes it, with 4 and with 5 levels (Documentation/arch/x86/x86_64/mm.rst). */
const FIXED_VMALLOC: ReadonlySet<bigint> = new Set([0xffff_c900_0000_0000n, 0xffa0_0000_0000_0000n]);

/** Whether the kernel has its memory regions where they are without KASLR_FLAG. */
export function hasFixedVmalloc({ kcore }: GuestReport): boolean {
  return kcore.some(({ start }) => FIXED_VMALLOC.has(start));
}

/** What is wrong, or undefined. */
function judgeBoot(
  { slots, modules }: MatrixKernel,
  { entry, cpus }: MatrixCell,
  stays: boolean,
  { end, slide, report, errors }: BootResult,
): string | undefined {
  const { guest } = report;
  if (end === 'qemu-error') return `${end}: ${firstError(errors)}`;
  if (!guest.done) return report.panic === undefined ? end : `${end}: ${report.panic}`;
  if (slide === undefined) return 'no _text in /proc/kallsyms';
  if (stays && slide !== 0) return `moved by ${hex(slide)}, though it must stay`;
  if (slide % slots.align !== 0 || slide < 0 || slide > largestSlide(slots)) return `slide ${hex(slide)} is no slot`;
  const fixed = hasFixedVmalloc(guest);
  if (fixed !== stays) return `vmalloc is ${fixed ? 'not ' : ''}randomized`;
  if (entry === 'linux64, physical slide' && (guest.physicalText ?? 0) % (16 * MIB) !== PHYSICAL_SLIDE)
    return `kernel code at physical ${hex(guest.physicalText ?? 0)}`;
  if (guest.cpus !== Number(cpus)) return `${guest.cpus} CPUs`;
  const failed = guest.modules.find((result) => result !== 0);
  if (guest.modules.length !== modules || failed !== undefined) return `module: ${failed ?? 'not tried'}`;
  return undefined;
}

function firstError(errors: string): string {
  return errors.split('\n').find((line) => line !== '' && !line.includes('warning:')) ?? 'it was killed';
}
