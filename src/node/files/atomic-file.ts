/**
 * A file that appears under its name whole or not at all. It is written as a temporary file beside its target. `complete` renames that over the target;
 * otherwise it is removed, however the process ends. What a SIGKILL leaves, the next run in that directory removes (leftovers.ts).
 *
 * Until it is complete only its owner can open it, and what is written goes through the one descriptor that created it, never by its name: in a directory
 * of another user's a name may mean another file a moment later. The one exception proves the rule. The system's copy takes over the permissions of its
 * source, so such a file lies in a directory of mode 0700 meanwhile, where its permissions let nobody in; and the copy's target is the descriptor.
 */
import fs from 'node:fs';
import process from 'node:process';
import { OutputFileError } from '../errors.ts';
import { onProcessEnd } from '../signals.ts';
import { Directory, pathOfDescriptor } from './directory.ts';
import { newTemporaryName, PRIVATE_NAME } from './leftovers.ts';
import type { NamedTarget } from './target.ts';

export interface AtomicFileOptions {
  /** Permission bits of a new file, less the umask. An existing file keeps its own, and its owner. */
  readonly mode: number;
  /** The file tells a secret: no permissions for anybody but its owner, also if the existing file had them. */
  readonly secret?: boolean | undefined;
  /** `copyFrom` will be called. */
  readonly forCopy?: boolean | undefined;
}

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = fs.constants;
const OWNER = 0o600;

/** Opening, closing and renaming are synchronous, so that no signal handler runs in the middle. */
export class AtomicFile {
  readonly fd: number;
  readonly #target: NamedTarget;
  /** Where the temporary file lies, and its name there. */
  readonly #folder: Directory;
  readonly #name: string;
  /** The folder's own name, if it was made for this file. */
  readonly #folderName: string | undefined;
  /** Permission bits of the complete file. */
  readonly #mode: number;
  #isOpen = true;
  #isTemporary = true;
  readonly #keep: () => void;

  /** Takes over `target`, and closes its directory. */
  constructor(target: NamedTarget, path: string, { mode, secret = false, forCopy = false }: AtomicFileOptions) {
    const { directory, name, existing } = target;
    this.#target = target;
    this.#folder = directory;
    const temporary = newTemporaryName(name);
    this.#folderName = forCopy ? temporary : undefined;
    this.#name = forCopy ? PRIVATE_NAME : temporary;
    this.#keep = onProcessEnd(() => this.#unlink()); // before the file exists
    try {
      if (existing) fs.accessSync(directory.at(name), fs.constants.W_OK); // rename would not ask
      if (forCopy) {
        fs.mkdirSync(directory.at(temporary), 0o700);
        this.#folder = new Directory(directory.at(temporary), { own: true });
        const { uid, mode: found } = this.#folder.stat();
        if (uid !== process.geteuid?.() || (found & 0o077) !== 0)
          throw new OutputFileError(path, 'its directory changes while it is written to');
      }
      this.fd = fs.openSync(this.#folder.at(this.#name), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, OWNER);
      const wanted = existing === undefined ? mode & ~currentUmask() : existing.mode & 0o777;
      this.#mode = secret ? wanted & OWNER : wanted;
    } catch (error) {
      this.#isOpen = false;
      this.remove();
      throw error;
    }
  }

  get size(): number {
    return fs.fstatSync(this.fd).size;
  }

  /** Fills the file with a copy of `source`, which may widen its permissions until `complete`. Rejects where a descriptor has no path. */
  async copyFrom(source: string): Promise<void> {
    const itself = pathOfDescriptor(this.fd);
    if (this.#folderName === undefined || itself === undefined) throw new Error('there can be no copy here');
    await new Promise<void>((resolve, reject) => {
      fs.copyFile(source, itself, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Gives the file its name. Its `size` bytes must have been written; bytes after those are cut off. */
  complete(size: number): void {
    const found = fs.fstatSync(this.fd);
    if (found.size > size) fs.ftruncateSync(this.fd, size);
    const mode = this.#keepOwner(found);
    // Some file systems have no permissions, and refuse a request to change them.
    if ((found.mode & 0o7777) !== mode) fs.fchmodSync(this.fd, mode);
    this.#close(); // some file systems report only here that the disk is full
    fs.renameSync(this.#folder.at(this.#name), this.#target.directory.at(this.#target.name));
    this.remove();
  }

  /** Removes the file, unless it is complete. */
  remove(): void {
    this.#close();
    if (!this.#isTemporary) return;
    this.#unlink();
    this.#isTemporary = false;
    this.#keep();
    if (this.#folderName !== undefined) this.#folder.close();
    this.#target.directory.close();
  }

  /** May be called more than once. After the rename there is nothing to remove but the folder. */
  #unlink(): void {
    if (!this.#isTemporary) return;
    const { directory } = this.#target;
    if (this.#folder !== directory || this.#folderName === undefined)
      quietly(() => fs.unlinkSync(this.#folder.at(this.#name)));
    if (this.#folderName !== undefined) quietly(() => fs.rmdirSync(directory.at(this.#folderName!)));
  }

  /**
   * Gives the file the owner and group of the one that it replaces. Only root can give files away; anybody else's file becomes their own, as with any
   * editor that saves by renaming. Gives the permission bits: those of a group that could not be kept are not another group's.
   */
  #keepOwner(found: fs.Stats): number {
    const { existing } = this.#target;
    if (existing === undefined) return this.#mode;
    const { uid, gid } = existing;
    if (uid === found.uid && gid === found.gid) return this.#mode;
    const isKept =
      quietly(() => fs.fchownSync(this.fd, uid, gid)) || quietly(() => fs.fchownSync(this.fd, found.uid, gid));
    return isKept ? this.#mode : this.#mode & ~0o070;
  }

  #close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    fs.closeSync(this.fd);
  }
}

/** For what may be refused: a name that is gone already, an owner that only root may give. */
function quietly(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}

/** From /proc where there is one: Node reads the umask by setting it to 0 for an instant, in which another thread may create a file. */
function currentUmask(): number {
  try {
    const [, digits] = /^Umask:\s*([0-7]+)$/m.exec(fs.readFileSync('/proc/self/status', 'latin1')) ?? [];
    if (digits !== undefined) return Number.parseInt(digits, 8);
  } catch {
    // Asked below.
  }
  return process.umask();
}
