/**
 * A file that changes while it is read is neither the old one nor the new one. What is read more than once, or in pieces, or by two threads, would be a
 * mixture: sites of one build applied to another, without a word. So the state of the open descriptor is compared before the first and after the last
 * read (fstat: 0.2 ms for the first of a process, then 4 to 30 µs, measured), before a result leaves the process under its name.
 *
 * Size, mtime and ctime together: a program can set mtime back, but not ctime. Two writes within one tick of the kernel's clock (1 to 10 ms, until Linux 6.13)
 * have the same times, so a change so soon after the last one may go unseen.
 */
import fs from 'node:fs';
import { DiskError } from '../errors.ts';

export const CHANGED = 'changed while it was read';

export class FileState {
  readonly #name: string;
  readonly #fd: number;
  readonly #before: fs.BigIntStats;

  /** `name`: for the message. Make it before the first read. */
  constructor(name: string, fd: number) {
    this.#name = name;
    this.#fd = fd;
    this.#before = fs.fstatSync(fd, { bigint: true });
  }

  /** In bytes, before the first read. */
  get size(): number {
    return Number(this.#before.size);
  }

  /** Throws DiskError if the file is another one than it was. The descriptor must still be open. */
  expectUnchanged(): void {
    const { size, mtimeNs, ctimeNs } = fs.fstatSync(this.#fd, { bigint: true });
    const before = this.#before;
    if (size === before.size && mtimeNs === before.mtimeNs && ctimeNs === before.ctimeNs) return;
    throw new DiskError(this.#name, CHANGED);
  }
}
