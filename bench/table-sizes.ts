/**
 * The size of the same relocations in each form that has been proposed for carrying them (src/inspect/sizes.ts), and what `convert` adds to a file:
 *
 *     node --import tsx bench/table-sizes.ts [--record]
 *
 * Debian's cloud kernels. Of 6.1 the debug vmlinux is taken, which has all its `.rela` sections (scripts/build-relocs-debug-vmlinux.sh: 310 MB to fetch).
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { rowsOf, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { openSuite } from '../scripts/kernels/apt-suite.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { convert } from '../src/convert.ts';
import { inspect } from '../src/inspect.ts';
import { nodeCodecs as codecs } from '../src/node/codecs.ts';
import './claims.ts';

const FORMS = [
  'sites',
  '`.rela` sections that apply to loaded ones',
  'the same without PC-relative entries',
  'an `Elf64_Rela` for each site',
  "the kernel's table",
  "RELR, and what it cannot hold in the kernel's table",
  'the compact table',
  'what `convert` adds beside the table',
] as const;

async function measure(path: string): Promise<Cell[]> {
  const file = new Uint8Array(readFileSync(path));
  const { relocations } = await inspect(file, { codecs });
  const { forms } = relocations!;
  const { sizes } = (await convert(file, { codecs })).summary;
  return [
    forms.relaOfSites.entries,
    forms.rela?.bytes ?? null,
    forms.relaWithoutPcRelative?.bytes ?? null,
    forms.relaOfSites.bytes,
    forms.kernelTable,
    forms.relr.bytes + forms.relr.rest.bytes,
    forms.compact,
    sizes.added - sizes.table,
  ];
}

const { record } = takeRecordOption();
const script = fileURLToPath(new URL('../scripts/build-relocs-debug-vmlinux.sh', import.meta.url));
const backports = await openSuite('trixie-backports');
const kernels: readonly (readonly [series: string, path: string])[] = [
  ['6.1', execFileSync('sh', [script], { encoding: 'utf8' }).trim().split('\n').at(-1)!],
  ['6.12', (await fetchKernel({ series: '6.12', flavour: 'cloud' })).image],
  ['7.3', (await fetchKernel({ series: '7.3', flavour: 'cloud' }, { apt: backports })).image],
];
const columns: Cell[][] = [];
for (const [, path] of kernels) columns.push(await measure(path));
const rows = rowsOf(FORMS, columns);
for (const [form, ...cells] of rows)
  process.stdout.write(
    `${`${form}`.padEnd(56)}${cells.map((cell) => (cell ?? '').toLocaleString('en').padStart(12)).join('')}\n`,
  );
record?.('table-sizes', {
  machine: 'any',
  parts: ['stub', 'src/relocs/tables'],
  note: 'Bytes, for the cloud kernels of Debian; 6.1 from its debug vmlinux.',
  tables: { sizes: tableOf(['form', ...kernels.map(([series]) => series)], rows) },
});
