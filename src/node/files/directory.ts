/**
 * A directory that is held open, so that a name in it means the same file for as long as it is held.
 *
 * Whoever may write to a parent directory can rename this one and put another in its place between two calls. Node has no openat(2). On Linux a path
 * through /proc/self/fd says the same: the kernel follows the descriptor and looks up only the last name. Where there is no /proc, names are all there is.
 */
import fs from 'node:fs';
import { join } from 'node:path';

/** Of asm-generic/fcntl.h; Node has no name for it. Such a descriptor asks for no permission to list the directory. */
const O_PATH = 0o10000000;

export class Directory {
  readonly path: string;
  readonly fd: number;
  readonly #base: string;
  #isOpen = true;

  /** Throws the error of the system. A last component that is a symbolic link is followed, unless `own` is set. */
  constructor(path: string, { own = false }: { readonly own?: boolean } = {}) {
    this.path = path;
    const flags = fs.constants.O_DIRECTORY | (own ? fs.constants.O_NOFOLLOW : 0);
    this.fd = fs.openSync(path, process.platform === 'linux' ? flags | O_PATH : flags);
    const base = `/proc/self/fd/${this.fd}`;
    this.#base = isSame(base, this.fd) ? base : path;
  }

  /** A path of `name`, which is one component, in this very directory. Valid while it is open. */
  at(name: string): string {
    return join(this.#base, name);
  }

  stat(): fs.Stats {
    return fs.fstatSync(this.fd);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    fs.closeSync(this.fd);
  }
}

/** A path of the open file itself, which no rename changes. Undefined where there is no /proc. */
export function pathOfDescriptor(fd: number): string | undefined {
  const path = `/proc/self/fd/${fd}`;
  return isSame(path, fd) ? path : undefined;
}

function isSame(path: string, fd: number): boolean {
  try {
    const [a, b] = [fs.statSync(path), fs.fstatSync(fd)];
    return a.dev === b.dev && a.ino === b.ino;
  } catch {
    return false;
  }
}
