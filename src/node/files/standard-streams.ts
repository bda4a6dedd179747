/**
 * Text for standard output and standard error. A kernel on standard output is output-file.ts.
 *
 * Not by `process.stdout`: a stream reports a full disk or a reader that went away later, to a listener, when the command has its exit code already. A write
 * that is waited for fails where it was asked for. It also costs less (creating the stream takes 1.4 ms, 2.6 for a pipe, measured), and a pipe that other
 * programs share stays blocking. While a slow reader is waited for, signals are still handled: another thread waits.
 *
 * A stream that was closed before the start cannot be told from `/dev/null`, which Node opens in its place, so text to it is lost without an error.
 */
import { isSystemError, streamError } from '../errors.ts';
import { writeFully } from './write-fully.ts';

const STREAMS = { output: { fd: 1, name: 'standard output' }, error: { fd: 2, name: 'standard error' } } as const;

/** Resolves once the system has all of `text`. Throws DiskError. */
export async function writeStandard(stream: keyof typeof STREAMS, text: string | Uint8Array): Promise<void> {
  const { fd, name } = STREAMS[stream];
  try {
    await writeFully(fd, typeof text === 'string' ? Buffer.from(text) : text);
  } catch (error) {
    throw isSystemError(error) ? streamError(name, error) : error;
  }
}
