/**
 * Boots a converted kernel many times and judges its slides, as `kslide audit` does; no claim, but exit code 1 if it finds something:
 *
 *     node --import tsx bench/audit.ts [--record] [BOOTS]
 *
 * Debian's 6.12 cloud kernel, half of BOOTS (1,000) by each entry. Each boot is kept in the cache when it ends: you can stop, and continue at any time.
 */
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { partFile } from '../scripts/docs/keep.ts';
import { STUB } from '../scripts/docs/program.ts';
import { takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { hex } from '../src/base/errors.ts';
import { reportAudit } from '../src/cli/reports/audit.ts';
import { convert } from '../src/convert.ts';
import { runAudit } from '../src/measure/audit/audit.ts';
import { readAuditImage } from '../src/measure/audit/image.ts';
import { readAuditFile } from '../src/measure/audit/record.ts';
import type { AuditRecord } from '../src/measure/audit/record.ts';
import { summarizeAudit } from '../src/measure/audit/summary.ts';
import { qemuVersion } from '../src/measure/many-boots.ts';
import { LineFile } from '../src/measure/ndjson.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import './claims.ts';

const GUEST = { memoryMib: 256, cpu: 'max', append: '', accel: 'tcg', timeoutMs: 300_000 } as const;
const PARTS = [STUB];

const { record, rest } = takeRecordOption();
const boots = Number(rest[0] ?? 1000);
const { image: path, release } = await fetchKernel({ series: '6.12', flavour: 'cloud' });
const converted = await convert(new Uint8Array(readFileSync(path)), { codecs: nodeCodecs });
const image = readAuditImage(converted.bytes());

const all: AuditRecord[] = [];
for (const entry of ['pvh', 'linux64'] as const) {
  const file = partFile(`audit-${release}-${entry}`, PARTS, 'ndjson');
  const known = existsSync(file) ? await readAuditFile(file) : undefined;
  const records = (known?.values ?? []).filter((each) => each.image === image.hash);
  const done = new Set(records.map(({ boot }) => boot));
  const missing = Array.from({ length: boots / 2 }, (_, i) => i + 1).filter((boot) => !done.has(boot));
  process.stdout.write(`${entry}: ${records.length} boots done before, ${missing.length} to do\n`);
  const lines = new LineFile(file, known?.length);
  const onRecord = (each: AuditRecord): void => {
    lines.append(each);
    records.push(each);
  };
  await runAudit({ image, entry, guest: GUEST, boots: missing, jobs: availableParallelism(), onRecord });
  lines.close();
  all.push(...records);
}

const summary = summarizeAudit(all, boots);
process.stdout.write(reportAudit(summary));
if (summary.verdict !== 'nothing-found') process.exitCode = 1;
if (record !== undefined && summary.verdict === 'not-enough-boots')
  process.stdout.write(`not recorded: it takes ${summary.needed} boots to tell\n`);
const { slots, slides, uniformity, collisions, entropy } = summary;
if (
  record !== undefined &&
  summary.verdict !== 'not-enough-boots' &&
  slots &&
  slides &&
  uniformity &&
  collisions &&
  entropy
) {
  const entries = Object.entries(summary.boots.byEntry).map(([entry, number]) => `${number} ${entry}`);
  record('audit', {
    machine: `QEMU ${await qemuVersion()} (TCG), -cpu ${GUEST.cpu}, ${GUEST.memoryMib} MiB`,
    parts: PARTS,
    note: `Debian ${release}.`,
    tables: {
      boots: tableOf(
        ['converted file', 'boots', 'failed', 'different slides', 'range', 'chi-square', 'collisions', 'by collisions'],
        [
          [
            'compact table',
            `${summary.boots.done} (${entries.join(', ')})`,
            summary.boots.failed,
            `${slides.distinct} of ${slots.count}`,
            `${hex(slides.least)} to ${hex(slides.greatest)}`,
            `${uniformity.chiSquare.toFixed(1)} of ${uniformity.degrees}, p = ${uniformity.pUneven.toFixed(3)}`,
            `${collisions.seen}, expected ${collisions.expected.toFixed(1)} ± ${collisions.deviation.toFixed(1)}`,
            entropy.collision === undefined ? null : `${entropy.collision.toFixed(2)} bits`,
          ],
        ],
      ),
    },
  });
}
