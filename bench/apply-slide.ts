/**
 * Claim: moving a kernel in a launcher's memory takes at most 8 ns a relocation, and about what the kernel's own loop takes in C.
 *
 *     node --import tsx bench/apply-slide.ts [--record] [vmlinuz …]
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
import { rightAligned, rowsOf, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { applySlide, prepareTable } from '../src/relocs/tables/apply.ts';
import { checkSites, countRelocations, readRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { readVmlinux } from '../src/kernel/vmlinux.ts';
import { claims, reportTime } from './claims.ts';
import { machine } from './measure.ts';

const ROUNDS = 101;
const SLIDE = 0x1240_0000;
const AT_MOST = 8;

/** The rows of the table, by the names of the results. */
const SHOWN = {
  'C, warm': 'C, the same memory again',
  'applySlide, warm': '`applySlide`, the same memory again',
  'C, fresh': 'C, memory just written',
  'applySlide, fresh': '`applySlide`, memory just written',
} as const;

const { record, rest } = takeRecordOption();
/** Nanoseconds a relocation, least of the rounds, by kernel. */
const measured = new Map<string, Record<keyof typeof SHOWN, number>>();
const folder = mkdtempSync(join(tmpdir(), 'kslide-bench-'));
try {
  const peer = join(folder, 'apply-slide');
  const source = fileURLToPath(new URL('apply-slide.c', import.meta.url));
  execFileSync('gcc', ['-O2', '-fno-strict-aliasing', '-o', peer, source]);
  process.stdout.write(`${machine()}\n`);
  const images: (readonly [name: string, path: string])[] = rest.map((path) => [basename(path), path]);
  if (images.length === 0)
    for (const series of ['6.1', '6.12'])
      images.push([`${series} cloud`, (await fetchKernel({ series, flavour: 'cloud' })).image]);
  for (const [name, image] of images) await bench(name, image, peer);
} finally {
  rmSync(folder, { recursive: true });
}
const ofC = [...measured.values()].flatMap((times) =>
  (['warm', 'fresh'] as const).map((state) => times[`applySlide, ${state}`] / times[`C, ${state}`]),
);
record?.('apply-slide', {
  machine: 'processor',
  byMaker: true,
  parts: ['src/relocs/tables/apply.ts'],
  note: `Nanoseconds a relocation, least of ${ROUNDS} rounds.`,
  claims,
  values: {
    'least of C': Number(Math.min(...ofC).toFixed(1)),
    'most of C': Number(Math.max(...ofC).toFixed(1)),
  },
  tables: {
    applySlide: tableOf(
      [
        `per relocation, least of ${ROUNDS} rounds`,
        ...[...measured.keys()].map((kernel) => rightAligned(kernel, { digits: 1, suffix: ' ns' })),
      ],
      rowsOf(
        Object.values(SHOWN),
        [...measured.values()].map((times) => Object.values(times).map((time) => Number(time.toFixed(1)))),
      ),
    ),
  },
});

async function bench(kernel: string, path: string, peer: string): Promise<void> {
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
  // In the order of SHOWN.
  measured.set(kernel, {
    'C, warm': least('C, warm'),
    'applySlide, warm': least('applySlide, warm'),
    'C, fresh': least('C, fresh'),
    'applySlide, fresh': least('applySlide, fresh'),
  });
  process.stdout.write(`${basename(path)}: ${sites} relocations, slide 0x${SLIDE.toString(16)}, ${ROUNDS} rounds\n`);
  for (const [result, list] of Object.entries(results)) {
    const peerTime = least(result.includes('warm') ? 'C, warm' : 'C, fresh');
    const sorted = list.toSorted((a, b) => a - b);
    process.stdout.write(
      `  ${result.padEnd(36)} ${sorted[0]!.toFixed(2)} ns a relocation at least, median ${sorted[ROUNDS >> 1]!.toFixed(2)}; ${(sorted[0]! / peerTime).toFixed(2)} × C\n`,
    );
  }
  const what = `applySlide on ${basename(path)}, fresh: time a relocation`;
  reportTime({ what, measured: least('applySlide, fresh'), atMost: AT_MOST, unit: 'ns' });
}
