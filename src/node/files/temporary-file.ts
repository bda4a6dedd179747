/**
 * Files for another program to read or write, which nothing leaves behind.
 *
 * A file without a name is gone with the last process that has it open. No crash and no SIGKILL leaves it. The other program inherits a descriptor.
 * `openUnnamedFile` gives one that is written and read on disk. `openMemoryFile` gives one in memory, read only. For programs that need a name,
 * `createNamedFile` makes one, and the caller removes it. A file that is to stay, once it is whole, is atomic-file.ts.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DiskError, OutputFileError } from '../errors.ts';

/** A file in the directory for temporary files that holds `bytes`. Its position, which a child shares, stays at the start. The caller closes it. */
export async function openUnnamedFile(bytes: Uint8Array = new Uint8Array()): Promise<FileHandle> {
  const path = join(tmpdir(), `kslide-${randomBytes(8).toString('hex')}`);
  const file = await open(path, 'wx+', 0o600);
  await unlink(path);
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at, bytes.length - at, at)).bytesWritten;
  return file;
}

/** The whole file, wherever its position is after a child has read or written. */
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

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = fs.constants;

/** __O_TMPFILE (asm-generic/fcntl.h), which Node has no name for. It goes together with O_DIRECTORY. */
const O_TMPFILE = 0o20000000 | fs.constants.O_DIRECTORY;
/** Errors of a file system that lacks room or O_TMPFILE, or is not there: the next directory may do. */
const NOT_HERE = new Set([
  'ENOSPC',
  'EDQUOT',
  'ENOENT',
  'ENOTDIR',
  'EACCES',
  'EROFS',
  'EOPNOTSUPP',
  'ENOTSUP',
  'EISDIR',
]);

/**
 * An open descriptor, for reading, at offset 0. Throws DiskError when no directory has room.
 *
 * Node has no memfd_create. O_TMPFILE in a tmpfs does the same: an inode that never has a name. Where /dev/shm is missing or too small (64 MiB in many
 * containers), the file is a nameless one in the directory for temporary files.
 */
export function openMemoryFile(
  parts: Iterable<Uint8Array>,
  directories: readonly string[] = ['/dev/shm', tmpdir()],
): number {
  let failure: unknown;
  for (const directory of directories) {
    try {
      const written = fs.openSync(directory, O_TMPFILE | fs.constants.O_RDWR, 0o600);
      try {
        for (const part of parts) writeAll(written, part);
        // From here on nobody may write to it. A command that gives up its rights may open it again by its own /proc/self/fd. Others cannot: there is no
        // name, and another process's descriptors are its own user's.
        fs.fchmodSync(written, 0o444);
        return fs.openSync(`/proc/self/fd/${written}`, 'r');
      } finally {
        fs.closeSync(written);
      }
    } catch (error) {
      if (!NOT_HERE.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
      failure = error;
    }
  }
  throw new DiskError(directories.join(', '), 'no room for a file in memory', failure);
}

/**
 * A new file of a name that did not exist, which its owner can read and nobody else: it tells a slide. The caller removes it. Throws OutputFileError or
 * DiskError.
 */
export function createNamedFile(path: string, parts: Iterable<Uint8Array>): void {
  let fd: number;
  try {
    fd = fs.openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  } catch (error) {
    throw new OutputFileError(path, 'cannot be made', error);
  }
  try {
    for (const part of parts) writeAll(fd, part);
    fs.fchmodSync(fd, 0o400);
  } catch (error) {
    throw new DiskError(path, (error as NodeJS.ErrnoException).code ?? 'cannot be written', error);
  } finally {
    fs.closeSync(fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += fs.writeSync(fd, bytes, at);
}
