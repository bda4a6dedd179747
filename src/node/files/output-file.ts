/**
 * Writes output files for the command line. `-` is standard output. A file appears whole or not at all.
 *
 * Output goes to a temporary file beside its target, which is then renamed over the target (atomic-file.ts). Devices, FIFOs and standard output cannot be
 * replaced by a rename, so they are written directly. There is no fsync: a rename is atomic unless the machine loses power, and an fsync takes longer than
 * the write (57 MB on ext4, measured: 10.8 ms, with fsync 24.6 ms). Each chunk is one write(2): steps of 64 KiB take 1.2 times as long.
 *
 * Most bytes of a converted kernel are those of its input. So `begin` takes them while the input is still being decoded, and another thread writes them to
 * the temporary file meanwhile. `finish` then writes only what differs. Most bytes of a moved kernel are those of its input file, so `beginCopy` copies that
 * file meanwhile.
 */
import fs from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { isatty } from 'node:tty';
import { AtomicFile } from './atomic-file.ts';
import { removeLeftovers } from './leftovers.ts';
import { isStandardOutput, resolveTarget, STDOUT } from './target.ts';
import type { NamedTarget, OpenTarget } from './target.ts';
import { writeFully } from './write-fully.ts';
import { DiskError, isSystemError, outputError, OutputFileError, streamError } from '../errors.ts';

export interface WriteOptions {
  /** Permission bits of a new file, less the umask. An existing file keeps its own, and its owner. */
  readonly mode?: number;
  /** The file tells a slide or a layout: 0600 at most, also when it replaces a file that more may read. */
  readonly secret?: boolean;
}

/**
 * Writes `chunks` one after the other without copying them. Throws OutputFileError or DiskError. In that case, and when SIGINT, SIGTERM or SIGHUP ends
 * the process, `path` is unchanged and no temporary file is left.
 */
export async function writeFileAtomic(
  path: string,
  chunks: Iterable<Uint8Array>,
  options: WriteOptions = {},
): Promise<void> {
  await new OutputFile(path, options).finish(chunks);
}

/**
 * One file, written by `finish`. Each chunk may be read until two more have been requested. Callers of `begin` or `beginCopy` that cannot `finish` must call
 * `discard`.
 */
export class OutputFile {
  readonly #path: string;
  readonly #options: { readonly mode: number; readonly secret: boolean };
  /** What is written before `finish`. */
  #early: EarlyBytes | EarlyCopy | undefined;
  /** Done meanwhile, and waited for in the end. */
  #tidying: Promise<void> | undefined;

  /** Does not touch the file system: the first bytes do. */
  constructor(path: string, { mode = 0o666, secret = false }: WriteOptions = {}) {
    this.#path = path;
    this.#options = { mode, secret };
  }

