/**
 * Files out, for command lines: `-` is standard output, and a file appears whole or not at all.
 *
 * Output goes to a temporary file beside its target and is renamed over it (draft.ts). Devices, FIFOs and standard output cannot be renamed over: those
 * are written straight. There is no fsync: a rename is atomic for everyone but a machine that loses power, and it costs more than the write
 * does (57 MB on ext4, measured: 10.8 ms, with fsync 24.6 ms). Each chunk goes down in one write(2): steps of 64 KiB take 1.2 times as long.
 *
 * Most of a converted kernel is the kernel that was given. So `OutputFile` takes that while it is still being decoded, and has another thread write it
 * to the temporary file meanwhile; when the result is there, only what differs is left to be written. Most of a moved kernel is the file that was given:
 * that one is copied meanwhile.
 */
import fs from 'node:fs';
import { open } from 'node:fs/promises';
import process from 'node:process';
import { isatty } from 'node:tty';
import { Draft, writeFully } from './draft.ts';
import { isSystemError, outputError, OutputFileError } from './files.ts';

export interface WriteOptions {
  /** Permission bits of a new file, less the umask; a file that is there keeps its own. */
  readonly mode?: number;
}

const STDOUT = 1;

/**
 * Writes `chunks` one after the other, copying none. Throws OutputFileError or DiskError; then, and also when SIGINT, SIGTERM or SIGHUP
 * ends the process, `path` is as it was and no temporary file is left.
 */
export async function writeFileAtomic(
  path: string,
  chunks: Iterable<Uint8Array>,
  options: WriteOptions = {},
): Promise<void> {
  await new OutputFile(path, options).finish(chunks);
}

/** One file to write, by `finish`. A chunk is read until the one behind the next is asked for. Who has called `begin` and then cannot finish it calls `discard`. */
export class OutputFile {
  readonly #path: string;
  readonly #mode: number;
  #early: EarlyBytes | EarlyCopy | undefined;

  /** Nothing is done, nor looked at, before the first bytes are there. */
  constructor(path: string, { mode = 0o666 }: WriteOptions = {}) {
    this.#path = path;
    this.#mode = mode;
  }

