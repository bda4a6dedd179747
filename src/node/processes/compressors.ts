/**
 * Compression by the system's own tools, as a kernel build does it: the programs and options of scripts/Makefile.lib (cmd_gzip, cmd_zstd22 …)
 * and scripts/xz_wrap.sh, at their strongest settings. What they write, the kernel's decompressors are known to read.
 *
 * Files, not pipes, carry the data: unnamed ones, and standard input and output as the programs see it.
 */
import type { Compression, Encoders } from '../../codecs/formats.ts';
import { EnvironmentError } from '../errors.ts';
import { runProgram } from './run-program.ts';
import { openUnnamedFile, readUnnamedFile } from '../files/temporary-file.ts';

/** All read standard input and write standard output. */
const COMMANDS: Readonly<Record<Compression, readonly [program: string, ...args: string[]]>> = {
  gzip: ['gzip', '-n', '-f', '-9'],
  bzip2: ['bzip2', '-9'],
  lzma: ['lzma', '-9'],
  // One thread compresses a little better; the dictionary is larger than any kernel, which costs the decompressor nothing.
  xz: ['xz', '--check=crc32', '--threads=1', '--x86', '--lzma2=dict=128MiB'],
  lzo: ['lzop', '-9'],
  // The build's -9 is not the strongest.
  lz4: ['lz4', '-l', '-12', '-', '-'],
  // Four times the search of -22: 5 kB less, in no more time (measured).
  zstd: ['zstd', '-22', '--ultra', '--zstd=slog=12'],
};

/** zstd -22 takes 40 s for a distribution's kernel on an idle machine. */
const TIMEOUT_MS = 30 * 60_000;

/** Rejects with EnvironmentError: the program is not installed (with the command that installs it), or it failed. */
export const systemEncoders = Object.fromEntries(
  (Object.keys(COMMANDS) as Compression[]).map((compression) => [
    compression,
    (data: Uint8Array) => compress(data, compression),
  ]),
) as unknown as Encoders;

async function compress(data: Uint8Array, compression: Compression): Promise<Uint8Array> {
  const [program, ...args] = COMMANDS[compression];
  const input = await openUnnamedFile(data);
  const output = await openUnnamedFile();
  try {
    const run = await runProgram(program, args, { timeoutMs: TIMEOUT_MS, stdin: input.fd, stdout: output.fd });
    if (run.by === 'itself' && run.code === 0) return await readUnnamedFile(output);
    const why = run.by === 'timeout' ? `took more than ${TIMEOUT_MS / 60_000} minutes` : run.errors.trim();
    throw new EnvironmentError({
      problem: 'command-failed',
      what: `${[program, ...args].join(' ')} failed${why === '' ? '' : `: ${why.split('\n').at(-1)}`}`,
    });
  } finally {
    await input.close();
    await output.close();
  }
}
