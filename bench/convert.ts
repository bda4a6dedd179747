/**
 * Claim: converting a kernel takes no longer than the kernel source's scripts/extract-vmlinux takes to unpack it (at most 1.3 times as long
 * for xz), needs at most 4 times the kernel's size in memory, and adds at most the table and 64 KiB.
 *
 *     npm run build && node --import tsx bench/convert.ts [--record] [vmlinuz …]
 *
 * Whole processes, both writing a file; first it is checked that every byte that the peer unpacked is in the converted file, but for the hook and the
 * headers.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { endOfElf, readElf } from '../src/elf/read.ts';
import { AIMS } from '../scripts/docs/claim.ts';
import { rightAligned, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { claims, report, reportTime } from './claims.ts';
import { machine, peakMemory, race } from './measure.ts';
import { kernelSource } from './peers.ts';

const ROUNDS = 11;
const AT_MOST: Record<string, number> = { xz: 1.3 };

const kslide = fileURLToPath(new URL('../bin/kslide.js', import.meta.url));
const peer = kernelSource('scripts/extract-vmlinux');
const folder = mkdtempSync(join(tmpdir(), 'kslide-bench-'));
const { record, rest } = takeRecordOption();
const rows: Cell[][] = [];

try {
  const images: (readonly [name: string, path: string])[] = rest.map((path) => [basename(path), path]);
  if (images.length === 0) {
    const wishes = [
      { series: '6.12', flavour: 'cloud' },
      { series: '6.1', flavour: 'cloud' },
      { series: '6.1', flavour: 'generic' },
    ] as const;
    for (const wish of wishes) images.push([`Debian ${wish.series} ${wish.flavour}`, (await fetchKernel(wish)).image]);
  }
  process.stdout.write(`${machine()}\n`);
  for (const [name, image] of images) rows.push(bench(name, image));
} finally {
  rmSync(folder, { recursive: true });
}
record?.('convert', {
  machine: 'processor',
  byMaker: true,
  parts: [
    'src/convert.ts',
    'src/codecs',
    'src/wasm',
    'src/relocs/tables',
    'src/node/files',
    'src/cli/commands/convert.ts',
  ],
  before: 'npm run build',
  note: `Whole processes, taking turns, medians of ${ROUNDS}.`,
  claims,
  tables: {
    convert: tableOf(
      [
        'kernel',
        'payload',
        rightAligned('`convert`', { digits: 0, suffix: ' ms' }),
        rightAligned('`extract-vmlinux`', { digits: 0, suffix: ' ms' }),
        rightAligned("of extract-vmlinux's", { digits: 2 }),
        rightAligned('peak memory / size of the vmlinux', { digits: 2 }),
        rightAligned('added, without the table', { suffix: ' bytes' }),
      ],
      rows,
    ),
  },
});

/** A row of the table. */
function bench(name: string, image: string): Cell[] {
  const [ours, theirs] = [join(folder, 'ours'), join(folder, 'theirs')];
  const convert = ['convert', image, '-o', ours];
  const summary = JSON.parse(execFileSync(process.execPath, [kslide, ...convert, '--json'], { encoding: 'utf8' })) as {
    readonly compression: string;
    readonly sizes: { readonly vmlinux: number; readonly added: number; readonly table: number };
  };
  const [mine, yours] = race(
    [
      { args: [process.execPath, kslide, ...convert, '--quiet'], output: ours },
      { args: ['bash', peer, image], output: theirs, redirect: true },
    ],
    ROUNDS,
  );
  checkSame(readFileSync(ours), readFileSync(theirs), image);
  const ratio = mine!.median / yours!.median;
  const most = AT_MOST[summary.compression] ?? AIMS.convert.atMost;
  const memory = peakMemory([process.execPath, kslide, ...convert, '--quiet']) / summary.sizes.vmlinux;
  const added = summary.sizes.added - summary.sizes.table;
  const what = `convert ${basename(image)} (${summary.compression})`;
  process.stdout.write(
    `${basename(image)}: convert ${mine!.median.toFixed(0)} ms, extract-vmlinux ${yours!.median.toFixed(0)} ms, medians of ${ROUNDS}\n`,
  );
  reportTime({ what: `${what}: time, of extract-vmlinux's`, measured: ratio, atMost: most });
  report({ what: `${what}: peak memory, of the vmlinux`, measured: memory, atMost: 4 });
  report({ what: `${what}: added beside the table`, measured: added, atMost: 0x1_0000, unit: 'bytes' });
  const times = [mine!.median, yours!.median].map(Math.round);
  return [name, summary.compression, ...times, Number(ratio.toFixed(2)), Number(memory.toFixed(2)), added];
}

function checkSame(ours: Uint8Array, theirs: Uint8Array, image: string): void {
  const elf = readElf(theirs);
  const entry = Number(elf.header.entry);
  const load = elf.segments.find(({ paddr, filesz }) => entry >= paddr && entry < paddr + filesz)!;
  const hook = load.offset + entry - load.paddr;
  const end = endOfElf(elf);
  const headers = elf.header.phoff + (elf.header.phnum + 1) * 56;
  const same = (from: number, to: number): boolean =>
    Buffer.compare(ours.subarray(from, to), theirs.subarray(from, to)) === 0;
  if (!same(headers, hook) || !same(hook + 5, end)) throw new Error(`${image}: the two did not unpack the same kernel`);
}
