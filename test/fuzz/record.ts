/** Adds the counts of a run to docs/results/fuzz.json, from which docs/proof.md shows them. */
import { closeSync, openSync, readFileSync, unlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { today } from '../../scripts/docs/record.ts';
import type { RecordResults } from '../../scripts/docs/record.ts';
import type { Cell, Results } from '../../scripts/docs/results.ts';
import { version } from '../../src/cli/version.ts';
import type { Fuzzed } from './fuzz.ts';

const FILE = fileURLToPath(new URL('../../docs/results/fuzz.json', import.meta.url));

const COLUMNS = [
  { name: 'target' },
  { name: 'executions', align: 'right' },
  { name: 'outcomes', align: 'right' },
  { name: 'last seed', align: 'right' },
  { name: 'version' },
  { name: 'date' },
] as const;

/** Executions add up. Of the outcomes the most of one run is kept, because their names are not. Runs at the same time wait for each other. */
export function addCounts(
  record: RecordResults,
  target: string,
  { executions, outcomes, seed }: Fuzzed & { readonly seed: number },
): void {
  const lock = `${FILE}.lock`;
  const fd = takeLock(lock);
  try {
    const results = JSON.parse(readFileSync(FILE, 'utf8')) as Results;
    const rows = results.tables!['targets']!.rows.filter(([name]) => name !== target && name !== 'all');
    const old = results.tables!['targets']!.rows.find(([name]) => name === target);
    const most = Math.max(outcomes.length, Number(old?.[2] ?? 0));
    const all: (readonly Cell[])[] = [
      ...rows,
      [target, executions + Number(old?.[1] ?? 0), most, seed, version, today()],
    ];
    const sorted = all.toSorted((a, b) => String(a[0]).localeCompare(String(b[0])));
    const total = sorted.reduce((sum, [, count]) => sum + Number(count), 0);
    const table = { columns: COLUMNS, rows: [...sorted, ['all', total, null, null, null, null]] };
    record('fuzz', { machine: 'any', parts: [], note: results.note, tables: { targets: table } });
  } finally {
    closeSync(fd);
    unlinkSync(lock);
  }
}

function takeLock(path: string): number {
  for (let left = 200; ; left--) {
    try {
      return openSync(path, 'wx');
    } catch (error) {
      if (left === 0) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    }
  }
}
