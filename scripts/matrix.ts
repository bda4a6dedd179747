/**
 * Boots converted kernels on many kinds of machines. scripts/matrix/cells.ts says which, and what counts as a success.
 *
 *     npm run matrix -- [--record] [--full] [--first 40] [--part 1/8] [--kernels 6.1-cloud,6.12-cloud] [--jobs 2] [--timeout 90] [--out matrix.ndjson] [--json matrix.json] [--again] [IMAGE …]
 *
 * Without IMAGE it takes Debian's 6.1 and 6.12 in the flavours cloud, generic and rt. Every pair of levels occurs in some cell, which takes 104 cells
 * per kernel; --full is the whole product, 11,880 cells. --first takes fewer: of the 104, the first 40 have 364 of the 446 pairs. Each result is
 * appended to --out when it is there, and cells with a result are not done again, so you can stop and continue at any time. --again repeats the
 * cells that were not `ok`. --part 2/8 takes every eighth cell, from the second on, for several machines (docs/cluster.md). The exit code is 1 if a cell fails that the original kernel passes.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { integer, oneOf } from '../src/cli/options.ts';
import { describeFailure, UsageError } from '../src/cli/failure.ts';
import { table } from '../src/cli/text.ts';
import { convert } from '../src/convert.ts';
import { readInput } from '../src/kernel/input.ts';
import { MATRIX, matrixCells, runCell } from './matrix/cells.ts';
import type { MatrixCell, MatrixKernel, MatrixResult, Outcome } from './matrix/cells.ts';
import { LineFile, readLines } from '../src/measure/ndjson.ts';
import { inParallel, qemuVersion } from '../src/measure/many-boots.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { STUB } from './docs/program.ts';
import { takeRecordOption, tableOf } from './docs/record.ts';
import type { Cell, Table } from './docs/results.ts';
import { cacheFolder, fetchKernel, findModule } from './kernels/debian.ts';
import type { Flavour, KernelPackage } from './kernels/debian.ts';
import { writeFileAtomic } from '../src/node/files/output-file.ts';
import { packGuest } from '../test/guest/init.ts';
import { readVmlinux } from '../src/kernel/vmlinux.ts';

interface Line extends MatrixResult {
  readonly kernel: string;
  /** SHA-256 of the converted file: results of another stub do not count for this one. */
  readonly image: string;
  readonly cell: MatrixCell;
}

const MODULES = ['loop', 'crc-itu-t'];
const KERNELS = ['6.1', '6.12'].flatMap((series) =>
  ['cloud', 'generic', 'rt'].map((flavour) => `${series}-${flavour}`),
);

/** As the documentation names them. */
const FACTORS: Readonly<Record<keyof MatrixCell, string>> = {
  entry: 'entry',
  machine: 'machine',
  memory: 'MiB',
  cpus: 'CPUs',
  cpu: 'CPU',
  words: 'command line:',
};

process.on('uncaughtException', (error) => {
  const { text, exitCode } = describeFailure(error, 'npm run matrix --');
  process.stderr.write(`matrix: ${text}\n`);
  process.exit(exitCode);
});

const { record, rest } = takeRecordOption();
const { values: options, positionals: images } = parseArgs({
  args: rest,
  allowPositionals: true,
  options: {
    full: { type: 'boolean', default: false },
    again: { type: 'boolean', default: false },
    first: { type: 'string' },
    part: { type: 'string', default: '1/1' },
    kernels: { type: 'string', default: KERNELS.join(',') },
    jobs: { type: 'string', default: String(availableParallelism()) },
    timeout: { type: 'string', default: '90' },
    out: { type: 'string', default: join(cacheFolder(), 'matrix.ndjson') },
    json: { type: 'string' },
  },
});

const jobs = integer('--jobs', options.jobs, 1);
const timeoutMs = integer('--timeout', options.timeout, 1) * 1000;
const allCells = matrixCells(options.full);
const share = readShare(options.part);
const cells = allCells
  .slice(0, integer('--first', options.first ?? String(allCells.length), 1))
  .filter((_, index) => index % share.of === share.which - 1);
