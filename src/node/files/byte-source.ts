/** Reads parts of a file, for callers that need only a fraction of a kernel. */
import fs from 'node:fs';
import { memorySource } from '../../relocs/tool/byte-source.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { readInputFile } from './input-file.ts';
import { readFully } from './read-fully.ts';
import type { OpenFile } from './read-fully.ts';

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
