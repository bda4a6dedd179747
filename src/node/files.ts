/**
 * Files in and out, for command lines: `-` is standard input or output, and an output file appears whole or not at all.
 *
 * Output goes to a temporary file beside its target and is renamed over it. Devices, FIFOs and standard output cannot be renamed over: those
 * are written straight. There is no fsync: a rename is atomic for everyone but a machine that loses power, and it costs more than the write
 * does (57 MB on ext4, measured: 10.8 ms, with fsync 24.6 ms). Each chunk goes down in one write(2): steps of 64 KiB take 1.2 times as long.
 */
import fs from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
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

/**
 * All of a file, a FIFO or, for `-`, standard input. Throws InputFileError; more than 2 GiB is not read. A file is on its way when this returns,
 * on another thread: who has something else to do may do that before waiting. Behind what was read of a file its buffer has `spare` bytes more.
 */
export async function readInputFile(path: string, spare = 0): Promise<Uint8Array> {
  const name = path === '-' ? 'standard input' : path;
  try {
    if (path === '-') return await readOpen(name, STDIN, () => process.stdin);
    if (fs.statSync(path).isFile()) {
      const fd = fs.openSync(path, 'r');
      try {
        return await readOpen(name, fd, noStream, spare);
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
  spare = 0,
): Promise<Uint8Array> {
  const stat = fs.fstatSync(fd);
  if (stat.isDirectory()) throw new InputFileError(name, 'is a directory');
  if (stat.isFIFO() || stat.isSocket()) return collect(name, stream());
  if (!stat.isFile()) throw new InputFileError(name, isatty(fd) ? 'is a terminal' : 'is a device, not a file');
  if (stat.size > MAX_INPUT) throw tooLarge(name);
  const bytes = new Uint8Array(stat.size + spare);
  let length = 0;
  while (length < stat.size) {
    const { bytesRead } = await read(fd, bytes, length, Math.min(stat.size - length, 2 ** 30), null);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return bytes.subarray(0, length);
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

export interface WriteOptions {
  /** Permission bits of a new file, less the umask; a file that is there keeps its own. */
  readonly mode?: number;
}

/**
 * Writes `chunks` one after the other, copying none. Throws OutputFileError or DiskError; then, and also when SIGINT, SIGTERM or SIGHUP
 * ends the process, `path` is as it was and no temporary file is left.
 */
export async function writeFileAtomic(
  path: string,
  chunks: Iterable<Uint8Array>,
  options: WriteOptions = {},
): Promise<void> {
  const name = path === '-' ? 'standard output' : path;
  try {
    if (path === '-') return await writeStandardOutput(chunks);
    const existing = fs.statSync(path, { throwIfNoEntry: false });
    if (existing?.isDirectory()) throw new OutputFileError(path, 'is a directory');
    if (existing && !existing.isFile()) return await writeStraight(path, chunks);
    await replace(path, existing, chunks, options);
  } catch (error) {
    throw isSystemError(error) ? outputError(name, error) : error;
  }
}

/** The global `crypto` is loaded here and not when the program starts: 2 ms (measured). */
function randomDigits(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(6))).toString('hex');
}

async function replace(
  path: string,
  existing: fs.Stats | undefined,
  chunks: Iterable<Uint8Array>,
  { mode = 0o666 }: WriteOptions,
): Promise<void> {
  if (existing) fs.accessSync(path, fs.constants.W_OK); // rename would not ask
  else if (fs.lstatSync(path, { throwIfNoEntry: false })) throw new OutputFileError(path, 'is a broken symbolic link');
  // A rename replaces a symbolic link itself, so follow it first.
  const target = existing ? fs.realpathSync(path) : path;
  // Names are limited to 255 bytes: 60 UTF-16 units are at most 180.
  const tag = `kslide-${process.pid}-${randomDigits()}`;
  const temporary = join(dirname(target), `${basename(target).slice(0, 60)}.${tag}.tmp`);

  // Known to the signal handlers before it is there. Opening, closing and renaming are synchronous: no handler runs in the middle.
  removeOnExit(temporary);
  try {
    const fd = fs.openSync(temporary, 'wx', existing ? 0o600 : mode);
    try {
      await writeAll(fd, chunks);
      if (existing) fs.fchmodSync(fd, existing.mode & 0o777);
    } finally {
      fs.closeSync(fd); // some file systems say only here that the disk is full
    }
    fs.renameSync(temporary, target);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  } finally {
    keepOnExit(temporary);
  }
}

async function writeStraight(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  // Off the main thread: a FIFO opens only when it has a reader.
  const handle = await open(path, fs.constants.O_WRONLY);
  try {
    await writeAll(handle.fd, chunks);
  } finally {
    await handle.close();
  }
}

async function writeStandardOutput(chunks: Iterable<Uint8Array>): Promise<void> {
  if (isatty(STDOUT)) throw new OutputFileError('standard output', 'is a terminal; redirect it, or name a file');
  const stat = fs.fstatSync(STDOUT);
  // Node's own stream for files drops what a short write leaves over; its stream for pipes is right, also when they are non-blocking.
  if (!stat.isFIFO() && !stat.isSocket()) return writeAll(STDOUT, chunks);
  process.stdout.on('error', ignoreAsCallbackHasIt);
  try {
    for (const chunk of chunks) {
      await new Promise<void>((resolve, reject) => {
        process.stdout.write(chunk, (error) => (error ? reject(error) : resolve()));
      });
    }
  } finally {
    process.stdout.off('error', ignoreAsCallbackHasIt);
  }
}

function ignoreAsCallbackHasIt(): void {}

const write = promisify(fs.write);

async function writeAll(fd: number, chunks: Iterable<Uint8Array>): Promise<void> {
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length;) at += (await write(fd, chunk, at)).bytesWritten;
  }
}

/** Temporary files that a dying process takes with it. */
const temporaries = new Set<string>();
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function removeOnExit(temporary: string): void {
  if (temporaries.size === 0) {
    process.on('exit', removeTemporaries);
    for (const signal of SIGNALS) process.on(signal, dieOf);
  }
  temporaries.add(temporary);
}

function keepOnExit(temporary: string): void {
  temporaries.delete(temporary);
  if (temporaries.size === 0) stopListening();
}

function stopListening(): void {
  process.off('exit', removeTemporaries);
  for (const signal of SIGNALS) process.off(signal, dieOf);
}

function removeTemporaries(): void {
  for (const temporary of temporaries) fs.rmSync(temporary, { force: true });
}

/** Once more, now with nobody listening: so that the parent sees which signal it was. */
function dieOf(signal: NodeJS.Signals): void {
  removeTemporaries();
  stopListening();
  process.kill(process.pid, signal);
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

function outputError(name: string, error: NodeJS.ErrnoException): FileError {
  if (WRONG_PATH.has(error.code ?? '')) return new OutputFileError(name, reasonOf(error), error);
  return new DiskError(name, error.code === 'EPIPE' ? 'its reader closed it' : reasonOf(error), error);
}

/** Of a system call, not one of ours. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'errno' in error;
}

/** The system's words for an error number, without the call and the path that Node puts around them. */
function reasonOf(error: NodeJS.ErrnoException): string {
  return getSystemErrorMap().get(error.errno ?? 0)?.[1] ?? error.message;
}