const kernels = images.length > 0 ? images : options.kernels.split(',');
mkdirSync(dirname(options.out), { recursive: true });
const known = existsSync(options.out) ? await readLines(options.out, readLine) : undefined;
const results = new LineFile(options.out, known?.length);
const lines: Line[] = [];
/** Of the kernels, or their files' names. */
const releases: string[] = [];
for (const name of kernels) {
  const kernel = await (images.length > 0 ? prepareImage(name) : prepareDebian(name));
  const image = createHash('sha256').update(kernel.converted).digest('hex');
  lines.push(...(await runKernel(kernel, image)));
}
results.close();
process.stdout.write(`\n${tally(lines)}`);
if (options.json !== undefined)
  await writeFileAtomic(options.json, [new TextEncoder().encode(`${JSON.stringify(lines, null, 2)}\n`)]);
record?.('matrix', {
  machine: `QEMU ${await qemuVersion()} (TCG)`,
  parts: [STUB],
  note: `${releases.join(', ')}; a boot had ${options.timeout} s.`,
  tables: matrixTables(lines),
});
process.exitCode = lines.some(({ outcome }) => outcome === 'failed' || outcome === 'unsteady') ? 1 : 0;

/** Of how many shares, and which, from 1. */
function readShare(value: string): { readonly which: number; readonly of: number } {
  const [which = '', count = '', ...more] = value.split('/');
  if (more.length > 0) throw new UsageError(`--part is ${JSON.stringify(value)}, expected K/N`);
  const of = integer('--part K/N: N', count, 1);
  return { which: integer('--part K/N: K', which, 1, of), of };
}

/** A cell's name, in which the factors have a fixed order, whatever order the result file has them in. */
function keyOf(cell: MatrixCell): string {
  return Object.keys(MATRIX)
    .map((factor) => cell[factor as keyof MatrixCell])
    .join(' · ');
}

async function runKernel(kernel: MatrixKernel, image: string): Promise<Line[]> {
  const done = new Map<string, Line>();
  for (const line of known?.values ?? []) {
    if (line.image !== image || (options.again && line.outcome !== 'ok')) continue;
    done.set(keyOf(line.cell), line);
  }
  const wanted = cells.map(keyOf);
  const missing = cells.filter((cell) => !done.has(keyOf(cell)));
  process.stdout.write(`${kernel.name}: ${cells.length} cells, ${cells.length - missing.length} of them done before\n`);
  await inParallel(missing, jobs, async (cell) => {
    const line: Line = { kernel: kernel.name, image, cell, ...(await runCell(kernel, cell)) };
    results.append(line);
    done.set(keyOf(cell), line);
    process.stdout.write(`${kernel.name}  ${keyOf(cell)}  ${inWords(line)}\n`);
  });
  return wanted.map((key) => done.get(key)).filter((line) => line !== undefined);
}

/** A light check is enough: this script wrote the file, and lines of another version's cells are never looked up. */
function readLine(json: unknown): Line | undefined {
  return typeof json === 'object' && json !== null && 'image' in json && 'cell' in json && 'outcome' in json
    ? (json as Line)
    : undefined;
}

function inWords({ outcome, what, original, ms }: Line): string {
  const seconds = `${(ms / 1000).toFixed(1)} s`;
  if (outcome === 'ok') return `ok, ${seconds}`;
  if (outcome === 'neither') return `neither boots (${what}; original: ${original})`;
  return `${outcome.toUpperCase()}: ${what}, ${seconds}`;
}

async function prepareDebian(name: string): Promise<MatrixKernel> {
  const [series, flavour] = oneOf('--kernels', KERNELS, name).split('-');
  const found = await fetchKernel({ series, flavour: flavour as Flavour }, { onStep: (text) => console.error(text) });
  return prepare(name, found.image, found);
}

function prepareImage(path: string): Promise<MatrixKernel> {
  return prepare(basename(path), path);
}

