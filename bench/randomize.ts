/**
 * Claims: `kslide randomize` of a 57 MB vmlinux takes at most 2.0 times as long as `cp` of the same file and the start of Node together; and a
 * process that stays makes at least 30 such kernels a second, each a new file in a tmpfs, on one core.
 *
 *     npm run build && node --import tsx bench/randomize.ts [--record]
 *
 * Whole processes take turns, three of them: cp, `node -e 0`, and randomize; all files are new ones. It is checked that what randomize wrote is
 * what the library makes of the same seed.
 */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { extract } from '../src/extract.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { takeRecordOption } from '../scripts/docs/record.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { openRandomizer } from '../src/randomize.ts';
import { claims, reportTime } from './claims.ts';
import { machine, race } from './measure.ts';

const ROUNDS = 21;
const IMAGES = 60;
const SEED = '5eed'.repeat(16);

const kslide = fileURLToPath(new URL('../bin/kslide.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'kslide-bench-'));
const { record } = takeRecordOption();
const values: Record<string, number> = {};
const tmpfs = mkdtempSync('/dev/shm/kslide-bench-');

try {
  const { image, name } = await fetchKernel({ series: '6.12', flavour: 'cloud' });
  const { vmlinux, relocs } = await extract(readFileSync(image), { codecs: nodeCodecs });
  const input = join(folder, 'vmlinux');
  writeFileSync(input, Buffer.concat([vmlinux, relocs()]));
  process.stdout.write(`${machine()}\n${name}: vmlinux of ${statSync(input).size} bytes, its table behind it\n`);
  await benchProcesses(input);
  await benchImages(input);
} finally {
  rmSync(folder, { recursive: true });
  rmSync(tmpfs, { recursive: true });
}
record?.('randomize', {
  machine: 'processor',
  byMaker: true,
  parts: [
    'src/randomize',
    'src/randomize.ts',
    'src/relocs/tables/apply.ts',
    'src/node/files',
    'src/cli/commands/randomize.ts',
  ],
  before: 'npm run build',
  note: `Whole processes, medians of ${ROUNDS} in turns.`,
  claims,
  values,
});

async function benchProcesses(input: string): Promise<void> {
  const [ours, copy] = [join(folder, 'ours'), join(folder, 'copy')];
  const [randomize, cp, node] = race(
    [
      { args: [process.execPath, kslide, 'randomize', input, '-o', ours, '--seed', SEED, '--quiet'], output: ours },
      { args: ['cp', input, copy], output: copy },
      { args: [process.execPath, '-e', '0'], output: copy },
    ],
    ROUNDS,
  );
  const { bytes } = (await openRandomizer(readFileSync(input), { codecs: nodeCodecs })).randomize({
    virt: 'random',
    seed: Buffer.from(SEED, 'hex'),
  });
  assert.ok(readFileSync(ours).equals(bytes()), 'the command wrote what the library makes');
  const ms = ({ median, least }: { median: number; least: number }): string =>
    `${median.toFixed(0)} (${least.toFixed(0)})`;
  process.stdout.write(
    `randomize ${ms(randomize!)} ms, cp ${ms(cp!)}, node -e 0 ${ms(node!)}: medians of ${ROUNDS} and, in brackets, the least\n`,
  );
  const ratio = (key: 'median' | 'least'): number => randomize![key] / (cp![key] + node![key]);
  process.stdout.write(`ratio of the least: ${ratio('least').toFixed(2)}\n`);
  values['of cp and node together'] = Number(ratio('median').toFixed(2));
  values['randomize, ms'] = Math.round(randomize!.median);
  values['cp, ms'] = Math.round(cp!.median);
  values['node -e 0, ms'] = Math.round(node!.median);
  reportTime({ what: 'randomize, of cp and node -e 0 together', measured: ratio('median'), atMost: 2 });
}

/** Everything on the main thread, and written by write(2) itself: one core. */
async function benchImages(input: string): Promise<void> {
  const randomizer = await openRandomizer(readFileSync(input), { codecs: nodeCodecs, inPlace: true });
  const times: number[] = [];
  let micros = 0;
  for (let index = 0; index < IMAGES; index++) {
    const start = process.hrtime.bigint();
    const cpu = process.cpuUsage();
    const { parts } = randomizer.randomize({
      virt: 'random',
      seed: Buffer.from(`${SEED.slice(4)}${index.toString().padStart(4, '0')}`, 'hex'),
    });
    const file = openSync(join(tmpfs, `${index}`), 'wx');
    for (const part of parts) for (let at = 0; at < part.length;) at += writeSync(file, part, at);
    closeSync(file);
    times.push(Number(process.hrtime.bigint() - start) / 1e6);
    const { user, system } = process.cpuUsage(cpu);
    micros += user + system;
    // As many as a host may have at once are kept.
    if (index >= 4) rmSync(join(tmpfs, `${index - 4}`));
  }
  const sorted = times.toSorted((a, b) => a - b);
  const [least, median] = [sorted[0]!, sorted[IMAGES >> 1]!];
  const perImage = micros / 1000 / IMAGES;
  process.stdout.write(
    `${IMAGES} images: ${median.toFixed(1)} ms each (least ${least.toFixed(1)}), ${perImage.toFixed(1)} ms of CPU time each\n`,
  );
  values['an image in a process that stays, ms of CPU time'] = Math.round(perImage);
  reportTime({ what: 'images of 57 MB a second into a tmpfs, by CPU time', measured: 1000 / perImage, atLeast: 30 });
}
