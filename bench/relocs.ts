/**
 * Claim: on Debian's 590 MB debug vmlinux `kslide relocs` takes at most 0.6 times as long as the kernel's own tool (-O2), and at most half its peak
 * memory; on a vmlinux of 20 MB it takes at most 120 ms.
 *
 *     npm run build && node --import tsx bench/relocs.ts [--record] [vmlinux …]
 *
 * Whole processes, both writing a file; both must write the same. Without arguments: what scripts/build-relocs-debug-vmlinux.sh fetches (310 MB),
 * and a vmlinux of 20 MB made here. With arguments the first claim is for each of them.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { link } from '../test/relocs/fixtures.ts';
import { rightAligned, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { claims, report, reportTime } from './claims.ts';
import { machine, peakMemory, race } from './measure.ts';

const ROUNDS = 21;
const SMALL_MS = 120;

const path = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));
const fromScript = (name: string): string => execFileSync('sh', [path(`scripts/${name}`)], { encoding: 'utf8' }).trim();

const kslide = path('bin/kslide.js');
const judge = join(fromScript('build-relocs-judge.sh'), 'relocs');
const folder = mkdtempSync(join(tmpdir(), 'kslide-bench-'));
const { record, rest: given } = takeRecordOption();
const rows: Cell[][] = [];

try {
  process.stdout.write(`${machine()}\n`);
  for (const vmlinux of given.length > 0 ? given : [fromScript('build-relocs-debug-vmlinux.sh')]) bench(vmlinux);
  if (given.length === 0) bench(makeSmall(), SMALL_MS);
} finally {
  rmSync(folder, { recursive: true });
}
record?.('relocs', {
  machine: 'processor',
  byMaker: true,
  parts: ['src/relocs/tool', 'src/elf', 'src/cli/commands/relocs.ts'],
  before: 'npm run build',
  note: `Whole processes, medians of ${ROUNDS} in turns.`,
  claims,
  tables: {
    tools: tableOf(
      [
        'vmlinux',
        rightAligned('MB'),
        rightAligned('`kslide relocs`', { suffix: ' ms' }),
        rightAligned("the kernel's tool", { suffix: ' ms' }),
        rightAligned("time, of the tool's", { digits: 2 }),
        rightAligned("peak memory, of the tool's", { digits: 2 }),
      ],
      rows,
    ),
  },
});

/** `atMost`: milliseconds, instead of the ratios. */
function bench(vmlinux: string, atMost?: number): void {
  const [ours, theirs] = [join(folder, 'ours'), join(folder, 'theirs')];
  const [mine, yours] = [
    [process.execPath, kslide, 'relocs', vmlinux],
    [judge, vmlinux],
  ];
  const [me, you] = race(
    [
      { args: mine!, output: ours, redirect: true },
      { args: yours!, output: theirs, redirect: true },
    ],
    ROUNDS,
  );
  assert.ok(readFileSync(ours).equals(readFileSync(theirs)), 'both must write the same table');
  const ratio = me!.median / you!.median;
  const memory = peakMemory(mine!) / peakMemory(yours!);
  process.stdout.write(
    `${basename(vmlinux)}, ${(statSync(vmlinux).size / 1e6).toFixed(0)} MB: kslide ${me!.median.toFixed(0)} ms, relocs ${you!.median.toFixed(0)} ms, ` +
      `ratio of the least ${(me!.least / you!.least).toFixed(2)}; table ${statSync(ours).size} bytes; medians of ${ROUNDS}\n`,
  );
  const megabytes = Math.round(statSync(vmlinux).size / 1e6);
  const times = [me!.median, you!.median].map(Math.round);
  rows.push([basename(vmlinux), megabytes, ...times, Number(ratio.toFixed(2)), Number(memory.toFixed(2))]);
  const what = `relocs ${basename(vmlinux)}`;
  if (atMost === undefined) {
    reportTime({ what: `${what}: time, of the kernel's tool's`, measured: ratio, atMost: 0.6 });
    report({ what: `${what}: peak memory, of the kernel's tool's`, measured: memory, atMost: 0.5 });
  } else {
    reportTime({ what: `${what}: time`, measured: me!.median, atMost, unit: 'ms' });
  }
}

/** As many relocations of each kind as a small kernel has: 11 MB of image, 9 MB of relocations. */
function makeSmall(): string {
  const source = `
    .text
    .globl function
function:
    .rept 250000
    call function
    .endr
    .rept 60000
    movq $object, %rax
    .endr
    .data
    .globl object
object:
    .rept 60000
    .quad function
    .endr
    .fill 9000000, 1, 0
    .section .data..percpu, "aw"
    .quad object`;
  const script = `
    PHDRS { image PT_LOAD FLAGS(7); percpu PT_LOAD FLAGS(6); }
    SECTIONS {
      . = 0xffffffff81000000;
      .text : AT(ADDR(.text) - 0xffffffff80000000) { *(.text) } :image
      .data : { *(.data) }
      __per_cpu_load = .;
      .data..percpu 0 : AT(__per_cpu_load - 0xffffffff80000000) { *(.data..percpu) } :percpu
    }`;
  const file = join(folder, 'small-vmlinux');
  writeFileSync(file, link(64, 'small', source, script));
  return file;
}
