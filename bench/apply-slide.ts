/**
 * Claim: moving a kernel in a launcher's memory takes at most 8 ns a relocation, and about what the kernel's own loop takes in C.
 *
 *     node --import tsx bench/apply-slide.ts [vmlinuz …]
 *
 * Both sides apply the same table to the same image, in the same memory again and again (warm), or each time to a copy (fresh: what a launcher has
 * that has just loaded the kernel). "decoded" is what the first guest costs: the table read from its bytes and checked, too. Both must make
 * the same image.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { segmentBytes } from '../src/elf/read.ts';
import { extract } from '../src/extract.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { applySlide, prepareTable } from '../src/relocs/tables/apply.ts';
import { checkSites, countRelocations, readRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { readVmlinux } from '../src/kernel/vmlinux.ts';
import { report } from './claims.ts';
import { machine } from './measure.ts';

const ROUNDS = 101;
const SLIDE = 0x1240_0000;
const AT_MOST = 8;

const folder = mkdtempSync(join(tmpdir(), 'kslide-bench-'));
try {
  const peer = join(folder, 'apply-slide');
  const source = fileURLToPath(new URL('apply-slide.c', import.meta.url));
  execFileSync('gcc', ['-O2', '-fno-strict-aliasing', '-o', peer, source]);
  process.stdout.write(`${machine()}\n`);
  const images = process.argv.slice(2);
  if (images.length === 0)
    for (const series of ['6.1', '6.12']) images.push((await fetchKernel({ series, flavour: 'cloud' })).image);
  for (const image of images) await bench(image, peer);
} finally {
  rmSync(folder, { recursive: true });
}

async function bench(path: string, peer: string): Promise<void> {
  const { vmlinux, relocs } = await extract(readFileSync(path), { codecs: nodeCodecs });
  const { imageStart: base, imageEnd, loads, elf } = readVmlinux(vmlinux);
  const tableBytes = relocs();
  const image = new Uint8Array(imageEnd - base);
  for (const load of loads) image.set(segmentBytes(elf, load), load.paddr - base);

  const [imageFile, tableFile, out] = ['image', 'table', 'out'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(imageFile, image);
  writeFileSync(tableFile, tableBytes);
  const c = (...extra: string[]): number[] =>
    execFileSync(peer, [imageFile, `${base}`, tableFile, `${SLIDE}`, `${ROUNDS}`, out, ...extra], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .map(Number);

  const table = readRelocationTable(tableBytes);
  const prepared = prepareTable(table);
  const sites = countRelocations(table);
  const time = (work: () => void): number => {
    const start = process.hrtime.bigint();
    work();
    return Number(process.hrtime.bigint() - start) / sites;
  };
  const rounds = (once: (memory: Uint8Array) => void, memory: Uint8Array, fresh = false): number[] =>
    Array.from({ length: ROUNDS }, () => {
      if (fresh) memory.set(image);
      return time(() => once(memory));
    });
  const warm = (memory: Uint8Array): void => applySlide(memory, prepared, SLIDE, base);
  const whole = (memory: Uint8Array): void => {
    const decoded = readRelocationTable(tableBytes);
    checkSites(decoded, loads);
    applySlide(memory, decoded, SLIDE, base);
  };

  const shared = new Uint8Array(new SharedArrayBuffer(image.length));
  shared.set(image);
  const ours = new Uint8Array(image.length);
  const results = {
    'C, warm': c(),
    'C, fresh': c('fresh'),
    'applySlide, warm': rounds(warm, image.slice()),
    'applySlide, warm, SharedArrayBuffer': rounds(warm, shared),
    'applySlide, fresh': rounds(warm, ours, true),
    'table decoded and checked, fresh': rounds(whole, new Uint8Array(image.length), true),
  };
  // The C side has just written what it made of its last fresh copy.
  assert.ok(readFileSync(out).equals(ours), 'both must make the same image');

  const least = (name: keyof typeof results): number => Math.min(...results[name]);
  process.stdout.write(`${basename(path)}: ${sites} relocations, slide 0x${SLIDE.toString(16)}, ${ROUNDS} rounds\n`);
  for (const [name, list] of Object.entries(results)) {
    const peerTime = least(name.includes('warm') ? 'C, warm' : 'C, fresh');
    const sorted = list.toSorted((a, b) => a - b);
    process.stdout.write(
      `  ${name.padEnd(36)} ${sorted[0]!.toFixed(2)} ns a relocation at least, median ${sorted[ROUNDS >> 1]!.toFixed(2)}; ${(sorted[0]! / peerTime).toFixed(2)} × C\n`,
    );
  }
  const what = `applySlide on ${basename(path)}, fresh: time a relocation`;
  report({ what, measured: least('applySlide, fresh'), atMost: AT_MOST, unit: 'ns' });
}
