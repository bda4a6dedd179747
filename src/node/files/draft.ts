/**
 * A file that is not there yet: a temporary one beside its target that is renamed over it, or is gone, however the process ends.
 */
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { OutputFileError } from './files.ts';

const copyFile = promisify(fs.copyFile);

/** Nothing that must not be guessed: a name that is taken is not opened. Node's `crypto` takes 2 ms to load (measured). */
function randomDigits(): string {
  return Math.floor(Math.random() * 2 ** 48)
    .toString(16)
    .padStart(12, '0');
}

/** A temporary file that becomes `path`, or is gone. Opening, closing and renaming are synchronous: no signal handler runs in the middle. */
export class Draft {
  readonly fd: number;
  readonly #target: string;
  readonly #temporary: string;
  /** Permission bits that it will have. */
  readonly #mode: number;
  #isOpen = true;

  constructor(path: string, existing: fs.Stats | undefined, mode: number) {
    if (existing) fs.accessSync(path, fs.constants.W_OK); // rename would not ask
    else if (fs.lstatSync(path, { throwIfNoEntry: false }))
      throw new OutputFileError(path, 'is a broken symbolic link');
    // A rename replaces a symbolic link itself, so follow it first.
    this.#target = existing ? fs.realpathSync(path) : path;
    // Names are limited to 255 bytes: 60 UTF-16 units are at most 180.
    const tag = `kslide-${process.pid}-${randomDigits()}`;
    this.#temporary = join(dirname(this.#target), `${basename(this.#target).slice(0, 60)}.${tag}.tmp`);
    removeOnExit(this.#temporary); // known to the signal handlers before it is there
    try {
      this.fd = fs.openSync(this.#temporary, 'wx', existing ? 0o600 : mode);
      this.#mode = (existing ?? fs.fstatSync(this.fd)).mode & 0o777;
    } catch (error) {
      keepOnExit(this.#temporary);
      throw error;
    }
  }

  get size(): number {
    return fs.fstatSync(this.fd).size;
  }

  /** Copying gives it the source's permissions. What is written afterwards is for nobody else. */
  async copyFrom(source: string): Promise<void> {
    await copyFile(source, this.#temporary);
    fs.fchmodSync(this.fd, 0o600);
  }

  /** All `size` bytes are written: more than that may be there. */
  complete(size: number): void {
    const found = fs.fstatSync(this.fd);
    if (found.size > size) fs.ftruncateSync(this.fd, size);
    // Some file systems have no permissions, and refuse to be asked.
    if ((found.mode & 0o777) !== this.#mode) fs.fchmodSync(this.fd, this.#mode);
    this.#close(); // some file systems say only here that the disk is full
    fs.renameSync(this.#temporary, this.#target);
    keepOnExit(this.#temporary);
  }

  /** If it is still there. */
  remove(): void {
    this.#close();
    if (!temporaries.has(this.#temporary)) return;
    fs.rmSync(this.#temporary, { force: true });
    keepOnExit(this.#temporary);
  }

  #close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    fs.closeSync(this.fd);
  }
}

const write = promisify(fs.write);

/** From `offset` on, or where the file stands. */
export async function writeFully(fd: number, bytes: Uint8Array, offset?: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const place = offset === undefined ? null : offset + at;
    at += (await write(fd, bytes, at, bytes.length - at, place)).bytesWritten;
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
