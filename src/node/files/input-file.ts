/**
 * Reads input files for the command line. `-` is standard input. Output is output-file.ts.
 */
import fs from 'node:fs';
import { open } from 'node:fs/promises';
import process from 'node:process';
import { isatty } from 'node:tty';
import { promisify } from 'node:util';
import { readWithoutDebug } from '../../elf/without-debug.ts';
import { InputFileError, isSystemError, OutputFileError, reasonOf } from '../errors.ts';
import { readFully } from './read-fully.ts';
import type { OpenFile } from './read-fully.ts';
import { FileState } from './steady.ts';

const STDIN = 0;
const STDOUT = 1;
const MAX_INPUT = 2 ** 31;
const MAX_UNSIZED = 2 ** 28;
const HEAD = 0x1_0000;

export interface ReadOptions {
  /** A regular file's buffer has this many bytes more, after the ones that are returned. */
  readonly spare?: number | undefined;
  /** Called with the first bytes of a regular file before readInputFile returns its promise. */
  readonly onHead?: ((head: Uint8Array) => void) | undefined;
  /**
   * If it is given, a vmlinux of more than 2 GiB is read without its debug sections (elf/without-debug.ts), unless it comes from a pipe. This is then called
   * with how many bytes were left out, and `spare` and `onHead` are ignored.
   */
  readonly onLeftOut?: ((bytes: number) => void) | undefined;
  /** Another process may append to the file meanwhile, as to a log. Otherwise a regular file must not change while it is read. */
  readonly mayGrow?: boolean | undefined;
}

/**
 * Reads all of a file, a FIFO or, for `-`, standard input. Throws InputFileError, also for more than 2 GiB, and DiskError for a file that changes meanwhile.
 * With `onLeftOut`, throws KernelImageError for a larger vmlinux whose headers are broken, or that has more than 2 GiB without debug sections.
 *
 * When this returns its promise, other threads are reading the file already: the caller can do other work before it waits.
 */