  /**
   * Says that the first `end` bytes of `bytes` will probably be in the file, at the same offsets, and do not change before `finish` is done. May be
   * called again with a greater `end` and the same `bytes`. Never throws: `finish` throws instead.
   */
  begin(bytes: Uint8Array, end: number): void {
    this.#early ??= new EarlyBytes(bytes, () => this.#openFile());
    if (this.#early instanceof EarlyBytes) this.#early.write(end);
  }

  /** The same for the whole file at `source`. */
  beginCopy(source: string): void {
    this.#early ??= new EarlyCopy(source, () => this.#openFile(true));
  }

  /** Waits for that copy. False when it failed or does not have `size` bytes: then `finish` needs all bytes, and no `InPlace`. */
  async hasCopy(size: number): Promise<boolean> {
    if (this.#early instanceof EarlyCopy && (await this.#early.hasBytes(size))) return true;
    await this.discard();
    return false;
  }

  /** Writes the file. `chunks` are the whole file, in order. Bytes that `begin` has written are not written again. */
  async finish(chunks: Iterable<Uint8Array | InPlace>): Promise<void> {
    try {
      await this.#finish(chunks);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      throw isStandardOutput(this.#path) ? streamError('standard output', error) : outputError(this.#path, error);
    } finally {
      await this.discard();
    }
  }

  /** Removes what was begun. After `finish` it does nothing. */
  async discard(): Promise<void> {
    await this.#early?.close();
    this.#early = undefined;
    await this.#tidying;
    this.#tidying = undefined;
  }

  async #finish(chunks: Iterable<Uint8Array | InPlace>): Promise<void> {
    const file = this.#early === undefined ? this.#openFile() : await this.#early.settle();
    if (file === undefined) return writeDirectly(this.#path, allBytes(chunks));
    // While one chunk is written the next is requested, and no further one.
    let [before, latest] = [Promise.resolve(), Promise.resolve()];
    try {
      let at = 0;
      for (const chunk of chunks) {
        if (chunk instanceof Uint8Array) {
          const there = this.#early?.lengthInPlace(chunk, at) ?? 0;
          [before, latest] = [latest, writeFully(file.fd, chunk.subarray(there), at + there)];
          latest.catch(ignore); // `await` below throws it
          await before;
        } else if (!(this.#early instanceof EarlyCopy)) {
          throw new RangeError('bytes in place where there is no copy');
        }
        at += chunk.length;
      }
      await latest;
      file.complete(at);
    } finally {
      await Promise.allSettled([before, latest]); // `remove` closes their descriptor
      file.remove();
    }
  }

  /** Undefined for what is written directly. */
  #openFile(forCopy = false): AtomicFile | undefined {
    const target = resolveTarget(this.#path);
    if ('fd' in target) return undefined;
    const { directory, existing, isDescriptor } = target;
    if (isDescriptor || (existing && !existing.isFile())) {
      directory.close();
      return undefined;
    }
    this.#tidying ??= removeLeftovers(directory.path);
    return new AtomicFile(target, this.#path, { ...this.#options, forCopy });
  }
}

/** Stands for `length` bytes that the copy already holds in their place. */
export class InPlace {
  readonly length: number;

  constructor(length: number) {
    this.length = length;
  }
}

function* allBytes(chunks: Iterable<Uint8Array | InPlace>): Generator<Uint8Array, void, undefined> {
  for (const chunk of chunks) {
    if (!(chunk instanceof Uint8Array)) throw new RangeError('bytes in place where there is no copy');
    yield chunk;
  }
}

/** Bytes written before it is known whether the input is valid. Failures are kept for `settle`, because those of the input are reported first. */
class EarlyBytes {
  readonly #bytes: Uint8Array;
  #file: AtomicFile | undefined;
  #failure: { readonly error: unknown } | undefined;
  readonly #writes: Promise<void>[] = [];
  #end = 0;

  constructor(bytes: Uint8Array, openFile: () => AtomicFile | undefined) {
    this.#bytes = bytes;
    try {
      this.#file = openFile();
    } catch (error) {
      this.#failure = { error };
    }
  }

  write(end: number): void {
    const start = this.#end;
    if (this.#file === undefined || this.#failure !== undefined || end <= start) return;
    this.#end = end;
    // Another thread starts at once, although this one may not return to its event loop for long.
    const written = writeFully(this.#file.fd, this.#bytes.subarray(start, end), start);
    this.#writes.push(written.catch((error: unknown) => void (this.#failure ??= { error })));
  }

  /** Waits until everything is written. Throws the first failure. */
  async settle(): Promise<AtomicFile | undefined> {
    await Promise.all(this.#writes);
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#file;
  }

  /** How many bytes from the start of `chunk`, which belongs at `offset`, the file already holds there. */
  lengthInPlace(chunk: Uint8Array, offset: number): number {
    const { buffer, byteOffset } = this.#bytes;
    if (chunk.buffer !== buffer || chunk.byteOffset !== byteOffset + offset) return 0;
    return Math.max(0, Math.min(chunk.length, this.#end - offset));
  }

  async close(): Promise<void> {
    await Promise.all(this.#writes); // they read memory that the caller may reuse, and write to a descriptor that is closed next
    this.#file?.remove();
  }
}

/** A copy that the system makes. If it fails for any reason there is no copy, and writing the whole file will report the cause. */
class EarlyCopy {
  #file: AtomicFile | undefined;
  readonly #copied: Promise<boolean>;

  constructor(source: string, openFile: () => AtomicFile | undefined) {
    try {
      this.#file = openFile();
    } catch {
      // Reported when the file is opened again.
    }
    this.#copied =
      this.#file === undefined
        ? Promise.resolve(false)
        : this.#file.copyFrom(source).then(
            () => true,
            () => false,
          );
  }

  async hasBytes(size: number): Promise<boolean> {
    return (await this.#copied) && this.#file?.size === size;
  }

  async settle(): Promise<AtomicFile | undefined> {
    await this.#copied;
    return this.#file;
  }

  lengthInPlace(): number {
    return 0;
  }

  async close(): Promise<void> {
    await this.#copied;
    this.#file?.remove();
  }
}

async function writeDirectly(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const target = resolveTarget(path);
  if ('fd' in target) return writeOpen(path, target, chunks);
  try {
    const handle = await openSpecial(path, target);
    try {
      for (const chunk of chunks) await writeFully(handle.fd, chunk);
    } finally {
      await handle.close();
    }
  } finally {
    target.directory.close();
  }
}

/** A device, a FIFO, or what another process has open. */
async function openSpecial(
  path: string,
  { directory, name, existing, isDescriptor }: NamedTarget,
): Promise<FileHandle> {
  const { O_WRONLY, O_TRUNC, O_NOFOLLOW } = fs.constants;
  // Off the main thread: a FIFO opens only when it has a reader.
  if (isDescriptor) return open(directory.at(name), O_WRONLY | O_TRUNC);
  const handle = await open(directory.at(name), O_WRONLY | O_NOFOLLOW);
  const found = await handle.stat();
  // What was no file when the path was read, and is one now, is somebody's trap.
  if (!found.isFile() && found.dev === existing?.dev && found.ino === existing.ino) return handle;
  await handle.close();
  throw new OutputFileError(path, 'was replaced by something else while it was opened');
}

/** Standard output, or another descriptor that this process was started with: written from where it stands. */
async function writeOpen(path: string, { fd }: OpenTarget, chunks: Iterable<Uint8Array>): Promise<void> {
  const name = fd === STDOUT ? 'standard output' : path;
  if (isatty(fd)) throw new OutputFileError(name, 'is a terminal; redirect it, or name a file');
  if (isClosed(fd)) throw new DiskError(name, 'is closed, or is /dev/null opened for reading too');
  for (const chunk of chunks) await writeFully(fd, chunk);
}

/**
 * Node opens /dev/null for reading and writing in place of a standard stream that is closed. A shell's `>/dev/null` is for writing only. Programs that
 * start others do either, and mean it. So text may go there, but not a kernel that somebody asked for by `-o -`: better said than lost.
 */
function isClosed(fd: number): boolean {
  try {
    const [opened, nothing] = [fs.fstatSync(fd), fs.statSync('/dev/null')];
    if (!opened.isCharacterDevice() || opened.rdev !== nothing.rdev) return false;
    const [, flags] = /^flags:\s*([0-7]+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
    return flags !== undefined && (Number.parseInt(flags, 8) & 3) === fs.constants.O_RDWR;
  } catch {
    return false; // no such descriptor, or no /proc: writing tells
  }
}

function ignore(): void {}
