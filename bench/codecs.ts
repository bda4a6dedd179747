/**
 * Claim: our decoders, cold, are about as fast as the system's tools.
 *
 *     node --import tsx bench/codecs.ts [--record] [--all] [vmlinuz …]
 *
 * For each image, the time to decode its payload: ours in a fresh Node process (from the call to the result, so with assembling and
 * compiling the loops, without Node's own start), the tool's as a whole process that writes to a file in /dev/shm. They take turns, the
 * least of each counts, and both must give the same bytes. --all: the first kernel in all seven compressions, compressed here as the
 * kernel build does it, which takes minutes.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Compression } from '../src/codecs/formats.ts';
import { readSetupHeader } from '../src/bzimage/header.ts';
import { decodePayload, readPayload } from '../src/bzimage/payload.ts';
import { nodeCodecs } from '../src/node/codecs.ts';
import { rightAligned, takeRecordOption, tableOf } from '../scripts/docs/record.ts';
import type { Cell } from '../scripts/docs/results.ts';
import { fetchKernel } from '../scripts/kernels/debian.ts';
import { claims, reportTime } from './claims.ts';
import { machine, race } from './measure.ts';

const ROUNDS = 9;
/** "About as fast": the tool does not have to assemble and compile its loops first. */
const AT_MOST = 1.5;
const WORKER = '--decode';

/** How each tool decodes to standard output, and compresses as the kernel build does (scripts/Makefile.lib, scripts/xz_wrap.sh). */
const TOOLS: Record<Compression, { readonly decode: string; readonly compress: string }> = {
  gzip: { decode: 'gzip -dc', compress: 'gzip -n -f -9' },
  bzip2: { decode: 'bzip2 -dc', compress: 'bzip2 -9' },
  lzma: { decode: 'xz --format=lzma -dc', compress: 'xz --format=lzma -9' },
  xz: { decode: 'xz -dc', compress: 'xz --check=crc32 --threads=1 --x86 --lzma2=dict=128MiB' },
  lzo: { decode: 'lzop -dc', compress: 'lzop -9' },
  lz4: { decode: 'lz4 -dc', compress: 'lz4 -l -9 - -' },
  zstd: { decode: 'zstd -dc --memory=2048MB', compress: 'zstd -22 --ultra' },
};

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);

/** In the worker: one decode, and what came of it. */
async function decodeOnce(compression: Compression, file: string, size: number): Promise<void> {
  const data = new Uint8Array(readFileSync(file));
  const start = performance.now();
  const decoded = await nodeCodecs[compression](data, size);
  const took = performance.now() - start;
  process.stdout.write(JSON.stringify({ took, digest: digest(decoded), peak: process.resourceUsage().maxRSS * 1024 }));
}

interface Result {
  readonly took: number;
  readonly digest: string;
  readonly peak: number;
}

function ours(compression: Compression, file: string, size: number): Result {
  const script = fileURLToPath(import.meta.url);
  const args = ['--import', 'tsx', script, WORKER, compression, file, String(size)];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as Result;
}

/** A row of the table. */
function bench(name: string, compression: Compression, data: Uint8Array, expected: Uint8Array, folder: string): Cell[] {
  const [file, output] = [join(folder, 'payload'), join(folder, 'output')];
  writeFileSync(file, data);
  const [tool = '', ...options] = TOOLS[compression].decode.split(' ');
  const results: Result[] = [];
  const tools: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    results.push(ours(compression, file, expected.length));
    tools.push(race([{ args: [tool, ...options, file], output, redirect: true }], 1)[0]!.least);
  }
  for (const { digest: found } of results) assert.equal(found, digest(expected), `${compression}: ours`);
  assert.equal(digest(readFileSync(output)), digest(expected), `${compression}: ${tool}`);
  const mine = Math.min(...results.map(({ took }) => took));
  const theirs = Math.min(...tools);
  process.stdout.write(
    `${name}: ${compression}, ${megabytes(data.length)} to ${megabytes(expected.length)} MB: ` +
      `ours ${mine.toFixed(0)} ms, ${tool} ${theirs.toFixed(0)} ms, same bytes; ` +
      `peak ${megabytes(Math.max(...results.map(({ peak }) => peak)))} MB with Node and the file\n`,
  );
  reportTime({ what: `decode ${name} (${compression}): time, of ${tool}'s`, measured: mine / theirs, atMost: AT_MOST });
  const sizes = `${megabytes(data.length)} to ${megabytes(expected.length)}`;
  return [name, compression, sizes, Math.round(mine), Math.round(theirs), Number((mine / theirs).toFixed(2))];
}

async function main(): Promise<void> {
  const { record, rest } = takeRecordOption();
  const all = rest.includes('--all');
  const images: (readonly [name: string, path: string])[] = rest
    .filter((arg) => arg !== '--all')
    .map((path) => [basename(path), path]);
  if (images.length === 0) {
    for (const wish of [
      { series: '6.1', flavour: 'generic' },
      { series: '6.1', flavour: 'cloud' },
      { series: '6.12', flavour: 'generic' },
    ] as const) {
      images.push([`Debian ${wish.series} ${wish.flavour}`, (await fetchKernel(wish)).image]);
    }
  }
  process.stdout.write(`${machine()}, least of ${ROUNDS}\n`);
  // In memory: the disk is not what is compared.
  const folder = mkdtempSync('/dev/shm/kslide-bench-');
  const rows: Cell[][] = [];
  try {
    for (const [index, [name, image]] of images.entries()) {
      const bytes = new Uint8Array(readFileSync(image));
      const payload = readPayload(bytes, readSetupHeader(bytes));
      const expected = await decodePayload(payload, nodeCodecs);
      assert.ok(payload.compression, `${image} is not compressed`);
      rows.push(bench(name, payload.compression, payload.data, expected, folder));
      if (!all || index > 0) continue;
      for (const [compression, { compress }] of Object.entries(TOOLS) as [Compression, { compress: string }][]) {
        if (compression === payload.compression) continue;
        const [tool = '', ...options] = compress.split(' ');
        const { stdout, status } = spawnSync(tool, options, { input: expected, maxBuffer: 2 ** 30 });
        assert.equal(status, 0, `${compress} failed`);
        rows.push(bench('the same', compression, new Uint8Array(stdout), expected, folder));
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  record?.('codecs', {
    machine: 'processor',
    byMaker: true,
    parts: ['src/codecs', 'src/wasm'],
    note: `Cold, least of ${ROUNDS}, taking turns.`,
    claims,
    tables: {
      codecs: tableOf(
        [
          'kernel',
          'payload',
          'MB',
          rightAligned('kslide', { digits: 0, suffix: ' ms' }),
          rightAligned('the tool', { digits: 0, suffix: ' ms' }),
          rightAligned("of the tool's", { digits: 2 }),
        ],
        rows,
      ),
    },
  });
}

const [first, compression, file, size] = process.argv.slice(2);
if (first === WORKER) await decodeOnce(compression as Compression, file!, Number(size));
else await main();
