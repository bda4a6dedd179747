/**
 * Compression by the system's own tools, as a kernel build does it. src/node/codecs.ts has the command of each format.
 *
 * Data goes through unnamed files, not pipes; the programs see them as standard input and output.
 */
import { readFileSync } from 'node:fs';
import { forEachFormat, type Compression, type Encoders } from '../../codecs/formats.ts';
import { compressorOf } from '../codecs.ts';
import { EnvironmentError } from '../errors.ts';
import { runProgram } from './run-program.ts';
import { readUnnamedFile, openUnnamedFile } from '../files/temporary-file.ts';

/** zstd -22 takes 40 s for a distribution's kernel on an idle machine. */
const TIMEOUT_MS = 30 * 60_000;

/** Rejects with EnvironmentError: the program is not installed (with the command that installs it), or it failed. */
export const systemEncoders: Encoders = forEachFormat((compression) => (data) => compress(data, compression));

/** The same, which tell how much of the data the program has read: a part of 1. */
export function tellingEncoders(onRead: (part: number) => void): Encoders {
  return forEachFormat((compression) => (data) => compress(data, compression, onRead));
}

const LOOK_MS = 250;

/** The program's standard input is our own open file, so its position is known here too. */
function watchPosition(fd: number, length: number, onRead: (part: number) => void): () => void {
  const timer = setInterval(() => {
    const position = /^pos:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
    onRead(Math.min(1, Number(position ?? 0) / length));
  }, LOOK_MS);
  return () => clearInterval(timer);
}

async function compress(
  data: Uint8Array,
  compression: Compression,
  onRead?: (part: number) => void,
): Promise<Uint8Array> {
  const [program, ...args] = compressorOf(compression);
  const input = await openUnnamedFile(data);
  const output = await openUnnamedFile();
  const stop = onRead === undefined ? undefined : watchPosition(input.fd, data.length, onRead);
  try {
    const run = await runProgram(program, args, { timeoutMs: TIMEOUT_MS, stdin: input.fd, stdout: output.fd });
    if (run.by === 'itself' && run.code === 0) return await readUnnamedFile(output);
    const why = run.by === 'timeout' ? `took more than ${TIMEOUT_MS / 60_000} minutes` : run.errors.trim();
    throw new EnvironmentError({
      problem: 'command-failed',
      what: `${[program, ...args].join(' ')} failed${why === '' ? '' : `: ${why.split('\n').at(-1)}`}`,
    });
  } finally {
    stop?.();
    await input.close();
    await output.close();
  }
}
