/**
 * A file that appears under its name whole or not at all. It is written as a temporary file beside its target. `complete` renames that over the target;
 * otherwise it is removed, however the process ends (except by SIGKILL).
 */
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { OutputFileError } from '../errors.ts';
import { onProcessEnd } from '../signals.ts';

const copyFile = promisify(fs.copyFile);

/** Math.random is good enough: a name that is taken is not opened. Node's `crypto` takes 2 ms to load (measured). */
function randomDigits(): string {
  return Math.floor(Math.random() * 2 ** 48)
    .toString(16)
    .padStart(12, '0');
}

/** Opening, closing and renaming are synchronous, so that no signal handler runs in the middle. */
export class AtomicFile {
  readonly fd: number;
  readonly #target: string;
  readonly #temporary: string;
  /** Permission bits of the complete file. */
  readonly #mode: number;
  #isOpen = true;
  #isTemporary = true;
  readonly #keep: () => void;

  /** `existing` is what stands at `path`, if anything does. `mode` is for a new file, less the umask. */
  constructor(path: string, existing: fs.Stats | undefined, mode: number) {
    if (existing) fs.accessSync(path, fs.constants.W_OK); // rename would not ask
    else if (fs.lstatSync(path, { throwIfNoEntry: false }))
      throw new OutputFileError(path, 'is a broken symbolic link');
    // A rename replaces a symbolic link itself, so follow it first.
    this.#target = existing ? fs.realpathSync(path) : path;
    // Names are limited to 255 bytes: 60 UTF-16 units are at most 180.
    const tag = `kslide-${process.pid}-${randomDigits()}`;
    const temporary = join(dirname(this.#target), `${basename(this.#target).slice(0, 60)}.${tag}.tmp`);
    this.#temporary = temporary;
    this.#keep = onProcessEnd(() => fs.rmSync(temporary, { force: true })); // before the file exists
    try {
      this.fd = fs.openSync(temporary, 'wx', existing ? 0o600 : mode);
      this.#mode = (existing ?? fs.fstatSync(this.fd)).mode & 0o777;
    } catch (error) {
      this.#keep();
      throw error;
    }
  }

  get size(): number {
    return fs.fstatSync(this.fd).size;
  }

  /** Fills the file with a copy of `source`. Copying takes over the source's permissions, so they are narrowed again. */
  async copyFrom(source: string): Promise<void> {
    await copyFile(source, this.#temporary);
    fs.fchmodSync(this.fd, 0o600);
  }

  /** Gives the file its name. Its `size` bytes must have been written; bytes after those are cut off. */
  complete(size: number): void {
    const found = fs.fstatSync(this.fd);
    if (found.size > size) fs.ftruncateSync(this.fd, size);
    // Some file systems have no permissions, and refuse a request to change them.
    if ((found.mode & 0o777) !== this.#mode) fs.fchmodSync(this.fd, this.#mode);
    this.#close(); // some file systems report only here that the disk is full
    fs.renameSync(this.#temporary, this.#target);
    this.#isTemporary = false;
    this.#keep();
  }

  /** Removes the file, unless it is complete. */
  remove(): void {
    this.#close();
    if (!this.#isTemporary) return;
    fs.rmSync(this.#temporary, { force: true });
    this.#isTemporary = false;
    this.#keep();
  }

  #close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    fs.closeSync(this.fd);
  }
}

const write = promisify(fs.write);

/** Writes all of `bytes` from `offset` on, or at the file's own position. */
export async function writeFully(fd: number, bytes: Uint8Array, offset?: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const place = offset === undefined ? null : offset + at;
    at += (await write(fd, bytes, at, bytes.length - at, place)).bytesWritten;
  }
}
