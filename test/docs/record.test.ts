/** What `--record` of the measuring scripts writes. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { hashOfPart } from '../../scripts/docs/program.ts';
import { makerHere, rowsOf, takeRecordOption, tableOf, today, withEarlierRows } from '../../scripts/docs/record.ts';
import { formatResults, resultsText } from '../../scripts/docs/results.ts';
import type { Results } from '../../scripts/docs/results.ts';
import { version } from '../../src/cli/version.ts';

const folder = mkdtempSync(join(tmpdir(), 'kslide-record-'));
after(() => rmSync(folder, { recursive: true }));

const root = fileURLToPath(new URL('../../', import.meta.url));
const script = relative(root, process.argv[1]!);
const read = (file: string): string => readFileSync(join(folder, file), 'utf8');

describe('--record', () => {
  test('is taken out of the arguments, wherever it stands', () => {
    assert.deepEqual(takeRecordOption(['a', 'b']), { record: undefined, rest: ['a', 'b'] });
    for (const args of [
      ['--record', 'a', '--recorder'],
      ['a', '--record', '--recorder'],
      [`--record=${folder}`, 'a', '--recorder'],
    ]) {
      const { record, rest } = takeRecordOption(args);
      assert.equal(typeof record, 'function');
      assert.deepEqual(rest, ['a', '--recorder']);
    }
  });

  test('writes the figures with the command, the date, the version and the program', () => {
    const { record } = takeRecordOption([`--record=${folder}`]);
    const tables = { t: tableOf(['a', { name: 'b', digits: 1 }], rowsOf(['x', 'y'], [[1.5, 2]])) };
    const claims = [{ what: 'x', measured: 1, atMost: 2 }];
    record!('exact', {
      machine: 'any',
      parts: ['stub', 'src/wasm'],
      before: 'npm run build',
      args: 'KERNEL …',
      note: 'n',
      claims,
      values: { v: 3 },
      tables,
    });
    const expected: Results = {
      script: `npm run build && node --import tsx ${script} --record KERNEL …`,
      machine: 'any',
      date: today(),
      version,
      program: { stub: hashOfPart('stub'), 'src/wasm': hashOfPart('src/wasm') },
      note: 'n',
      claims,
      values: { v: 3 },
      tables: {
        t: {
          columns: [{ name: 'a' }, { name: 'b', digits: 1 }],
          rows: [
            ['x', 1.5],
            ['y', 2],
          ],
        },
      },
    };
    assert.deepEqual(JSON.parse(read('exact.json')), expected);
    assert.equal(read('exact.json'), formatResults(expected));
  });

  test("writes times into the file of this processor's maker, with its model and the load", () => {
    const { record } = takeRecordOption([`--record=${folder}`]);
    record!('times', { machine: 'processor', byMaker: true, parts: [], note: 'n' });
    const file = `times.${makerHere()}.json`;
    assert.ok(readdirSync(folder).includes(file));
    const { machine, script: command } = JSON.parse(read(file)) as Results;
    assert.match(
      machine,
      /^(AMD|Intel).* \(family \d+, model \d+\), \d+ CPUs, load \d+\.\d( at real-time priority)?, Node \d+\.\d+\.\d+$/,
    );
    assert.equal(command, `node --import tsx ${script} --record`);
  });

  test('of a few rows keeps the others, if they are of the same program', () => {
    const { program, tables } = JSON.parse(resultsText('judge')) as Results;
    const known = tables!['kernels']!.rows;
    const row = [known[1]![0]!, 1, 2, 3, 4, 5];
    const added = ['6.2-new', 1, 2, 3, 4, 5];
    const merged = withEarlierRows('judge', 'kernels', [added, row], (part) => program[part]!);
    assert.equal(merged.length, known.length + 1);
    assert.deepEqual(
      merged.filter(([name]) => name === row[0]),
      [row],
    );
    const names = merged.map(([name]) => String(name));
    assert.ok(names.indexOf('6.2-new') > names.findLastIndex((name) => name.startsWith('6.1.')), 'after 6.1');
    assert.ok(names.indexOf('6.2-new') < names.findIndex((name) => name.startsWith('6.12.')), 'before 6.12');
    assert.deepEqual(
      withEarlierRows('judge', 'kernels', [row], () => ''),
      [row],
    );
    assert.deepEqual(
      withEarlierRows('judge', 'kernels', [row.slice(1)], (part) => program[part]!),
      [row.slice(1)],
      'not of other columns',
    );
    assert.deepEqual(withEarlierRows('nothing', 'kernels', [row]), [row]);
  });
});
