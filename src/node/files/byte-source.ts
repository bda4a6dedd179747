/** Parts of a file, for a kernel of which only a fraction is wanted. */
import fs from 'node:fs';
import { memorySource } from '../../relocs/tool/byte-source.ts';
import type { ByteSource } from '../../relocs/tool/byte-source.ts';
import { InputFileError, readInputFile } from './files.ts';

export interface OpenByteSource extends ByteSource {
  close(): void;
}

/** `-` is standard input. What is no regular file is read whole. Throws InputFileError, and so do reads. */
export async function openByteSource(path: string): Promise<OpenByteSource> {
  const opened = path === '-' ? undefined : openRegular(path);
  // Also when there is nothing of that name: then this says so.
  if (opened === undefined) return { ...memorySource(await readInputFile(path)), close: () => {} };
  const { fd, size } = opened;
  return {
    size,
    readAt(offset, length, scratch) {
      const bytes = scratch !== undefined && scratch.length >= length ? scratch : new Uint8Array(length);
      for (let at = 0; at < length;) {
        const read = readSome(path, fd, bytes.subarray(at, length), offset + at);
        if (read === 0) throw new InputFileError(path, 'became shorter while it was read');
        at += read;
      }
      return bytes.subarray(0, length);
    },
    close: () => fs.closeSync(fd),
  };
}

function openRegular(path: string): { fd: number; size: number } | undefined {
  let fd: number;
  try {
    if (!fs.statSync(path).isFile()) return undefined; // before it is opened: opening a FIFO waits for its writer
    fd = fs.openSync(path, 'r');
  } catch {
    return undefined;
  }
  return { fd, size: fs.fstatSync(fd).size };
}

function readSome(path: string, fd: number, into: Uint8Array, position: number): number {
  try {
    return fs.readSync(fd, into, 0, into.length, position);
  } catch (error) {
    throw new InputFileError(path, 'cannot be read', error);
  }
}
