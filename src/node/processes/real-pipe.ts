/**
 * A pipe as the shell makes them, for the output of QEMU.
 *
 * What Node gives a child as standard output is a socket, and one of some 270 messages: a guest's console comes byte by byte, each a message. QEMU
 * holds a byte back while the socket is full, but the guest's serial driver waits 10 ms and then sends the next regardless, over one that was not sent yet. On a
 * busy host, where we are late to read, panics lost a few characters that way (4 of 36 boots on two CPUs at a load of 7). A pipe holds 64 KiB, whatever the writes are.
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
  /** Closes when the last writer has. */
  readonly reader: Socket;
  /** A descriptor for a child to inherit; the caller closes it then. */
  readonly writer: number;
}

/** Undefined where there is no mkfifo(1), which coreutils has. */
export async function makePipe(): Promise<RealPipe | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'kslide-pipe-'));
  try {
    const path = join(folder, 'fifo');
    try {
      await promisify(execFile)('mkfifo', ['-m', '600', path]);
    } catch {
      return undefined;
    }
    // Without a writer yet, only an open that does not wait comes back; with a reader, one that waits does.
    const reader = new Socket({ fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), writable: false });
    return { reader, writer: openSync(path, constants.O_WRONLY) };
  } finally {
    await rm(folder, { recursive: true });
  }
}
