/** Reads parts of a file, for callers that need only a fraction of a kernel. */
import fs from 'node:fs';
import { memorySource } from '../../relocs/tool/byte-source.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { readInputFile } from './input-file.ts';
import { readFully } from './read-fully.ts';
import type { OpenFile } from './read-fully.ts';
import { FileState } from './steady.ts';

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

/** Undefined for anything but a regular file, and when it cannot be opened. */
export function openRegularFile(path: string): OpenFile | undefined {
  try {
    if (!fs.statSync(path).isFile()) return undefined; // before it is opened: opening a FIFO waits for its writer
    const fd = fs.openSync(path, 'r');
    if (fs.fstatSync(fd).isFile()) {
      const state = new FileState(path, fd);
      return { path, fd, size: state.size, state };
    }
    fs.closeSync(fd);
  } catch {
    // The caller reads the file another way, which says what is wrong.
  }
  return undefined;
}
