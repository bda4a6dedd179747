/** Reads parts of a file, for callers that need only a fraction of a kernel. */
import fs from 'node:fs';
import { memorySource } from '../../relocs/tool/byte-source.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { DiskError, InputFileError, isSystemError, reasonOf } from '../errors.ts';
import { readInputFile } from './input-file.ts';
import { CHANGED, FileState } from './steady.ts';

export interface OpenByteSource extends ByteSource {
  /** To be called after the last `readAt`, before the result is used. Throws DiskError if the file has changed since it was opened. */
  expectUnchanged(): void;
  close(): void;
}

/** `-` is standard input. Anything but a regular file is read whole. Throws InputFileError or DiskError, and so does `readAt`. */
export async function openByteSource(path: string): Promise<OpenByteSource> {
  const opened = path === '-' ? undefined : openRegularFile(path);
  // Also when there is no such file: then this throws.
  if (opened === undefined)
    return { ...memorySource(await readInputFile(path)), expectUnchanged: () => {}, close: () => {} };
  const { fd, size, state } = opened;
  return {
    size,
    readAt(offset, length, scratch) {
      const bytes = scratch !== undefined && scratch.length >= length ? scratch : new Uint8Array(length);
      const wanted = bytes.subarray(0, length);
      readFully(opened, wanted, offset);
      return wanted;
    },
    expectUnchanged: () => state.expectUnchanged(),
    close: () => fs.closeSync(fd),
  };
}

/** The same for `work`, which reads from it. If the file changes meanwhile, that is thrown, and not what `work` made of the mixture. */
export async function withByteSource<T>(path: string, work: (source: ByteSource) => Promise<T>): Promise<T> {
  const source = await openByteSource(path);
  try {
    return await work(source);
  } finally {
    try {
      source.expectUnchanged();
    } finally {
      source.close();
    }
  }
}

export interface OpenFile {
  readonly path: string;
  readonly fd: number;
  readonly size: number;
  /** As it was before the first byte was read. */
  readonly state: FileState;
}

/** Undefined for anything but a regular file, and when it cannot be opened. */
export function openRegularFile(path: string): OpenFile | undefined {
  try {
    if (!fs.statSync(path).isFile()) return undefined; // before it is opened: opening a FIFO waits for its writer
    const fd = fs.openSync(path, 'r');
    const stat = fs.fstatSync(fd);
    if (stat.isFile()) return { path, fd, size: stat.size, state: new FileState(path, fd) };
    fs.closeSync(fd);
  } catch {
    // The caller reads the file another way, which says what is wrong.
  }
  return undefined;
}

/** Fills `bytes` from `offset` on. Throws InputFileError, and DiskError for a file that has become shorter than it was when it was opened. */
export function readFully({ path, fd }: OpenFile, bytes: Uint8Array, offset: number): void {
  for (let at = 0; at < bytes.length;) {
    const count = readSome(path, fd, bytes.subarray(at), offset + at);
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
