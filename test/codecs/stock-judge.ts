/**
 * The decompressors of kernels, built for user space by scripts/build-decompressors-judge.sh: 6.12's, and those of other versions that are in the cache.
 *
 * The script needs a network once (153 MB) and a distribution that has linux-source-6.12. Without either, tests that need a judge are skipped, and the
 * reason is the script's own last words. Under CI they fail instead.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Compression } from '../../src/codecs/formats.ts';
import { cacheFolder } from '../../scripts/kernels/debian.ts';
import type { Made } from './mutations.ts';

const script = fileURLToPath(new URL('../../scripts/build-decompressors-judge.sh', import.meta.url));
const built = spawnSync('sh', [script], { encoding: 'utf8', timeout: 600_000 });

if (built.status !== 0 && process.env['CI'] === 'true')
  throw new Error(`the kernel's decompressors could not be built:\n${built.stderr}`);

/** For `test`: false, or why there is no judge. */
export const skip: string | false =
  built.status === 0
    ? false
    : `the kernel's decompressors could not be built: ${built.stderr.trim().split('\n').at(-1)}`;

const PROGRAMS: Readonly<Record<Compression, string>> = {
  gzip: 'inflate',
  bzip2: 'bunzip2',
  lzma: 'unlzma',
  xz: 'unxz',
  lzo: 'unlzo',
  lz4: 'unlz4',
  zstd: 'unzstd',
};

/** "6.12" and others. */
export function versions(): string[] {
  const cache = cacheFolder();
  const names = existsSync(cache) ? readdirSync(cache) : [];
  return names.flatMap((name) => /^decompressors-judge-(\d+\.\d+)$/.exec(name)?.[1] ?? []);
}

/** What a kernel does with a payload: decodes it to these bytes; decodes it to other bytes; refuses it or dies. */
export type Verdict = 'same' | 'other' | 'refused';

const VERDICTS: Readonly<Record<string, Verdict>> = { o: 'same', d: 'other', r: 'other', e: 'refused', c: 'refused' };

/** The decompressors of one format. */
export class Judges {
  readonly #compression: Compression;
  readonly #processes;

  constructor(compression: Compression) {
    this.#compression = compression;
    this.#processes = versions().map((version) => {
      const program = join(cacheFolder(), `decompressors-judge-${version}`, PROGRAMS[compression]);
      const child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] });
      const waiting: ((verdict: Verdict) => void)[] = [];
      child.stdout.on('data', (answers: Buffer) => {
        for (const answer of answers) waiting.shift()!(VERDICTS[String.fromCharCode(answer)]!);
      });
      return { child, waiting };
    });
  }

  /** Of each version: what it makes of the payload, compared with `expected`. */
  ask({ data, size }: Made, expected: Uint8Array | undefined): Promise<Verdict[]> {
    const word = Buffer.alloc(this.#compression === 'gzip' ? 0 : 4);
    if (word.length > 0) word.writeUInt32LE(size);
    const head = Uint32Array.of(data.length + word.length, size, expected === undefined ? 0 : 1);
    const request = Buffer.concat([Buffer.from(head.buffer), data, word, expected ?? Buffer.alloc(0)]);
    return Promise.all(
      this.#processes.map(({ child, waiting }) => {
        const answer = new Promise<Verdict>((resolve) => {
          waiting.push(resolve);
        });
        child.stdin.write(request);
        return answer;
      }),
    );
  }

  end(): void {
    for (const { child } of this.#processes) child.stdin.end();
  }
}
