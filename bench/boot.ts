/**
 * Whole boots of Debian's 6.12 and 6.1 cloud kernels with 256 MiB by PVH: as bzImage, as vmlinux and converted. Claims: with the compact table, kslide's own instructions
 * between loader and kernel are at most 5 a relocation, counted exactly; and a whole boot of 6.12, with the kernel's self-tests of cryptography, takes at least 30% fewer
 * instructions than the bzImage's.
 *
 *     node --import tsx bench/boot.ts [--record] [vmlinuz …]
 *
 * What `kslide bench --accel tcg` measures: guest instructions, which no other work on the machine changes. Half an hour a kernel; with `--record` each kernel is kept when it is
 * done.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { AIMS } from '../scripts/docs/claim.ts';
import { keep } from '../scripts/docs/keep.ts';
import { STUB } from '../scripts/docs/program.ts';
import { takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell, Table } from '../scripts/docs/results.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { reportBench } from '../src/cli/reports/bench.ts';
import { runBench } from '../src/measure/bench/bench.ts';
import type { BenchRow, BenchSummary } from '../src/measure/bench/summary.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { STUB_STEPS } from '../src/stub/program.ts';
import { claims, report } from './claims.ts';
import { machine } from './measure.ts';

const MEMORY_MIB = 256;
/** Without and with the self-tests, which `kslide bench` leaves out: a distribution's kernel does them. */
const WITHOUT_TESTS = 'quiet cryptomgr.notests';
const WITH_TESTS = 'quiet';
const RUNS = 5;
const PARTS = [STUB];

/** The rows of the table, by the names of the variants. */
const BOOTS: Readonly<Record<string, string>> = {
  bzimage: 'bzImage',
  'bzimage-nokaslr': 'bzImage, nokaslr',
  vmlinux: 'vmlinux',
  'kslide-compact': 'kslide, compact',
  'kslide-compact-nokaslr': 'kslide, compact, nokaslr',
};
const FORMATS = { compact: 'compact', kernel: "kernel's format" } as const;

const { record, rest } = takeRecordOption();

async function bench(image: string, append: string): Promise<BenchSummary> {
  const work = (): Promise<BenchSummary> =>
    runBench(new Uint8Array(readFileSync(image)), {
      codecs: nodeCodecs,
      accel: 'tcg',
      memoryMib: MEMORY_MIB,
      runs: RUNS,
      append,
    });
  const name = `boot-${RUNS}-${basename(image)}-${append.replaceAll(/\W/g, '-')}`;
  const summary = record === undefined ? await work() : await keep(name, PARTS, work);
  process.stdout.write(reportBench(summary));
  for (const { table, instructions, again, perRelocation } of summary.stubs) {
    assert.equal(again, instructions, 'the same in every boot');
    if (table === 'compact' && append === WITHOUT_TESTS)
      report({
        what: `${basename(image)}, ${table} table: the stub's instructions a relocation`,
        measured: perRelocation,
        ...AIMS.stubInstructions,
      });
  }
  return summary;
}

function rowOf({ rows }: BenchSummary, name: string): BenchRow {
  return rows.find((row) => row.name === name)!;
}

/** Millions. */
function millions(count: number | undefined, digits: number): Cell {
  return count === undefined ? null : Number((count / 1e6).toFixed(digits));
}

function percent(ratio: number): string {
  return `${ratio < 0 ? '' : '+'}${(100 * ratio).toFixed(Math.abs(ratio) < 0.1 ? 2 : 1)}%`;
}

function bootTable(summary: BenchSummary): Table {
  const plain = rowOf(summary, 'vmlinux');
  const rows = Object.entries(BOOTS).map(([name, title]): Cell[] => {
    const { median, least, most, phases, overPlain } = rowOf(summary, name);
    return [
      title,
      millions(median, 1),
      Number(((100 * (most - least)) / median).toFixed(2)),
      name === plain.name ? null : percent(overPlain / plain.median),
      millions(phases?.loader, 1),
      millions(phases?.decompressor, 1),
      millions(phases?.stub, 3),
      millions(phases?.kernel, 1),
    ];
  });
  const columns = [
    'boot',
    { name: 'to /init', digits: 1 },
    { name: 'spread', digits: 2, suffix: '%' },
    'over vmlinux',
    { name: 'loader', digits: 1 },
    { name: 'decompressor', digits: 1 },
    { name: 'kslide', digits: 3 },
    { name: 'kernel', digits: 1 },
  ];
  return tableOf(columns, rows);
}

/** A column for each kernel and format of the table. */
function stepsTable(kernels: ReadonlyMap<string, BenchSummary>): Table {
  const stubs = [...kernels].flatMap(([series, { stubs: all }]) =>
    all.map((stub) => ({ name: `${series}, ${FORMATS[stub.table]}`, stub })),
  );
  const row = (name: string, of: (stub: (typeof stubs)[number]['stub']) => Cell): Cell[] => [
    name,
    ...stubs.map(({ stub }) => of(stub)),
  ];
  return tableOf(
    ['step', ...stubs.map(({ name }) => name)],
    [
      ...STUB_STEPS.map((step) => row(step, ({ steps }) => steps[step] ?? null)),
      row('in all', ({ instructions }) => instructions),
      // With two digits always: 4.90.
      row('for each relocation', ({ perRelocation }) => perRelocation.toFixed(2)),
      row('in all, with `nokaslr`', ({ nokaslr }) => nokaslr),
      row('size of the table', ({ tableBytes }) => `${tableBytes.toLocaleString('en-US')} bytes`),
    ],
  );
}

process.stdout.write(`${machine()}\n`);
if (rest.length > 0) {
  for (const image of rest) await bench(image, WITHOUT_TESTS);
} else {
  const kernels = new Map<string, BenchSummary>();
  const image = { '6.12': '', '6.1': '' };
  for (const series of ['6.12', '6.1'] as const) {
    image[series] = (await fetchKernel({ series, flavour: 'cloud' })).image;
    kernels.set(series, await bench(image[series], WITHOUT_TESTS));
  }
  const tested = await bench(image['6.12'], WITH_TESTS);
  report({
    what: `${basename(image['6.12'])}, compact table: whole boot with self-tests, of the bzImage's`,
    measured: rowOf(tested, 'kslide-compact').median / rowOf(tested, 'bzimage').median,
    atMost: 0.7,
  });
  const zstd = kernels.get('6.12')!;
  const megabytes = (name: string): number => Number((rowOf(zstd, name).file / 1e6).toFixed(1));
  const where = `QEMU ${zstd.guest.qemu} (TCG), ${MEMORY_MIB} MiB, PVH`;
  record?.('boot', {
    machine: where,
    parts: PARTS,
    note: `With \`${WITHOUT_TESTS}\`: medians of ${RUNS} boots, spread from least to most, millions of guest instructions.`,
    claims,
    values: {
      'with tests: bzImage over vmlinux, percent': Number(
        ((100 * rowOf(tested, 'bzimage').overPlain) / rowOf(tested, 'vmlinux').median).toFixed(1),
      ),
      'bzImage, MB': megabytes('bzimage'),
      'vmlinux, MB': megabytes('vmlinux'),
      'converted, MB': megabytes('kslide-compact'),
    },
    tables: Object.fromEntries([...kernels].map(([series, summary]) => [series, bootTable(summary)])),
  });
  record?.('stub', {
    machine: where,
    parts: PARTS,
    note: 'From the first arrival at startup_64 to the second, the same number in every boot.',
    tables: { steps: stepsTable(kernels) },
  });
}
