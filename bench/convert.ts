/**
 * Claim: converting a kernel takes no longer than the kernel source's scripts/extract-vmlinux takes to unpack it (at most 1.3 times as long
 * for xz), needs at most 4 times the kernel's size in memory, and adds at most the table and 64 KiB.
 *
 *     npm run build && node --import tsx bench/convert.ts [vmlinuz …]
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
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { report } from './claims.ts';
import { machine, peakMemory, race } from './measure.ts';
import { kernelSource } from './peers.ts';

const ROUNDS = 11;
const AT_MOST: Record<string, number> = { xz: 1.3 };

const kslide = fileURLToPath(new URL('../bin/kslide.js', import.meta.url));
const peer = kernelSource('scripts/extract-vmlinux');
const folder = mkdtempSync(join(tmpdir(), 'kslide-bench-'));

try {
  let images = process.argv.slice(2);
  if (images.length === 0) {
    const wishes = [
      { series: '6.12', flavour: 'cloud' },
      { series: '6.1', flavour: 'cloud' },
      { series: '6.1', flavour: 'generic' },
    ] as const;
    images = [];
    for (const wish of wishes) images.push((await fetchKernel(wish)).image);
  }
  process.stdout.write(`${machine()}\n`);
  for (const image of images) bench(image);
} finally {
  rmSync(folder, { recursive: true });
}

function bench(image: string): void {
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
  const most = AT_MOST[summary.compression] ?? 1;
  const memory = peakMemory([process.execPath, kslide, ...convert, '--quiet']) / summary.sizes.vmlinux;
  const added = summary.sizes.added - summary.sizes.table;
  const what = `convert ${basename(image)} (${summary.compression})`;
  process.stdout.write(
    `${basename(image)}: convert ${mine!.median.toFixed(0)} ms, extract-vmlinux ${yours!.median.toFixed(0)} ms, medians of ${ROUNDS}\n`,
  );
  report({ what: `${what}: time, of extract-vmlinux's`, measured: ratio, atMost: most });
  report({ what: `${what}: peak memory, of the vmlinux`, measured: memory, atMost: 4 });
  report({ what: `${what}: added beside the table`, measured: added, atMost: 0x1_0000, unit: 'bytes' });
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
