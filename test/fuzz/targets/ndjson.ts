/** The result file of an audit: its lines, the verdict and the report. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ascii } from '../../../src/base/bytes.ts';
import { reportAudit } from '../../../src/cli/reports/audit.ts';
import { mergeAuditFiles, readAuditFile } from '../../../src/measure/audit/record.ts';
import { summarizeAudit } from '../../../src/measure/audit/summary.ts';
import type { Target } from '../target.ts';

const directory = mkdtempSync(join(tmpdir(), 'kslide-fuzz-'));
process.on('exit', () => rmSync(directory, { recursive: true }));
const path = join(directory, 'results');

function makeRecord(boot: number): string {
  return JSON.stringify({
    id: `run-${boot}`,
    image: 'a1'.repeat(32),
    slots: { align: 0x20_0000, count: 480 },
    entry: 'pvh',
    boot,
    slide: ((boot * 7919) % 480) * 0x20_0000,
    end: 'panic',
    ms: 1900 + boot,
    at: '2026-11-23T20:00:00.000Z',
    machine: { cpu: 'a CPU', cpus: 2, accel: 'tcg', qemu: '7.2.22', guest: { memoryMib: 256, cpu: 'max', append: '' } },
  });
}

const lines = (boots: number): string => Array.from({ length: boots }, (_, boot) => `${makeRecord(boot)}\n`).join('');

const target: Target = {
  seeds: () => [lines(1), lines(6), `${lines(2)}{"id":`].map(ascii),
  async run(input) {
    writeFileSync(path, input);
    const { torn } = await readAuditFile(path);
    const records = await mergeAuditFiles([path]);
    if (records.length === 0) return 'empty';
    const summary = summarizeAudit(records);
    reportAudit(summary);
    return `${torn ? 'torn, ' : ''}${summary.findings
      .map(({ code }) => code)
      .toSorted()
      .join(' ')}`;
  },
  words: [
    'null',
    '-1',
    '0',
    '1e999',
    '9007199254740992',
    '1.5',
    'true',
    '[]',
    '{}',
    '""',
    '\n',
    '\\u0000',
    '"disabled"',

    '"slide":',
    '"slots":',
    '"count":512',
    '"align":1',
    '"end":"reset"',
    '"linux64"',
    '"boot":',
    '"ms":',
    '"tail":"x"',
  ],
  longest: 8192,
  executions: 800,
};
export default target;
