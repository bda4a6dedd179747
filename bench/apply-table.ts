/**
 * Claims: the stub's apply step, decoding the compact table as it goes, takes at most 0.8 of the time of the kernel's own loop over its own table with
 * cold caches, and at most 0.9 when they are warm. (How large the table is: table-encodings.ts.)
 *
 *     [RUNS=5] [ROUNDS=31] chrt -r 10 node --import tsx bench/apply-table.ts [--record] [vmlinuz …]
 *
 * Both sides run in one process, in turns, on one image in pages of 2 MiB: on ours the very bytes of the program in the segment that `convert` adds;
 * on the other the decompressor's loop (for each u32 read backwards: sign-extend, add) by gcc -O2. Cold means that image, tables and code were
 * flushed from all caches (CLFLUSH), so every line comes from memory. Both must make the same image.
 *
 * It takes RUNS processes, by turns of the kernels, so that both see the machine at several times; each has memory of its own. A round while the system ran
 * something else on the processor is left out. The claim is about the ratio of the medians; the ratio of the least times, and the least and the
 * greatest ratio of one run, stand beside it. What other processors do to the shared caches and to memory is not left out, and cannot be: so
 * where the loop itself varies too much, the claim is unknown, not missed and not kept (judge.ts).
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { convert } from '../src/convert.ts';
import { segmentBytes } from '../src/elf/read.ts';
import { extract } from '../src/extract.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { AIMS } from '../scripts/docs/claim.ts';
import { STUB } from '../scripts/docs/program.ts';
import { rightAligned, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { countRelocations, readRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { STUB_TABLES } from '../src/segment/table.ts';
import { readVmlinux } from '../src/kernel/vmlinux.ts';
import { compileHarness, runHarness } from './apply-step.ts';
import type { ApplyJob, ApplyTime } from './apply-step.ts';
import { claims, report } from './claims.ts';
import { judge } from './judge.ts';
import type { Side } from './judge.ts';
import { machine } from './measure.ts';

const RUNS = Number(process.env['RUNS'] ?? 5);
const ROUNDS = Number(process.env['ROUNDS'] ?? 31);
const SLIDE = 0x1240_0000;
const AIM = { cold: AIMS.applyCold, warm: AIMS.applyWarm } as const;

interface Subject {
  readonly name: string;
  readonly table: (typeof STUB_TABLES)[number];
  readonly sites: number;
  readonly job: ApplyJob;
  /** The rounds of each run. */
  readonly runs: ApplyTime[][];
}

const { record, rest } = takeRecordOption();
/** Of the compact table. */
const rows: Cell[][] = [];
const folder = mkdtempSync(join(tmpdir(), 'kslide-bench-'));
try {
  const harness = compileHarness(folder);
  process.stdout.write(`${machine()}\n`);
  const images: (readonly [name: string, path: string])[] = rest.map((path) => [basename(path), path]);
  if (images.length === 0)
    for (const series of ['6.1', '6.12'])
      images.push([`${series} cloud`, (await fetchKernel({ series, flavour: 'cloud' })).image]);
  const subjects: Subject[] = [];
  for (const [name, image] of images) subjects.push(...(await subjectsOf(name, image)));
  const loads = [busy()];
  for (let run = 0; run < RUNS; run++) {
    for (const subject of subjects) subject.runs.push(runHarness(harness, folder, subject.job));
    loads.push(busy());
  }
  process.stdout.write(`load ${Math.min(...loads)} to ${Math.max(...loads)}; ${RUNS} runs of ${ROUNDS} rounds\n`);
  for (const subject of subjects) for (const state of ['cold', 'warm'] as const) show(subject, state);
} finally {
  rmSync(folder, { recursive: true });
}
record?.('apply-table', {
  machine: 'processor',
  byMaker: true,
  parts: [STUB],
  note: `Nanoseconds a relocation, compact table, ${RUNS} runs of ${ROUNDS} rounds.`,
  claims,
  tables: {
    apply: tableOf(
      [
        'kernel',
        'state',
        ...['stub, median', 'least', 'loop, median', 'least', 'medians, stub / loop', 'least, stub / loop'].map(
          (column) => rightAligned(column, { digits: 2 }),
        ),
      ],
      rows,
    ),
  },
});

/** Processes that are running or want to. This one is among them. */
function busy(): number {
  return Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[3]!.split('/')[0]);
}

async function subjectsOf(name: string, path: string): Promise<Subject[]> {
  const file = new Uint8Array(readFileSync(path));
  const { vmlinux, relocs } = await extract(file, { codecs: nodeCodecs });
  const { imageStart: base, imageEnd, loads, elf } = readVmlinux(vmlinux);
  const kernelTable = relocs();
  const image = new Uint8Array(imageEnd - base);
  for (const load of loads) image.set(segmentBytes(elf, load), load.paddr - base);
  const sites = countRelocations(readRelocationTable(kernelTable));
  const subjects: Subject[] = [];
  for (const table of STUB_TABLES) {
    const converted = await convert(file, { codecs: nodeCodecs, table });
    const kernel = readVmlinux(converted.bytes());
    const segment = segmentBytes(kernel.elf, kernel.loads.at(-1)!);
    const job = { segment, kernelTable, image, base, slide: SLIDE, rounds: ROUNDS };
    subjects.push({ name, table, sites, job, runs: [] });
  }
  return subjects;
}

function show({ name, table, sites, runs }: Subject, state: 'cold' | 'warm'): void {
  const { stub, loop, medians, least, leastRun, greatestRun, disturbed, rounds, unknown } = judge(
    runs.map((run) => run.filter((time) => time.state === state)),
  );
  const nanoseconds = (side: Side): string =>
    `${(side.median / sites).toFixed(2)} (least ${(side.least / sites).toFixed(2)})`;
  process.stdout.write(
    `${name}, ${table} table, ${state}: stub ${nanoseconds(stub)}, loop ${nanoseconds(loop)} ns a relocation; ` +
      `medians ${medians.toFixed(3)}, least ${least.toFixed(3)}, one run ${leastRun.toFixed(3)} to ${greatestRun.toFixed(3)}; ` +
      `${disturbed} of ${rounds} rounds disturbed\n`,
  );
  if (table === 'compact') {
    const cells = [stub.median / sites, stub.least / sites, loop.median / sites, loop.least / sites, medians, least];
    rows.push([name, state, ...cells.map((cell) => Number(cell.toFixed(2)))]);
    report({
      what: `${name}: applying the ${table} table, ${state}, of the kernel's loop's time`,
      measured: medians,
      ...AIM[state],
      unknown,
    });
  }
}
