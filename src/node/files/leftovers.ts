/**
 * Temporary files that a SIGKILL or a power cut has left, and how the next run in their directory knows them.
 *
 * A file without a name (O_TMPFILE) would leave nothing, but could not get its name later: linkat(2) with AT_EMPTY_PATH or AT_SYMLINK_FOLLOW is out of
 * reach in Node, and link(2) does not follow /proc/self/fd/N (EXDEV, measured). So a temporary file says in its name who writes it: the process, when that
 * was started, and on which machine, since which boot and in which namespace of processes. On the same machine it is removed when the process is gone; from
 * another one (a directory shared by containers or by NFS) when it has not been written to for a day. Only our own user's files are touched.
 *
 * At most MOST_NAMES names of a directory are read, so that a directory of any size costs little: 0.3 ms for an empty one, 3 to 6 ms for
 * 1,000 names, while the kernel is being read; without the bound 20,000 names took 30 ms (measured on a busy machine). A leftover that lies further on stays.
 */
import fs from 'node:fs';
import { opendir } from 'node:fs/promises';
import process from 'node:process';
import { Directory } from './directory.ts';

/** The only name in a temporary directory. */
export const PRIVATE_NAME = 'kslide.tmp';

const PATTERN = /\.kslide-(\d{1,10})-(\d{1,20})-([0-9a-f]{8})-[0-9a-f]{12}\.tmp$/;
const DAY_MS = 86_400_000;
const MOST_NAMES = 4096;
/** The machine where there is no /proc. Nothing is known of its processes. */
const UNKNOWN = '00000000';

/** A name of at most 255 bytes: 60 UTF-16 units of the target's are at most 180. */
export function newTemporaryName(target: string): string {
  return `${target.slice(0, 60)}.kslide-${process.pid}-${ownStart()}-${machine()}-${randomDigits()}.tmp`;
}

/** Removes temporary files in `path` whose process is gone. Never rejects: leftovers are no reason to fail. */
export async function removeLeftovers(path: string): Promise<void> {
  try {
    const ours = `.kslide-${process.pid}-${ownStart()}-${machine()}-`;
    const others: string[] = [];
    let names = 0;
    for await (const { name } of await opendir(path, { bufferSize: 1024 })) {
      if (PATTERN.test(name) && !name.includes(ours)) others.push(name);
      if (++names === MOST_NAMES) break;
    }
    if (others.length === 0) return;
    const directory = new Directory(path);
    try {
      for (const name of others) removeIfLeft(directory, name);
    } finally {
      directory.close();
    }
  } catch {
    // A directory that cannot be listed can still be written to.
  }
}

function removeIfLeft(directory: Directory, name: string): void {
  try {
    const found = fs.lstatSync(directory.at(name));
    if (found.uid !== process.geteuid?.()) return;
    const [, pid, start, of] = PATTERN.exec(name)!;
    const isOurs = of === machine() && of !== UNKNOWN;
    const isLeft = isOurs ? startOf(Number(pid)) !== start : Date.now() - found.mtimeMs > DAY_MS;
    if (!isLeft) return;
    if (found.isFile()) fs.unlinkSync(directory.at(name));
    if (found.isDirectory()) removeFolder(directory, name);
  } catch {
    // Somebody else was faster.
  }
}

function removeFolder(directory: Directory, name: string): void {
  const folder = new Directory(directory.at(name), { own: true });
  try {
    if (folder.stat().uid !== process.geteuid?.()) return;
    fs.rmSync(folder.at(PRIVATE_NAME), { force: true });
  } finally {
    folder.close();
  }
  fs.rmdirSync(directory.at(name));
}

/** When a process began, in ticks since boot; undefined if it is gone or dead, or there is no /proc. */
function startOf(pid: number): string | undefined {
  try {
    // pid (command) state ppid …: the command may hold anything, the last parenthesis ends it. The 22nd field is the start.
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

let start: string | undefined;

function ownStart(): string {
  return (start ??= startOf(process.pid) ?? '0');
}

let known: string | undefined;

/** Stands for this boot of this machine and this namespace of processes: only here does a process number mean anything. */
function machine(): string {
  if (known !== undefined) return known;
  let hash = 0x811c_9dc5; // FNV-1a
  try {
    const name = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'latin1') + fs.readlinkSync('/proc/self/ns/pid');
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x0100_0193);
    known = (hash >>> 0).toString(16).padStart(8, '0');
  } catch {
    known = UNKNOWN;
  }
  return known;
}

/** Math.random is good enough: a name that is taken is not opened. Node's `crypto` takes 2 ms to load (measured). */
function randomDigits(): string {
  return Math.floor(Math.random() * 2 ** 48)
    .toString(16)
    .padStart(12, '0');
}
