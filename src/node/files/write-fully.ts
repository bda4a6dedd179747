/** Writes whole buffers to descriptors of any kind. */
import fs from 'node:fs';
import { promisify } from 'node:util';

const write = promisify(fs.write);

/**
 * Writes all of `bytes` from `offset` on, or at the file's own position. A descriptor that another process has made non-blocking is waited for: a pipe that
 * is full, tried again each millisecond, still takes 64 MB a second.
 */
export async function writeFully(fd: number, bytes: Uint8Array, offset?: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const place = offset === undefined ? null : offset + at;
    try {
      at += (await write(fd, bytes, at, bytes.length - at, place)).bytesWritten;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      await new Promise((done) => setTimeout(done, 1));
    }
  }
}
