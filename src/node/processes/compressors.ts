/**
 * Compression by the system's own tools, as a kernel build does it. src/node/codecs.ts has the command of each format.
 *
 * Data goes through unnamed files, not pipes; the programs see them as standard input and output.
 */
import { forEachFormat, type Compression, type Encoders } from '../../codecs/formats.ts';
import { compressorOf } from '../codecs.ts';
import { EnvironmentError } from '../errors.ts';
import { runProgram } from './run-program.ts';
import { readUnnamedFile, openUnnamedFile } from '../files/temporary-file.ts';

/** zstd -22 takes 40 s for a distribution's kernel on an idle machine. */
const TIMEOUT_MS = 30 * 60_000;

/** Rejects with EnvironmentError: the program is not installed (with the command that installs it), or it failed. */
export const systemEncoders: Encoders = forEachFormat((compression) => (data) => compress(data, compression));

async function compress(data: Uint8Array, compression: Compression): Promise<Uint8Array> {
  const [program, ...args] = compressorOf(compression);
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