  /**
   * The first `end` bytes of `bytes` will probably be in the file, at the offsets that they have in `bytes`, and change no more until it is
   * finished. May be called again with a greater `end` and the same `bytes`. Throws nothing: `finish` does.
   */
  begin(bytes: Uint8Array, end: number): void {
    this.#early ??= new EarlyBytes(bytes, () => this.#openDraft());
    if (this.#early instanceof EarlyBytes) this.#early.write(end);
  }

  /** The same for the bytes of the file at `source`. */
  beginCopy(source: string): void {
    this.#early ??= new EarlyCopy(source, () => this.#openDraft());
  }

  /** Waits for that copy. False when there is none of `size` bytes: then `finish` has to be given everything. */
  async hasCopy(size: number): Promise<boolean> {
    if (this.#early instanceof EarlyCopy && (await this.#early.hasBytes(size))) return true;
    await this.discard();
    return false;
  }

  /** `chunks` are the whole file, in order. What `begin` has written of them is not written again. */
  async finish(chunks: Iterable<Uint8Array | InPlace>): Promise<void> {
    try {
      await this.#finish(chunks);
    } catch (error) {
      const name = this.#path === '-' ? 'standard output' : this.#path;
      throw isSystemError(error) ? outputError(name, error) : error;
    } finally {
      await this.discard();
    }
  }

  /** What was begun goes away. After `finish` there is nothing left to discard. */
  async discard(): Promise<void> {
    await this.#early?.close();
    this.#early = undefined;
  }

  async #finish(chunks: Iterable<Uint8Array | InPlace>): Promise<void> {
    if (this.#path === '-') return writeStandardOutput(allBytes(chunks));
    const draft = this.#early === undefined ? this.#openDraft() : await this.#early.settle();
    if (draft === undefined) return writeStraight(this.#path, allBytes(chunks));
    // The next chunk is asked for while one is written; not the one behind it.
    let [before, latest] = [Promise.resolve(), Promise.resolve()];
    try {
      let at = 0;
      for (const chunk of chunks) {
        if (chunk instanceof Uint8Array) {
          const there = this.#early?.lengthInPlace(chunk, at) ?? 0;
          [before, latest] = [latest, writeFully(draft.fd, chunk.subarray(there), at + there)];
          latest.catch(ignore); // until it is waited for
          await before;
        } else if (!(this.#early instanceof EarlyCopy)) {
          throw new RangeError('bytes in place where there is no copy');
        }
        at += chunk.length;
      }
      await latest;
      draft.complete(at);
    } finally {
      await Promise.allSettled([before, latest]); // no descriptor is closed under them
      draft.remove();
    }
  }

  /** Undefined for what is written straight. */
  #openDraft(): Draft | undefined {
    const path = this.#path;
    if (path === '-') return undefined;
    const existing = fs.statSync(path, { throwIfNoEntry: false });
    if (existing?.isDirectory()) throw new OutputFileError(path, 'is a directory');
    if (existing && !existing.isFile()) return undefined;
    return new Draft(path, existing, this.#mode);
  }
}

/** So many bytes of the file that are in its copy already, where they belong. */
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

/** What is written before it is known whether it is right. Failures are kept for later: the input's come first. */
class EarlyBytes {
  readonly #bytes: Uint8Array;
  #draft: Draft | undefined;
  #failure: { readonly error: unknown } | undefined;
  readonly #writes: Promise<void>[] = [];
  #end = 0;

  constructor(bytes: Uint8Array, openDraft: () => Draft | undefined) {
    this.#bytes = bytes;
    try {
      this.#draft = openDraft();
    } catch (error) {
      this.#failure = { error };
    }
  }

  write(end: number): void {
    const start = this.#end;
    if (this.#draft === undefined || this.#failure !== undefined || end <= start) return;
    this.#end = end;
    // Another thread begins at once, also when this one goes on without coming back to its event loop.
    const written = writeFully(this.#draft.fd, this.#bytes.subarray(start, end), start);
    this.#writes.push(written.catch((error: unknown) => void (this.#failure ??= { error })));
  }

  /** Once everything is written. Throws what was in the way. */
  async settle(): Promise<Draft | undefined> {
    await Promise.all(this.#writes);
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#draft;
  }

  /** How much of `chunk` from its start on is in the file already, where it is to be at `offset`. */
  lengthInPlace(chunk: Uint8Array, offset: number): number {
    const { buffer, byteOffset } = this.#bytes;
    if (chunk.buffer !== buffer || chunk.byteOffset !== byteOffset + offset) return 0;
    return Math.max(0, Math.min(chunk.length, this.#end - offset));
  }

  async close(): Promise<void> {
    await Promise.all(this.#writes); // they write from memory that may be freed, to a descriptor that may be another's
    this.#draft?.remove();
  }
}

/** A copy that the system makes by itself. Whatever goes wrong with it, there is none, and who writes the file anew finds out what is wrong. */
class EarlyCopy {
  #draft: Draft | undefined;
  readonly #copied: Promise<boolean>;

  constructor(source: string, openDraft: () => Draft | undefined) {
    try {
      this.#draft = openDraft();
    } catch {
      // Said when it is opened again.
    }
    this.#copied =
      this.#draft === undefined
        ? Promise.resolve(false)
        : this.#draft.copyFrom(source).then(
            () => true,
            () => false,
          );
  }

  async hasBytes(size: number): Promise<boolean> {
    return (await this.#copied) && this.#draft?.size === size;
  }

  async settle(): Promise<Draft | undefined> {
    await this.#copied;
    return this.#draft;
  }

  lengthInPlace(): number {
    return 0;
  }

  async close(): Promise<void> {
    await this.#copied;
    this.#draft?.remove();
  }
}

async function writeStraight(path: string, chunks: Iterable<Uint8Array>): Promise<void> {
  // Off the main thread: a FIFO opens only when it has a reader.
  const handle = await open(path, fs.constants.O_WRONLY);
  try {
    for (const chunk of chunks) await writeFully(handle.fd, chunk);
  } finally {
    await handle.close();
  }
}

async function writeStandardOutput(chunks: Iterable<Uint8Array>): Promise<void> {
  if (isatty(STDOUT)) throw new OutputFileError('standard output', 'is a terminal; redirect it, or name a file');
  const stat = fs.fstatSync(STDOUT);
  // Node's own stream for files drops what a short write leaves over; its stream for pipes is right, also when they are non-blocking.
  if (!stat.isFIFO() && !stat.isSocket()) {
    for (const chunk of chunks) await writeFully(STDOUT, chunk);
    return;
  }
  process.stdout.on('error', ignore); // the callback has it
  try {
    for (const chunk of chunks) {
      await new Promise<void>((resolve, reject) => {
        process.stdout.write(chunk, (error) => (error ? reject(error) : resolve()));
      });
    }
  } finally {
    process.stdout.off('error', ignore);
  }
}

function ignore(): void {}
