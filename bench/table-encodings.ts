/**
 * What the sites of real kernels take in encodings that were tried, the one that was chosen among them, and whether that is at most 0.16 of the kernel's
 * own table. docs/performance.md has these numbers.
 *
 *     node --import tsx bench/table-encodings.ts [vmlinuz …]
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { tableEntryToPhys } from '../src/base/addresses.ts';
import { extract } from '../src/extract.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import type { Sites } from '../src/relocs/tables/apply.ts';
import { encodeCompactTable } from '../src/relocs/tables/compact.ts';
import { readRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { report } from './claims.ts';

const AT_MOST = 0.16;

/** Bytes between sites of 4 bytes; the first counts from 0. */
const gapsOf = (list: readonly number[]): number[] =>
  list.map((site, index) => site - (index === 0 ? 0 : list[index - 1]! + 4));

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** Bytes that no code of single symbols can go below. */
function entropy(symbols: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const symbol of symbols) counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
  const bits = [...counts.values()].map((count) => -count * Math.log2(count / symbols.length));
  return Math.ceil(sum(bits) / 8);
}

const GAPS: Readonly<Record<string, (gaps: readonly number[]) => number>> = {
  'gaps: a byte, else a mark and two or four bytes': (gaps) =>
    sum(gaps.map((gap) => (gap < 254 ? 1 : gap < 0x1_0000 ? 3 : 5))),
  'gaps: LEB128': (gaps) => sum(gaps.map((gap) => Math.max(1, Math.ceil(Math.log2(gap + 1) / 7)))),
  'gaps: two bytes, else six': (gaps) => sum(gaps.map((gap) => (gap < 0xffff ? 2 : 6))),
  'Elias–Fano, 8 low bits': (gaps) => Math.ceil((gaps.length * 9 + sum(gaps.slice(1).map((gap) => gap + 4)) / 256) / 8),
  'gaps by class: a byte, two, or an address': (gaps) =>
    sum(gaps.map((gap) => (gap < 236 ? 1 : gap < 236 + 19 * 256 ? 2 : 5))),
  'entropy of the gaps': entropy,
};

/** RELR (generic ABI): an address, then bitmaps of the words behind it; one bit of each tells the two apart. */
function relr(sites: readonly number[], bits: number): number {
  let words = 0;
  for (let index = 0; index < sites.length;) {
    words++;
    let base = sites[index++]! + 8;
    for (let end = index; ; words++, index = end, base += (bits - 1) * 8) {
      while (end < sites.length && sites[end]! < base + (bits - 1) * 8) end++;
      if (end === index) break;
    }
  }
  return (words * bits) / 8;
}

/** A byte for each 64 bytes; zeros and full ones with a count behind them. */
function lineBitmaps(sites: readonly number[]): number {
  const lines = new Map<number, number>();
  for (const site of sites) lines.set(Math.floor(site / 64), (lines.get(Math.floor(site / 64)) ?? 0) + 1);
  let bytes = 0;
  let [before, full] = [-1, 0];
  for (const [line, count] of lines) {
    if (before >= 0 && line !== before + 1) bytes += line - before - 1 < 256 ? 2 : 6;
    if (count < 8) bytes++;
    else if (full === 0 || full === 256 || line !== before + 1) [bytes, full] = [bytes + 2, 0];
    full = count < 8 ? 0 : full + 1;
    before = line;
  }
  return bytes;
}

function rowsAndGaps(sites: readonly number[]): number {
  const [rows, gaps] = [[1], [] as number[]];
  for (let index = 1; index < sites.length; index++) {
    const gap = sites[index]! - sites[index - 1]!;
    if (gap === 8) rows[rows.length - 1]!++;
    else {
      rows.push(1);
      gaps.push(gap);
    }
  }
  return entropy(rows) + entropy(gaps);
}

const NONE: Sites = { abs32: new Uint32Array(0), inverse32: new Uint32Array(0), abs64: new Uint32Array(0) };
/** Bytes of one list in the compact table, without the ends of all three. */
const compact = (list: Partial<Sites>): number =>
  encodeCompactTable({ ...NONE, ...list }).length - encodeCompactTable(NONE).length;

const images = process.argv.slice(2);
if (images.length === 0)
  for (const series of ['6.1', '6.12'])
    for (const flavour of ['cloud', 'generic'] as const) images.push((await fetchKernel({ series, flavour })).image);

for (const path of images) {
  const { relocs } = await extract(new Uint8Array(readFileSync(path)), { codecs: nodeCodecs });
  const bytes = relocs();
  const table = readRelocationTable(bytes);
  const [abs32, inverse32, abs64] = [table.abs32, table.inverse32, table.abs64].map((list) =>
    Array.from(list, (entry) => tableEntryToPhys(entry)!),
  ) as [number[], number[], number[]];
  const line = (what: string, ...sizes: number[]): void => {
    const cells = sizes.map((size) => size.toLocaleString('en').padStart(9));
    process.stdout.write(`  ${what.padEnd(50)}${cells.join('')}\n`);
  };
  const name = basename(path);
  process.stdout.write(`${name}: ${bytes.length.toLocaleString('en')} bytes in the kernel's format\n`);
  process.stdout.write(`  ${''.padEnd(50)}   32-bit  inverse\n`);
  for (const [what, size] of Object.entries(GAPS)) line(what, size(gapsOf(abs32)), size(gapsOf(inverse32)));
  line('chains, as in the compact table', compact({ abs32: table.abs32 }), compact({ inverse32: table.inverse32 }));
  const both = [...abs32, ...inverse32].toSorted((a, b) => a - b);
  line(
    'both lists in one, a mark before inverse ones',
    GAPS['gaps by class: a byte, two, or an address']!(gapsOf(both)) + inverse32.length,
  );
  process.stdout.write(`  ${''.padEnd(50)}   64-bit\n`);
  const aligned = abs64.filter((site) => site % 8 === 0);
  for (const bits of [64, 32, 16]) line(`RELR with words of ${bits} bits`, relr(aligned, bits));
  line('a byte for each 64 bytes, runs of equal ones counted', lineBitmaps(aligned));
  line('bitmaps and runs, as in the compact table', compact({ abs64: table.abs64 }));
  line('entropy of rows of sites and of gaps between them', rowsAndGaps(aligned));
  report({
    what: `${name}: size of the compact table, of the kernel's`,
    measured: encodeCompactTable(table).length / bytes.length,
    atMost: AT_MOST,
  });
}
