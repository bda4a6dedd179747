/**
 * A file in memory for another program to read, that is gone with the last process that has it open: no crash and no SIGKILL leaves it behind.
 *
 * Node has no memfd_create. O_TMPFILE in a tmpfs is the same thing: an inode without a name from its first moment on. Where /dev/shm is
 * missing or too small (64 MiB in many containers) it is a file without a name in the directory for temporary files.
 */
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { DiskError, OutputFileError } from './files.ts';

/** __O_TMPFILE (asm-generic/fcntl.h), which Node has no name for; it goes together with O_DIRECTORY. */
const O_TMPFILE = 0o20000000 | fs.constants.O_DIRECTORY;
/** What a file system says that does not have room, or O_TMPFILE, or is not there. */
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

/** An open descriptor, for reading, at offset 0. Throws DiskError when no place has room. */
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
        // Nobody may write to it any more; and the file mode does not matter to who opens it once more by /proc/self/fd.
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

/** A new file with a name that nobody had; the caller sees to it that it goes away. */
export function createNamedFile(path: string, parts: Iterable<Uint8Array>): void {
  let fd: number;
  try {
    fd = fs.openSync(path, 'wx', 0o444);
  } catch (error) {
    throw new OutputFileError(path, 'cannot be made', error);
  }
  try {
    for (const part of parts) writeAll(fd, part);
  } catch (error) {
    throw new DiskError(path, (error as NodeJS.ErrnoException).code ?? 'cannot be written', error);
  } finally {
    fs.closeSync(fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += fs.writeSync(fd, bytes, at);
}