export async function readInputFile(path: string, options: ReadOptions = {}): Promise<Uint8Array> {
  const name = path === '-' ? 'standard input' : path;
  try {
    const { mayGrow, onLeftOut } = options;
    if (path === '-') return await readOpen(name, STDIN, () => process.stdin, { mayGrow, onLeftOut });
    if (fs.statSync(path).isFile()) {
      // What has become a FIFO in between is not waited for.
      const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
      try {
        if (!fs.fstatSync(fd).isFile())
          throw new InputFileError(name, 'was replaced by something else while it was opened');
        return await readOpen(name, fd, () => chunksOf(name, fd), options);
      } finally {
        fs.closeSync(fd);
      }
    }
    // Off the main thread: a FIFO opens only when it has a writer.
    const handle = await open(path);
    try {
      return await readOpen(name, handle.fd, () => handle.createReadStream({ autoClose: false }), { onLeftOut });
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
  { spare = 0, onHead, onLeftOut, mayGrow = false }: ReadOptions = {},
): Promise<Uint8Array> {
  const stat = fs.fstatSync(fd);
  if (stat.isDirectory()) throw new InputFileError(name, 'is a directory');
  if (stat.isFIFO() || stat.isSocket()) return collect(name, stream(), { inParts: onLeftOut !== undefined });
  if (!stat.isFile()) throw new InputFileError(name, isatty(fd) ? 'is a terminal' : 'is a device, not a file');
  const state = new FileState(name, fd);
  // A smaller file is read to its end, which tells where it stood.
  const start = fd === STDIN && state.size > MAX_INPUT ? positionOf(fd) : 0;
  const size = state.size - (start ?? 0);
  if (size > MAX_INPUT) {
    const readParts = onLeftOut !== undefined && start !== undefined;
    const rest = readParts ? readRest({ path: name, fd, size, state }, start) : undefined;
    if (rest === undefined) throw tooLarge(name, size);
    onLeftOut?.(size - rest.length);
    return rest;
  }
  // /proc/kallsyms says 0, and so does an empty file.
  if (size === 0) {
    onHead?.(new Uint8Array());
    return collect(name, chunksOf(name, fd), { spare });
  }
  const bytes = new Uint8Array(size + spare);
  const expectUnchanged = (): void => (mayGrow ? undefined : state.expectUnchanged());
  if (fd === STDIN) {
    const end = await readFrom(fd, bytes, { start: 0, end: size });
    expectUnchanged();
    return bytes.subarray(0, end);
  }
  const head = onHead === undefined ? 0 : fs.readSync(fd, bytes, 0, Math.min(size, HEAD), 0);
  const middle = head + Math.floor((size - head) / 2);
  const reading = [
    readFrom(fd, bytes, { start: head, end: middle, positioned: true }),
    readFrom(fd, bytes, { start: middle, end: size, positioned: true }),
  ] as const;
  onHead?.(bytes.subarray(0, head)); // while the rest is being read
  // The caller closes the descriptor, so wait for both reads even when one fails.
  const [first, second] = await Promise.all(reading).finally(() => Promise.allSettled(reading));
  expectUnchanged();
  return bytes.subarray(0, first < middle ? first : second);
}

/**
 * `start`: where it begins in the file. Undefined for what is no vmlinux. A file that changes meanwhile is refused for that, not for what is wrong with a
 * mixture of two files.
 */
function readRest(file: OpenFile, start: number): Uint8Array | undefined {
  try {
    return readWithoutDebug(file.size, (into, offset) => readFully(file, into, start + offset), MAX_INPUT);
  } finally {
    file.state.expectUnchanged();
  }
}

/**
 * Reads the file's bytes from `start` to `end` into the same places of `bytes`, and returns where it stopped: before `end` if the file is shorter.
 *
 * A file is read by two threads. Page faults in new memory take longer than copying the bytes, and so each thread takes half of them (12 MB: 5 ms instead
 * of 9, measured). Redirected input is not `positioned`: it is read from where it stands.
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

/**
 * From where the file stands to where it ends, for one that says that it has no size, as those of /proc do. Some of those have no end in practice:
 * /proc/self/pagemap has 256 GiB.
 */
async function* chunksOf(name: string, fd: number): AsyncGenerator<Uint8Array, void, undefined> {
  const buffer = new Uint8Array(HEAD);
  for (let length = 0; length <= MAX_UNSIZED;) {
    const { bytesRead } = await read(fd, buffer, 0, buffer.length, null);
    if (bytesRead === 0) return;
    yield buffer.slice(0, bytesRead); // files of /proc give 4 KiB at a time
    length += bytesRead;
  }
  throw new InputFileError(name, 'says that it has no size, and has more than 256 MiB; copy it to a file');
}

/**
 * Where a redirected file stands: `(head -c 512 >SETUP; kslide convert - …) <FILE` has read some of it already. Node cannot ask for that, Linux tells it as
 * text. Undefined where it does not. Reading by parts leaves the file where it stands.
 */
function positionOf(fd: number): number | undefined {
  try {
    const position = /^pos:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
    return position === undefined ? undefined : Number(position);
  } catch {
    return undefined;
  }
}

/** `inParts`: a file of more than 2 GiB could be read by parts. */
async function collect(
  name: string,
  stream: AsyncIterable<Uint8Array>,
  { spare = 0, inParts = false }: { readonly spare?: number; readonly inParts?: boolean },
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_INPUT) throw inParts ? tooLargeForPipe(name) : tooLarge(name);
  }
  const bytes = new Uint8Array(length + spare).subarray(0, length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** `size`: undefined for a stream, whose end was not waited for. */
function tooLarge(name: string, size?: number): InputFileError {
  const is = size === undefined ? 'has more than 2 GiB' : `has ${(size / 1e9).toFixed(1)} GB`;
  return new InputFileError(
    name,
    `${is}, and kslide reads files of up to 2 GiB (0x80000000 bytes); in a vmlinux that is debug information: strip -g -o SMALL ${name === 'standard input' ? 'VMLINUX' : name} leaves it out and keeps the kernel and its relocations`,
  );
}

function tooLargeForPipe(name: string): InputFileError {
  return new InputFileError(
    name,
    'has more than 2 GiB, and a pipe cannot be read in parts; write it to a file and name that, or redirect it (<VMLINUX): then kslide leaves out the debug sections',
  );
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

/** Undefined when there is no such file: opening it will say so. */
function statOf(path: string, standard: number): fs.BigIntStats | undefined {
  try {
    return path === '-' ? fs.fstatSync(standard, { bigint: true }) : fs.statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}
