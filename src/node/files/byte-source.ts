/** Reads parts of a file, for callers that need only a fraction of a kernel. */
import fs from 'node:fs';
import { memorySource } from '../../relocs/tool/byte-source.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { InputFileError, isSystemError, reasonOf } from '../errors.ts';
import { readInputFile } from './input-file.ts';

export interface OpenByteSource extends ByteSource {
  close(): void;
}

/** `-` is standard input. Anything but a regular file is read whole. Throws InputFileError, and so does `readAt`. */
export async function openByteSource(path: string): Promise<OpenByteSource> {
  const opened = path === '-' ? undefined : openRegularFile(path);
  // Also when there is no such file: then this throws.
  if (opened === undefined) return { ...memorySource(await readInputFile(path)), close: () => {} };
  const { fd, size } = opened;
  return {
    size,
    readAt(offset, length, scratch) {
      const bytes = scratch !== undefined && scratch.length >= length ? scratch : new Uint8Array(length);
      const wanted = bytes.subarray(0, length);
      readFully(opened, wanted, offset);
      return wanted;
    },
    close: () => fs.closeSync(fd),
  };
}

export interface OpenFile {
  readonly path: string;
  readonly fd: number;
  readonly size: number;
}

/** Undefined for anything but a regular file, and when it cannot be opened. */
export function openRegularFile(path: string): OpenFile | undefined {
  try {
    if (!fs.statSync(path).isFile()) return undefined; // before it is opened: opening a FIFO waits for its writer
    const fd = fs.openSync(path, 'r');
    const stat = fs.fstatSync(fd);
    if (stat.isFile()) return { path, fd, size: stat.size };
    fs.closeSync(fd);
  } catch {
    // The caller reads the file another way, which says what is wrong.
  }
  return undefined;
}

/** Fills `bytes` from `offset` on. Throws InputFileError, also for a file that has become shorter than it was when it was opened. */
export function readFully({ path, fd }: OpenFile, bytes: Uint8Array, offset: number): void {
  for (let at = 0; at < bytes.length;) {
    const count = readSome(path, fd, bytes.subarray(at), offset + at);
    if (count === 0) throw new InputFileError(path, 'became shorter while it was read');
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
