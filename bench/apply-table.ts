/**
 * Claims: the stub's apply step, decoding the compact table as it goes, takes at most 0.8 of the time of the kernel's own loop over its own table with
 * cold caches, and no more than that loop when they are warm. (How large the table is: table-encodings.ts.)
 *
 *     node --import tsx bench/apply-table.ts [--record] [vmlinuz …]
 *
 * Both sides run in one process, in turns, on one image in pages of 2 MiB: on ours the very bytes of the program in the segment that `convert` adds;
 * on the other the decompressor's loop (for each u32 read backwards: sign-extend, add) by gcc -O2. Cold means that image, tables and code were
 * flushed from all caches (CLFLUSH), so every line comes from memory. Medians of rounds; both must make the same image.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { convert } from '../src/convert.ts';
import { segmentBytes } from '../src/elf/read.ts';
import { extract } from '../src/extract.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { STUB } from '../scripts/docs/program.ts';
import { rightAligned, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { countRelocations, readRelocationTable } from '../src/relocs/tables/kernel-table.ts';
import { STUB_TABLES } from '../src/segment/table.ts';
import { readVmlinux } from '../src/kernel/vmlinux.ts';
import { compileHarness, runHarness } from './apply-step.ts';
import type { ApplyTime } from './apply-step.ts';
import { claims, report } from './claims.ts';
import { machine } from './measure.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 101);
const SLIDE = 0x1240_0000;
const AT_MOST = { cold: 0.8, warm: 1 } as const;

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
  for (const [name, image] of images) await bench(name, image, harness);
} finally {
  rmSync(folder, { recursive: true });
}
const two = { digits: 2 } as const;
record?.('apply-table', {
  machine: 'processor',
  byMaker: true,
  parts: [STUB],
  note: `Nanoseconds a relocation, compact table, ${ROUNDS} rounds.`,
  claims,
  tables: {
    apply: tableOf(
      [
        'kernel',
        'state',
        ...['stub, median', 'least', 'loop, median', 'least'].map((name) => rightAligned(name, two)),
        ...['medians, stub / loop', 'least, stub / loop'].map((name) => rightAligned(name, two)),
      ],
      rows,
    ),
  },
});

async function bench(name: string, path: string, harness: string): Promise<void> {
  const file = new Uint8Array(readFileSync(path));
  const { vmlinux, relocs } = await extract(file, { codecs: nodeCodecs });
  const { imageStart: base, imageEnd, loads, elf } = readVmlinux(vmlinux);
  const kernelTable = relocs();
  const image = new Uint8Array(imageEnd - base);
  for (const load of loads) image.set(segmentBytes(elf, load), load.paddr - base);
  const sites = countRelocations(readRelocationTable(kernelTable));

  for (const table of STUB_TABLES) {
    const converted = await convert(file, { codecs: nodeCodecs, table });
    const kernel = readVmlinux(converted.bytes());
    const segment = segmentBytes(kernel.elf, kernel.loads.at(-1)!);
    const times = runHarness(harness, folder, { segment, kernelTable, image, base, slide: SLIDE, rounds: ROUNDS });
    for (const state of ['cold', 'warm'] as const) {
      const of = times.filter((time) => time.state === state);
      const [stub, loop] = [summary(of, 'stub', sites), summary(of, 'loop', sites)];
      process.stdout.write(`${name}, ${table} table, ${state}: stub ${stub.text}, loop ${loop.text} ns a relocation\n`);
      if (table === 'compact') {
        const cells = [stub.median, stub.least, loop.median, loop.least];
        cells.push(stub.median / loop.median, stub.least / loop.least);
        rows.push([name, state, ...cells.map((cell) => Number(cell.toFixed(2)))]);
        report({
          what: `${name}: applying the ${table} table, ${state}, of the kernel's loop's time`,
          measured: stub.median / loop.median,
          atMost: AT_MOST[state],
        });
      }
    }
  }
}

function summary(
  times: readonly ApplyTime[],
  side: 'stub' | 'loop',
  sites: number,
): { readonly median: number; readonly least: number; readonly text: string } {
  const sorted = times.map((time) => time[side] / sites).toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)]!;
  const least = sorted[0]!;
  return { median, least, text: `${median.toFixed(2)} (least ${least.toFixed(2)})` };
}
