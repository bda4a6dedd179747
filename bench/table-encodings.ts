/**
 * What the sites of real kernels take in encodings that were tried, the one that was chosen among them, and whether that is at most 0.16 of the kernel's
 * own table. docs/performance.md has the numbers
 * of the 6.12 cloud kernel.
 *
 *     node --import tsx bench/table-encodings.ts [--record] [vmlinuz …]
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { tableEntryToPhys } from '../src/base/addresses.ts';
import { extract } from '../src/extract.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { AIMS } from '../scripts/docs/claim.ts';
import { rightAligned, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { openSuite } from '../scripts/kernels/apt-suite.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import type { Sites } from '../src/relocs/tables/apply.ts';
import { encodeCompactTable } from '../src/relocs/tables/compact.ts';
import { readRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { claims, report } from './claims.ts';

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

/** The kernel that the table of the documentation is of. */
const SHOWN = '6.12 cloud';

interface Sizes {
  /** A row for each encoding: bytes of the 32-bit list, the inverse list and the 64-bit list. */
  readonly rows: readonly (readonly Cell[])[];
  /** Of the compact table, of the kernel's. */
  readonly ratio: number;
}

async function measure(path: string): Promise<Sizes> {
  const { relocs } = await extract(new Uint8Array(readFileSync(path)), { codecs: nodeCodecs });
  const bytes = relocs();
  const table = readRelocationTable(bytes);
  const [abs32, inverse32, abs64] = [table.abs32, table.inverse32, table.abs64].map((list) =>
    Array.from(list, (entry) => tableEntryToPhys(entry)!),
  ) as [number[], number[], number[]];
  const both = [...abs32, ...inverse32].toSorted((a, b) => a - b);
  const aligned = abs64.filter((site) => site % 8 === 0);
  const rows: Cell[][] = [
    ['entries, four bytes each', 4 * abs32.length, 4 * inverse32.length, 4 * abs64.length],
    ...Object.entries(GAPS).map(([what, size]): Cell[] => [what, size(gapsOf(abs32)), size(gapsOf(inverse32)), null]),
    [
      'both in one list by class, a mark before each inverse site',
      GAPS['gaps by class: a byte, two, or an address']!(gapsOf(both)) + inverse32.length,
      null,
      null,
    ],
    ['**chains, side by side**', compact({ abs32: table.abs32 }), compact({ inverse32: table.inverse32 }), null],
    ...[64, 32, 16].map((bits): Cell[] => [`RELR, words of ${bits} bits`, null, null, relr(aligned, bits)]),
    ['a byte for each 64 bytes, runs of equal ones counted', null, null, lineBitmaps(aligned)],
    ['**bitmaps of 64 bits with skips, and runs, likewise**', null, null, compact({ abs64: table.abs64 })],
    ['entropy of rows of sites and of the gaps between them', null, null, rowsAndGaps(aligned)],
  ];
  return { rows, ratio: encodeCompactTable(table).length / bytes.length };
}

const { record, rest } = takeRecordOption();
const kernels: (readonly [name: string, path: string])[] = rest.map((path) => [basename(path), path]);
if (kernels.length === 0) {
  for (const series of ['6.1', '6.12'])
    for (const flavour of ['cloud', 'generic', 'rt'] as const)
      kernels.push([`${series} ${flavour}`, (await fetchKernel({ series, flavour })).image]);
  const apt = await openSuite('bullseye');
  kernels.push(['5.10 cloud', (await fetchKernel({ flavour: 'cloud' }, { apt })).image]);
}
const measured = new Map<string, Sizes>();
for (const [name, path] of kernels) {
  const sizes = await measure(path);
  measured.set(name, sizes);
  process.stdout.write(`${name}\n  ${''.padEnd(60)}   32-bit  inverse   64-bit\n`);
  for (const [what, ...cells] of sizes.rows) {
    const columns = cells.map((cell) => (cell ?? '').toLocaleString('en').padStart(9));
    process.stdout.write(`  ${`${what}`.padEnd(60)}${columns.join('')}\n`);
  }
  report({ what: `${name}: size of the compact table, of the kernel's`, measured: sizes.ratio, ...AIMS.tableRatio });
}
const most = (...names: string[]): number =>
  Number(Math.max(...names.map((name) => measured.get(name)!.ratio)).toFixed(3));
record?.('table-encodings', {
  machine: 'any',
  parts: ['src/relocs/tables'],
  note: `Sizes in bytes, Debian ${SHOWN}. Of two kernels the larger ratio.`,
  claims,
  values: {
    "generic: of the kernel's": most('6.1 generic', '6.12 generic'),
    "PREEMPT_RT: of the kernel's": most('6.1 rt', '6.12 rt'),
    "5.10 cloud: of the kernel's": most('5.10 cloud'),
  },
  tables: {
    encodings: tableOf(
      ['encoding', rightAligned('32-bit list'), rightAligned('inverse list'), rightAligned('64-bit list')],
      measured.get(SHOWN)!.rows,
    ),
  },
});
