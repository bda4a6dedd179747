/**
 * Claims, on Debian's 6.12 cloud kernel with 256 MiB by PVH: with the compact table, kslide's own instructions between loader and kernel are at most
 * 5 a relocation, counted exactly, and the whole boot takes at least 30% fewer instructions than the bzImage's.
 *
 *     node --import tsx bench/boot.ts [vmlinuz …]
 *
 * What `kslide bench --accel tcg` measures: guest instructions, which no other work on the machine changes.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { reportBench } from '../src/cli/reports/bench.ts';
import { runBench } from '../src/measure/bench/bench.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { report } from './claims.ts';
import { machine } from './measure.ts';

async function bench(image: string): Promise<void> {
  // With the kernel's self-tests of cryptography, which `kslide bench` leaves out: what a distribution's kernel does.
  const options = { codecs: nodeCodecs, accel: 'tcg', memoryMib: 256, append: 'quiet' } as const;
  const summary = await runBench(new Uint8Array(readFileSync(image)), options);
  process.stdout.write(reportBench(summary));
  const medianOf = (name: string): number => summary.rows.find((row) => row.name === name)!.median;
  const name = basename(image);
  for (const { table, instructions, again, perRelocation } of summary.stubs) {
    assert.equal(again, instructions, 'the same in every boot');
    if (table !== 'compact') continue;
    report({
      what: `${name}, ${table} table: the stub's instructions a relocation`,
      measured: perRelocation,
      atMost: 5,
    });
    const whole = medianOf(`kslide-${table}`);
    report({
      what: `${name}, ${table} table: whole boot, of the bzImage's`,
      measured: whole / medianOf('bzimage'),
      atMost: 0.7,
    });
  }
}

const images = process.argv.slice(2);
process.stdout.write(`${machine()}\n`);
if (images.length === 0) {
  const { image } = await fetchKernel({ series: '6.12', flavour: 'cloud' });
  images.push(image);
}
for (const image of images) await bench(image);
