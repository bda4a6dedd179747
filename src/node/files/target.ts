/**
 * What an output path stands for: a name in a directory, where a rename may put a file; or something that is open or special already, which is written
 * through.
 *
 * Symbolic links are followed here and not by the system, for two reasons. `/dev/stdout` leads through links to /proc/self/fd/1 and from there to the file
 * of a redirection, which belongs to the shell: renaming over it would take it from the others that write to it. And a link may be another user's bait: a
 * process of root's that writes to a directory of that user's must not be sent to a file of their choice. The rule is that of fs.protected_symlinks for
 * /tmp, in every directory: a link is followed if it is root's or our own. In directories like /tmp another user's file is not replaced either.
 */
import fs from 'node:fs';
import { basename, dirname, isAbsolute } from 'node:path';
import process from 'node:process';
import { OutputFileError } from '../errors.ts';
import { Directory } from './directory.ts';

/** A descriptor of this process. */
export interface OpenTarget {
  readonly fd: number;
}

export interface NamedTarget {
  /** Held open; whoever asked closes it. */
  readonly directory: Directory;
  readonly name: string;
  /** What has this name, if anything does; never a symbolic link. */
  readonly existing: fs.Stats | undefined;
  /** It is a descriptor of another process: the only name that is followed, and never renamed over. */
  readonly isDescriptor?: true;
}

export const STDOUT = 1;
/** As in the kernel (MAXSYMLINKS). */
const MOST_LINKS = 40;

/** Throws OutputFileError or the system's error. `-` is standard output. */
export function resolveTarget(path: string): OpenTarget | NamedTarget {
  if (path === '-') return { fd: STDOUT };
  let at = path;
  for (let links = 0; links <= MOST_LINKS; links++) {
    // "dir/" and "dir/." have no last name of their own.
    if (/(^|\/)\.{0,2}$/.test(at)) {
      if (!fs.statSync(at).isDirectory()) break;
      throw new OutputFileError(path, 'is a directory');
    }
    const directory = new Directory(dirname(at));
    try {
      const existing = fs.lstatSync(directory.at(basename(at)), { throwIfNoEntry: false });
      const descriptor = existing === undefined ? undefined : descriptorAt(dirname(at), basename(at));
      if (descriptor === 'foreign')
        return { directory, name: basename(at), existing: fs.statSync(at), isDescriptor: true };
      if (descriptor !== undefined) {
        directory.close();
        return descriptor;
      }
      if (existing === undefined && links > 0) throw new OutputFileError(path, 'is a broken symbolic link');
      if (existing?.isDirectory()) throw new OutputFileError(path, 'is a directory');
      if (!existing?.isSymbolicLink()) {
        if (existing !== undefined && isBait(existing, directory.stat()))
          throw new OutputFileError(path, "is another user's, in a directory that all may write to");
        return { directory, name: basename(at), existing };
      }
      if (!isTrusted(existing)) throw new OutputFileError(path, "is a symbolic link that is another user's");
      if (isOfProcess(dirname(at)))
        throw new OutputFileError(path, 'is a link of /proc, which is not a path to write to');
      const to = fs.readlinkSync(directory.at(basename(at)));
      // Not joined: `..` after a link to a directory must stay as it is.
      at = isAbsolute(to) ? to : `${dirname(at)}/${to}`;
    } catch (error) {
      directory.close();
      throw error;
    }
    directory.close();
  }
  throw new OutputFileError(path, 'leads through too many symbolic links');
}

/** Whether `path` names this process's standard output, as `-` and /dev/stdout do. */
export function isStandardOutput(path: string | undefined): boolean {
  if (path === undefined || path === '-') return path === '-';
  // Quick, because every command asks: no other directory leads there in practice.
  if (!path.includes('/') || !/std|fd/.test(path)) return false;
  try {
    const target = resolveTarget(path);
    if ('fd' in target) return target.fd === STDOUT;
    target.directory.close();
  } catch {
    // Writing says what is wrong.
  }
  return false;
}

/**
 * Whether two outputs would be one file: by links, by another way to write the path, or as standard output. Devices and the like take any number of outputs.
 * False where either cannot be written to: writing says why.
 */
export function isSameOutput(a: string, b: string): boolean {
  if (a === b) return !isDevice(identify(a));
  const [first, second] = [identify(a), identify(b)];
  return first !== undefined && second !== undefined && !isDevice(first) && first.key === second.key;
}

interface Identity {
  readonly key: string;
  readonly stat: fs.Stats | undefined;
}

/** A file that exists by its inode, one that does not by its directory and name. */
function identify(path: string): Identity | undefined {
  try {
    const target = resolveTarget(path);
    if ('fd' in target) return byInode(fs.fstatSync(target.fd));
    const { directory, name, existing } = target;
    try {
      if (existing !== undefined) return byInode(existing);
      const { dev, ino } = directory.stat();
      return { key: `${dev} ${ino} ${name}`, stat: undefined };
    } finally {
      directory.close();
    }
  } catch {
    return undefined;
  }
}

function byInode(stat: fs.Stats): Identity {
  return { key: `${stat.dev} ${stat.ino}`, stat };
}

function isDevice(found: Identity | undefined): boolean {
  return found?.stat?.isCharacterDevice() === true;
}

function isTrusted({ uid }: fs.Stats): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

/**
 * Whether somebody may have put `file` there for us to write to: it would keep its owner, and a FIFO's reader gets everything. The rule is that of
 * fs.protected_regular and fs.protected_fifos.
 */
function isBait(file: fs.Stats, directory: fs.Stats): boolean {
  const isShared = (directory.mode & 0o1002) === 0o1002;
  return isShared && !isTrusted(file) && file.uid !== directory.uid;
}

/**
 * Links there (exe, map_files/*) do not lead where their text says: that is the path in the other process's view of the file system, and here it may be another
 * file. /proc/self/exe is the interpreter that runs us.
 */
function isOfProcess(directory: string): boolean {
  return /^\/proc\/\d+(?:\/|$)/.test(fs.realpathSync(directory));
}

/** What `name` in `directory` is if it is a descriptor: one of ours, or another process's; undefined for all other names. */
function descriptorAt(directory: string, name: string): OpenTarget | 'foreign' | undefined {
  if (!/^\d{1,9}$/.test(name)) return undefined;
  const real = fs.realpathSync(directory);
  const [, pid] = /^\/proc\/(\d+)(?:\/task\/\d+)?\/fd$/.exec(real) ?? [];
  if (pid === undefined) return undefined;
  return Number(pid) === process.pid ? { fd: Number(name) } : 'foreign';
}
