/**
 * Tries the judge of recovered tables (src/verify/recovered): is the right table consistent, and what of wrong ones does it refute?
 *
 *     node --import tsx scripts/try-judge.ts [--record] KERNEL …
 *
 * KERNEL is any kernel from whose image relocations can be recovered. Of its table 300 sites are left out, and 300 numbers are added, each spread over all kinds of fields. `--record`
 * writes docs/results/judge.json. Exit code 1 when a right table is refuted.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { openKernel } from '../src/kernel/open.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { recoverRelocations } from '../src/recover/recover.ts';
import { countRelocations } from '../src/relocs/tables/kernel-table.ts';
import { loadOperandDisassembler } from '../src/shuffle/verify/operand-disassembler.ts';
import { contradictionsOf, forgeAdded, forgeLeftOut, readFields } from '../test/verify/forge-tables.ts';
import type { Forged } from '../test/verify/forge-tables.ts';
import { processorHere, rightAligned, takeRecordOption, tableOf, withEarlierRows } from './docs/record.ts';

const FORGERIES = 300;

interface Row {
  readonly kernel: string;
  readonly sites: number;
  readonly looksLike: number;
  readonly open: number;
  readonly leftOut: number;
  readonly added: number;
  readonly seconds: number;
}

const open = await loadOperandDisassembler();

async function tryKernel(path: string): Promise<Row> {
  const { kernel, input } = await openKernel(await readFile(path), 'extract', { codecs: nodeCodecs });
  const { table } = recoverRelocations(kernel);
  const start = process.cpuUsage();
  const right = contradictionsOf(kernel, table, open);
  const { user, system } = process.cpuUsage(start);
  const name = input.kernelVersion?.split(' ')[0] ?? basename(path);
  for (const { place, found, expected } of right) {
    console.log(`${name}: the right table is refuted at ${place.toString(16)}: ${found}, expected ${expected}`);
    process.exitCode = 1;
  }
  const fields = readFields(kernel, table, open);
  const refuted = (forged: readonly Forged[], { table: wrong }: { table: typeof table }): number => {
    const places = new Set(contradictionsOf(kernel, wrong, open).map(({ list, place }) => `${list} ${place}`));
    const missed = forged.filter(({ list, place }) => !places.has(`${list} ${place}`));
    for (const { kind, list, place } of missed)
      console.log(`    ${name}: not refuted: ${list} ${place.toString(16)}, ${kind}`);
    return forged.length - missed.length;
  };
  const leftOut = forgeLeftOut(table, fields, FORGERIES);
  const added = forgeAdded(kernel, table, fields, FORGERIES);
  return {
    kernel: name,
    sites: countRelocations(table),
    looksLike: fields.filter(({ verdict }) => verdict === 'number').length,
    open: fields.filter(({ verdict }) => verdict === 'open').length,
    leftOut: refuted(leftOut.forged, leftOut),
    added: refuted(added.forged, added),
    seconds: (user + system) / 1e6,
  };
}

const { record, rest } = takeRecordOption();
const rows: Row[] = [];
for (const path of rest) {
  const row = await tryKernel(path);
  rows.push(row);
  console.log(
    `${row.kernel}: ${row.sites} sites; refuted ${row.leftOut} of ${FORGERIES} left out, ${row.added} of ${FORGERIES} added; ${row.open} open; ${row.seconds.toFixed(2)} s`,
  );
}
record?.('judge', {
  machine: processorHere(),
  parts: ['src/verify/recovered', 'src/recover'],
  args: 'KERNEL …',
  note: `${FORGERIES} sites left out of the recovered table, and ${FORGERIES} numbers added to it, spread over the kinds of fields. Seconds are processor time of one judgement.`,
  tables: {
    kernels: tableOf(
      [
        'kernel',
        rightAligned('sites'),
        rightAligned('fields that could be either'),
        rightAligned(`refuted, of ${FORGERIES} left out`),
        rightAligned(`refuted, of ${FORGERIES} added`),
        rightAligned('seconds', { digits: 2 }),
      ],
      withEarlierRows(
        'judge',
        'kernels',
        rows.map(({ kernel, sites, open: either, leftOut, added, seconds }) => [
          kernel,
          sites,
          either,
          leftOut,
          added,
          Number(seconds.toFixed(2)),
        ]),
      ),
    ),
  },
});
