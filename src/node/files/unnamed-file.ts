/**
 * A file that has no name: a child gets it as a descriptor, and nothing is left behind, however we end. The position that is shared with
 * the child stays at the start.
 */
import { randomBytes } from 'node:crypto';
import { open, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The caller closes it. */
export async function unnamedFile(bytes: Uint8Array = new Uint8Array()): Promise<FileHandle> {
  const path = join(tmpdir(), `kslide-${randomBytes(8).toString('hex')}`);
  const file = await open(path, 'wx+', 0o600);
  await unlink(path);
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at, bytes.length - at, at)).bytesWritten;
  return file;
}

/** All of it, whatever a child has read or written. */
export async function readUnnamedFile(file: FileHandle): Promise<Uint8Array> {
  const bytes = new Uint8Array((await file.stat()).size);
  let at = 0;
  while (at < bytes.length) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes.subarray(0, at);
}
