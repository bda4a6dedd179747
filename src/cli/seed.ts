/** The seed of `randomize` and `shuffle`: `--seed`, `--seed-file`, or a new random one. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { SEED_MAX_BYTES, SEED_MIN_BYTES } from '../kaslr/draw.ts';
import { InputFileError } from '../node/errors.ts';
import { readInputFile } from '../node/files/input-file.ts';
import { UsageError } from './failure.ts';
import { remark } from './print.ts';

export const SEED_OPTIONS = {
  seed: [
    '--seed <HEX>',
    `secret seed for all random choices, ${SEED_MIN_BYTES} to ${SEED_MAX_BYTES} bytes in hex: the same seed gives the same file (default: a new random seed); all users see it in ps`,
  ],
  seedFile: ['--seed-file <FILE>', 'read the seed from FILE, the same digits as for --seed; - is standard input'],
} as const;

export interface SeedArguments {
  readonly seed?: string;
  readonly seedFile?: string;
}

const EXPECTED = `expected ${SEED_MIN_BYTES} to ${SEED_MAX_BYTES} bytes in hex`;

/** Asks for no file. Throws UsageError. */
export function refuseBadSeed({ seed, seedFile }: SeedArguments): void {
  if (seed !== undefined && seedFile !== undefined) throw new UsageError('--seed and --seed-file do not go together');
  if (seed !== undefined && parseSeed(seed) === undefined)
    throw new UsageError(
      `--seed is ${JSON.stringify(seed)}, ${EXPECTED}, for example from: openssl rand -hex ${SEED_MAX_BYTES}`,
    );
}

/** Without either option, a random seed of the greatest length. Warns of a file that others can read, also under --quiet. Throws UsageError or InputFileError. */
export async function readSeed(options: SeedArguments): Promise<Uint8Array> {
  refuseBadSeed(options);
  const { seed, seedFile } = options;
  if (seed !== undefined) return parseSeed(seed)!;
  if (seedFile === undefined) return randomBytes(SEED_MAX_BYTES);
  const bytes = await readInputFile(seedFile);
  // Its contents may be a secret, even when they are not a seed: they are in no message.
  const found =
    bytes.length <= 2 * SEED_MAX_BYTES + 2
      ? parseSeed(
          Buffer.from(bytes)
            .toString('latin1')
            .replace(/\r?\n$/, ''),
        )
      : undefined;
  if (found === undefined)
    throw new InputFileError(
      seedFile === '-' ? 'standard input' : seedFile,
      `${bytes.length} bytes, ${EXPECTED} and at most a newline, for example from: openssl rand -hex ${SEED_MAX_BYTES}`,
    );
  await warnOfReaders(seedFile);
  return found;
}

function parseSeed(digits: string): Uint8Array | undefined {
  const bytes = digits.length / 2;
  const isSeed = /^(?:[0-9a-f]{2})*$/i.test(digits) && bytes >= SEED_MIN_BYTES && bytes <= SEED_MAX_BYTES;
  return isSeed ? Buffer.from(digits, 'hex') : undefined;
}

async function warnOfReaders(path: string): Promise<void> {
  const found = path === '-' ? fs.fstatSync(0) : fs.statSync(path, { throwIfNoEntry: false });
  if (found?.isFile() && (found.mode & 0o044) !== 0)
    await remark(
      `warning: others can read ${path === '-' ? 'standard input' : path}, which holds the seed; run: chmod 600`,
    );
}
