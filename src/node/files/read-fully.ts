/** Fills whole buffers from places in a regular file. */
import fs from 'node:fs';
import { DiskError, InputFileError, isSystemError, reasonOf } from '../errors.ts';
import { CHANGED } from './steady.ts';
import type { FileState } from './steady.ts';

export interface OpenFile {
  readonly path: string;
  readonly fd: number;
  readonly size: number;
  /** As it was before the first byte was read. */
  readonly state: FileState;
}

/** Node reads at most 2 GiB - 1 at a time. */
const AT_ONCE = 2 ** 30;

/** Fills `bytes` from `offset` on. Throws InputFileError, and DiskError for a file that has become shorter than it was when it was opened. */
export function readFully({ path, fd }: OpenFile, bytes: Uint8Array, offset: number): void {
  for (let at = 0; at < bytes.length;) {
    const count = readSome(path, fd, bytes.subarray(at, at + AT_ONCE), offset + at);
    if (count === 0) throw new DiskError(path, CHANGED);
    at += count;
  }
}

function readSome(path: string, fd: number, into: Uint8Array, position: number): number {
  try {
    return fs.readSync(fd, into, 0, into.length, position);
  } catch (error) {
    throw isSystemError(error) ? new InputFileError(path, reasonOf(error), error) : error;
  }
}
