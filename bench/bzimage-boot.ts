/**
 * What a boot costs as a bzImage that `kslide bzimage` has made, in each form, against the stock one; no claim:
 *
 *     node --import tsx bench/bzimage-boot.ts [--record]
 *
 * Debian's 6.1 cloud kernel, one boot of each, in guest instructions, as `kslide bench --bzimages --accel tcg` counts them. Compressing takes minutes.
 */
import { readFileSync } from 'node:fs';
import { STUB } from '../scripts/docs/program.ts';
import { takeRecordOption } from '../scripts/docs/record.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { reportBench } from '../src/cli/reports/bench.ts';
import { runBench } from '../src/measure/bench/bench.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { systemEncoders } from '../src/node/processes/compressors.ts';
import './claims.ts';

const MEMORY_MIB = 256;
const FORMS: Readonly<Record<string, string>> = {
  bzimage: 'stock',
  'kslide-bzimage': 'compressed',
  'kslide-bzimage-table-at-end': 'table at the end',
  'kslide-bzimage-uncompressed': 'uncompressed',
};

const { record } = takeRecordOption();
const { image } = await fetchKernel({ series: '6.1', flavour: 'cloud' });
const summary = await runBench(new Uint8Array(readFileSync(image)), {
  codecs: nodeCodecs,
  encoders: systemEncoders,
  accel: 'tcg',
  memoryMib: MEMORY_MIB,
  runs: 1,
  append: 'quiet cryptomgr.notests',
});
process.stdout.write(reportBench(summary));
const values = Object.entries(FORMS).map(([name, form]) => {
  const { median } = summary.rows.find((row) => row.name === name)!;
  return [form, Number((median / 1e6).toFixed(1))] as const;
});
record?.('bzimage-boot', {
  machine: `QEMU ${summary.guest.qemu} (TCG), ${MEMORY_MIB} MiB, PVH`,
  parts: [STUB],
  note: 'Debian 6.1 cloud (lz4), one boot each, millions of guest instructions.',
  values: Object.fromEntries(values),
});