async function prepare(name: string, path: string, found?: KernelPackage): Promise<MatrixKernel> {
  releases.push(found?.release ?? name);
  const image = await readFile(path);
  const { vmlinux } = await readInput(image, { codecs: nodeCodecs });
  const { bytes, summary } = await convert(image, { codecs: nodeCodecs });
  const modules = await Promise.all(
    MODULES.map(async (module) => {
      const at = found && (await findModule(found, module));
      return at === undefined ? undefined : { name: basename(at), data: await readFile(at) };
    }),
  );
  const present = modules.filter((module) => module !== undefined);
  return {
    name,
    original: readVmlinux(vmlinux).elf.bytes,
    converted: bytes(),
    slots: summary.slots,
    initrd: packGuest(present),
    modules: present.length,
    timeoutMs,
  };
}

/** The tables of docs/results/matrix.json: a column for each kernel, and in each cell how many are ok; then those that are not, by outcome. */
function matrixTables(all: readonly Line[]): Readonly<Record<string, Table>> {
  const names = [...new Set(all.map(({ kernel }) => kernel))];
  const cell = (list: readonly Line[]): Cell => {
    if (list.length === 0) return null;
    const others = (['neither', 'unsteady', 'failed'] as const)
      .map((outcome) => ({ outcome, count: list.filter((line) => line.outcome === outcome).length }))
      .filter(({ count }) => count > 0);
    const ok = list.length - others.reduce((sum, { count }) => sum + count, 0);
    return others.length === 0 ? ok : [ok, ...others.map(({ outcome, count }) => `${count} ${outcome}`)].join(', ');
  };
  const row = (label: string, of: (list: readonly Line[]) => Cell): Cell[] => [
    label,
    ...names.map((name) => of(all.filter(({ kernel }) => kernel === name))),
  ];
  const columns = names.map((name) => name.replace('-', ' '));
  const levels = Object.entries(MATRIX).flatMap(([factor, values]) =>
    values.map((level) =>
      row(`${FACTORS[factor as keyof MatrixCell]} ${level}`, (list) =>
        cell(list.filter((line) => line.cell[factor as keyof MatrixCell] === level)),
      ),
    ),
  );
  return {
    cells: tableOf(['', ...columns], [row(`cells run, of ${allCells.length}`, (list) => list.length), row('ok', cell)]),
    failed: tableOf(
      ['kernel', 'cell', 'outcome', 'what'],
      all
        .filter(({ outcome }) => outcome === 'failed' || outcome === 'unsteady')
        .map((line) => [line.kernel.replace('-', ' '), keyOf(line.cell), line.outcome, line.what ?? null]),
    ),
    levels: tableOf(['cells that were ok', ...columns], levels),
  };
}

/** A row for each level and a column for each kernel: how many cells are ok, of those that the original passes. Then a line for each cell that is not ok. */
function tally(all: readonly Line[]): string {
  const names = [...new Set(all.map(({ kernel }) => kernel))];
  const count = (list: readonly Line[], ...outcomes: Outcome[]): number =>
    list.filter(({ outcome }) => outcomes.includes(outcome)).length;
  const cellText = (list: readonly Line[]): string => {
    const neither = count(list, 'neither');
    return `${count(list, 'ok')}/${list.length - neither}${neither === 0 ? '' : ` (${neither} neither)`}`;
  };
  const row = (label: string, of: (line: Line) => boolean): string[] => [
    label,
    ...names.map((name) => cellText(all.filter((line) => line.kernel === name && of(line)))),
  ];
  const rows = [['', ...names], row('all', () => true)];
  for (const [factor, levels] of Object.entries(MATRIX))
    for (const level of levels)
      rows.push(row(`${factor} ${level}`, ({ cell }) => cell[factor as keyof MatrixCell] === level));
  const notes = all
    .filter(({ outcome }) => outcome !== 'ok')
    .map((line) => `${line.kernel}  ${keyOf(line.cell)}  ${inWords(line)}`);
  return `${table(rows)}${notes.map((note) => `${note}\n`).join('')}`;
}
