/**
 * Files in, for command lines, and what can be wrong with a file: `-` is standard input or output. Files out are output-file.ts.
 */
import fs from 'node:fs';
import { open } from 'node:fs/promises';
import process from 'node:process';
import { isatty } from 'node:tty';
import { getSystemErrorMap, promisify } from 'node:util';

class FileError extends Error {
  /** As the user gave it, or "standard input" and "standard output". */
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string, cause?: unknown) {
    super(`${path}: ${reason}`, cause === undefined ? undefined : { cause });
    this.path = path;
    this.reason = reason;
  }
}

/** An input that cannot be read: the user has to name another one. */
export class InputFileError extends FileError {
  override readonly name = 'InputFileError';
}

/** An output that cannot be written by that name: a directory, no permission, the input itself. */
export class OutputFileError extends FileError {
  override readonly name = 'OutputFileError';
}

/** The name is good, but the machine could not do it: disk full, I/O error, a reader that went away. */
export class DiskError extends FileError {
  override readonly name = 'DiskError';
}

const STDIN = 0;
const STDOUT = 1;
const MAX_INPUT = 2 ** 31;
const HEAD = 0x1_0000;

export interface ReadOptions {
  readonly spare?: number | undefined;
  readonly onHead?: ((head: Uint8Array) => void) | undefined;
}

/**
 * All of a file, a FIFO or, for `-`, standard input. Throws InputFileError; more than 2 GiB is not read. A file is on its way when this returns,
 * on another thread: who has something else to do may do that before waiting. Behind what was read of a file its buffer has `spare` bytes more.
 * `onHead` sees the first bytes of what is a file, before this returns.
 */
export async function readInputFile(path: string, { spare, onHead }: ReadOptions = {}): Promise<Uint8Array> {
  const name = path === '-' ? 'standard input' : path;
  try {
    if (path === '-') return await readOpen(name, STDIN, () => process.stdin);
    if (fs.statSync(path).isFile()) {
      const fd = fs.openSync(path, 'r');
      try {
        return await readOpen(name, fd, noStream, { spare, onHead });
      } finally {
        fs.closeSync(fd);
      }
    }
    // Off the main thread: a FIFO opens only when it has a writer.
    const handle = await open(path);
    try {
      return await readOpen(name, handle.fd, () => handle.createReadStream({ autoClose: false }));
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw isSystemError(error) ? new InputFileError(name, reasonOf(error), error) : error;
  }
}

const read = promisify(fs.read);

async function readOpen(
  name: string,
  fd: number,
  stream: () => AsyncIterable<Uint8Array>,
  { spare = 0, onHead }: ReadOptions = {},
): Promise<Uint8Array> {
  const stat = fs.fstatSync(fd);
  if (stat.isDirectory()) throw new InputFileError(name, 'is a directory');
  if (stat.isFIFO() || stat.isSocket()) return collect(name, stream());
  if (!stat.isFile()) throw new InputFileError(name, isatty(fd) ? 'is a terminal' : 'is a device, not a file');
  if (stat.size > MAX_INPUT) throw tooLarge(name);
  const bytes = new Uint8Array(stat.size + spare);
  if (fd === STDIN) return bytes.subarray(0, await readFrom(fd, bytes, { start: 0, end: stat.size }));
  const head = onHead === undefined ? 0 : fs.readSync(fd, bytes, 0, Math.min(stat.size, HEAD), 0);
  const middle = head + Math.floor((stat.size - head) / 2);
  const reading = [
    readFrom(fd, bytes, { start: head, end: middle, positioned: true }),
    readFrom(fd, bytes, { start: middle, end: stat.size, positioned: true }),
  ] as const;
  onHead?.(bytes.subarray(0, head)); // while the others come in
  // No descriptor is closed under a read.
  const [first, second] = await Promise.all(reading).finally(() => Promise.allSettled(reading));
  return bytes.subarray(0, first < middle ? first : second);
}

/**
 * Into the same places of `bytes`; where that ended, which is before `end` when the file does. A file is read by two threads: new memory takes
 * longer to get than the bytes to copy, and each gets its own (12 MB: 5 ms instead of 9, measured). What is redirected is read from where it stands.
 */
async function readFrom(
  fd: number,
  bytes: Uint8Array,
  { start, end, positioned = false }: { start: number; end: number; positioned?: boolean },
): Promise<number> {
  let at = start;
  while (at < end) {
    const { bytesRead } = await read(fd, bytes, at, Math.min(end - at, 2 ** 30), positioned ? at : null);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return at;
}

/** Of what is a file. */
function noStream(): never {
  throw new Error('a file that is not one any more');
}

async function collect(name: string, stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_INPUT) throw tooLarge(name);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

function tooLarge(name: string): InputFileError {
  return new InputFileError(name, 'is larger than 2 GiB, which no kernel is');
}

/**
 * Throws OutputFileError when writing `output` would replace `input`: by the same name, by links of either kind, or through a redirection.
 * Only files count; a device may be both.
 */
export function refuseSameFile(input: string, output: string): void {
  const from = statOf(input, STDIN);
  const to = statOf(output, STDOUT);
  if (!from?.isFile() || !to?.isFile() || from.dev !== to.dev || from.ino !== to.ino) return;
  throw new OutputFileError(output === '-' ? 'standard output' : output, 'is the input file; name another one');
}

/** Undefined when there is nothing of that name: whoever opens it says so. */
function statOf(path: string, standard: number): fs.BigIntStats | undefined {
  try {
    return path === '-' ? fs.fstatSync(standard, { bigint: true }) : fs.statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}

/** What the user can mend by giving another path; all else is the machine's fault. */
const WRONG_PATH = new Set([
  'EACCES',
  'EISDIR',
  'ELOOP',
  'ENAMETOOLONG',
  'ENOENT',
  'ENOTDIR',
  'ENXIO',
  'EPERM',
  'EROFS',
]);

export function outputError(name: string, error: NodeJS.ErrnoException): FileError {
  if (WRONG_PATH.has(error.code ?? '')) return new OutputFileError(name, reasonOf(error), error);
  return new DiskError(name, error.code === 'EPIPE' ? 'its reader closed it' : reasonOf(error), error);
}

/** Of a system call, not one of ours. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'errno' in error;
}

/** The system's words for an error number, without the call and the path that Node puts around them. */
function reasonOf(error: NodeJS.ErrnoException): string {
  return getSystemErrorMap().get(error.errno ?? 0)?.[1] ?? error.message;
}
