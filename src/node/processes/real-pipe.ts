/**
 * A pipe as a shell makes it, for the output of QEMU.
 *
 * Node gives a child a socket as standard output, which holds some 270 messages. A guest's console arrives byte by byte, each byte a message. While the
 * socket is full QEMU holds a byte back, but the guest's serial driver waits only 10 ms, and then overwrites a byte that was not sent yet. On a busy host,
 * where this process reads late, panics lost a few characters that way (4 of 36 boots on two CPUs at a load of 7). A pipe holds 64 KiB, in writes of any
 * size.
 *
 * Node has no pipe(2). A FIFO that is opened from both sides and then loses its name is the same.
 */
import { execFile } from 'node:child_process';
import { constants, openSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface RealPipe {
  /** Closes when the last writer has closed its end. */
  readonly reader: Socket;
  /** A descriptor for a child to inherit. The caller closes it once the child has started. */
  readonly writer: number;
}

/** Undefined where there is no mkfifo(1), a program of coreutils. */
export async function makePipe(): Promise<RealPipe | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'kslide-pipe-'));
  try {
    const path = join(folder, 'fifo');
    try {
      await promisify(execFile)('mkfifo', ['-m', '600', path]);
    } catch {
      return undefined;
    }
    // While there is no writer, only a non-blocking open of the reading end returns. Now that there is a reader, a blocking open of the other end returns.
    const reader = new Socket({ fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), writable: false });
    return { reader, writer: openSync(path, constants.O_WRONLY) };
  } finally {
    await rm(folder, { recursive: true });
  }
}
