/**
 * What `-ffunction-sections` and a link map are worth for `shuffle`; no claim:
 *
 *     sh scripts/try-function-sections.sh [--record]        builds the kernels in half an hour, shuffles, proves and boots them, and runs this
 *     node --import tsx bench/function-sections.ts [--record]
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { rowsOf, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { cacheFolder } from '../scripts/kernels/debian.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { openByteSource } from '../src/node/files/byte-source.ts';
import { planShuffle } from '../src/shuffle/index.ts';
import { layoutEntropy } from '../src/shuffle/layout/entropy.ts';
import { sizeClasses } from '../src/shuffle/layout/layout.ts';
import { countFunctions } from '../src/shuffle/summary.ts';
import { NOT_RUN } from './claims.ts';

const FORMS = [
  { title: 'sections kept', folder: 'kept', map: true },
  { title: 'merged, with the map', folder: 'together', map: true },
  { title: 'merged, without', folder: 'together', map: false },
] as const;

const { record } = takeRecordOption();
const built = join(cacheFolder(), 'build/function-sections');
if (!existsSync(join(built, 'together/bzImage'))) {
  process.stderr.write('not run: the kernels are not built; run: sh scripts/try-function-sections.sh\n');
  process.exit(NOT_RUN);
}

interface Measured {
  readonly functions: number;
  readonly cells: readonly Cell[];
}

async function measure({ folder, map }: (typeof FORMS)[number]): Promise<Measured> {
  const path = (file: string): string => join(built, folder, file);
  const read = (file: string): Uint8Array => new Uint8Array(readFileSync(path(file)));
  const sections = execFileSync('readelf', ['-SW', path('vmlinux')], { encoding: 'utf8', maxBuffer: 1 << 28 });
  const debug = await openByteSource(path('vmlinux'));
  try {
    const linkMap = map ? read('vmlinux.map') : undefined;
    const plan = await planShuffle(read('bzImage'), { codecs: nodeCodecs, debug, map: linkMap });
    const { all, moved } = countFunctions(plan);
    const { bits, runs } = layoutEntropy(plan, sizeClasses(plan));
    const named = sections.match(/ \.text\./g)?.length ?? 0;
    const shown = [named, moved, `${runs.count}, of ${runs.largest.toLocaleString('en-US')} units`];
    return { functions: all, cells: [...shown, bits.median.toFixed(1), bits.hundredth.toFixed(1)] };
  } finally {
    debug.close();
  }
}

const measured: Measured[] = [];
for (const form of FORMS) measured.push(await measure(form));
const names = [
  'sections `.text.NAME` in vmlinux',
  `functions that move, of ${measured[0]!.functions.toLocaleString('en-US')}`,
  'runs, the largest',
  'bits for the median function',
  'bits for 99% of functions, at least',
];
const rows = rowsOf(
  names,
  measured.map(({ cells }) => cells),
);
for (const row of rows) process.stdout.write(`${row.join(' | ')}\n`);
record?.('function-sections', {
  machine: 'any',
  parts: ['src/shuffle/analyse', 'src/shuffle/plan', 'src/shuffle/layout', 'src/shuffle/read'],
  before: 'sh scripts/try-function-sections.sh',
  note: "Debian's linux-source-6.12, small, in both forms.",
  tables: { forms: tableOf(['', ...FORMS.map(({ title }) => title)], rows) },
});
