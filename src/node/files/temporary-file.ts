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
import { DiskError, isSystemError, outputError, reasonOf } from '../errors.ts';
import type { Directory } from './directory.ts';
import { writeFully } from './write-fully.ts';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = fs.constants;

/** __O_TMPFILE (asm-generic/fcntl.h), which Node has no name for. It goes together with O_DIRECTORY. */
const O_TMPFILE = 0o20000000 | fs.constants.O_DIRECTORY;
/** Errors of a file system that has no O_TMPFILE. */
const NO_TMPFILE = new Set(['EOPNOTSUPP', 'ENOTSUP', 'EISDIR', 'EINVAL']);

/**
 * A file in the directory for temporary files that holds `bytes`. Its position, which a child shares, stays at the start. The caller closes it. Throws
 * DiskError.
 */
export async function openUnnamedFile(bytes: Uint8Array = new Uint8Array()): Promise<FileHandle> {
  const directory = tmpdir();
  let file: FileHandle | undefined;
  try {
    file = await openWithoutName(directory);
    await writeFully(file.fd, bytes, 0);
    return file;
  } catch (error) {
    await file?.close();
    if (!isSystemError(error)) throw error;
    throw new DiskError(directory, `a temporary file: ${reasonOf(error)}`, error);
  }
}

/** Where there is no O_TMPFILE, a SIGKILL between two system calls leaves an empty file. */
async function openWithoutName(directory: string): Promise<FileHandle> {
  try {
    return await open(directory, O_TMPFILE | O_RDWR, 0o600);
  } catch (error) {
    if (!NO_TMPFILE.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
  const path = join(directory, `kslide-${randomBytes(8).toString('hex')}`);
  const file = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  await unlink(path);
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

/** Errors of a file system that lacks room or O_TMPFILE, or is not there: the next directory may do. */
const NOT_HERE = new Set([...NO_TMPFILE, 'ENOSPC', 'EDQUOT', 'ENOENT', 'ENOTDIR', 'EACCES', 'EROFS']);

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
 * A new file in a directory, which its owner can read and nobody else: it tells a slide. The caller removes it. Throws OutputFileError or DiskError.
 *
 * Who may write to the directory can put another file at this name for the program that opens it, but can read nothing of this one.
 */
export function createNamedFile(directory: Directory, name: string, parts: Iterable<Uint8Array>): void {
  const path = join(directory.path, name);
  try {
    const fd = fs.openSync(directory.at(name), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      for (const part of parts) writeAll(fd, part);
      fs.fchmodSync(fd, 0o400);
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    throw isSystemError(error) ? outputError(path, error) : error;
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += fs.writeSync(fd, bytes, at);
}
