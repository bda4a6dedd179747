/**
 * Runs a command with a kernel image that exists for it alone, as if the caller had started the command directly: standard streams, other inherited
 * descriptors, signals and the exit code pass through.
 *
 * The image has no name. The command inherits a descriptor, and `/proc/self/fd/N` stands for the path. The memory is free once the last process that has
 * it open is gone, however that process ends. The image can have a name instead, for commands that close their descriptors or have another process open
 * the file. Then this process removes it. If this process is killed, a shell does so: it waits until this process's end of a pipe closes.
 *
 * The command does not outlive this process. Where there is setpriv(1), of util-linux, the kernel sends the command a SIGKILL when this process dies,
 * of a SIGKILL too.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess, StdioOptions } from 'node:child_process';
import fs from 'node:fs';
import { constants } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { EnvironmentError, isSystemError, outputError } from '../errors.ts';
import { Directory } from '../files/directory.ts';
import { newTemporaryName, removeLeftovers } from '../files/leftovers.ts';
import { createNamedFile, openMemoryFile } from '../files/temporary-file.ts';
import { forwardSignals } from '../signals.ts';

export interface LaunchOptions {
  /** Program and arguments. PLACEHOLDER in an argument becomes the image's path. The environment variable PATH_VARIABLE holds it too. */
  readonly command: readonly string[];
  /** A directory in which the image gets a name. */
  readonly directory?: string | undefined;
}

export const PLACEHOLDER = '{}';
export const PATH_VARIABLE = 'KSLIDE_IMAGE';

/** How the command ended: by an exit code or by a signal. */
export type LaunchEnd = { readonly code: number } | { readonly signal: NodeJS.Signals };

/** The image's parts, or a function that makes them. What a function makes is no longer held in memory when the command starts. */
export type ImageMaker = Iterable<Uint8Array> | (() => Promise<ImageParts>);

export interface ImageParts extends Iterable<Uint8Array> {
  readonly close?: () => void;
}

/** Throws EnvironmentError when there is no such program, DiskError or OutputFileError when the image cannot be stored. */
export async function launch(make: ImageMaker, { command, directory }: LaunchOptions): Promise<LaunchEnd> {
  const [program = '', ...args] = command;
  const executable = findProgram(program);
  if (executable === undefined)
    throw new EnvironmentError({ problem: 'missing-program', what: `${program}: no such program` });
  const inherited = inheritedDescriptors();
  if (directory !== undefined) {
    const folder = openFolder(directory);
    const name = newTemporaryName('kslide-image');
    const path = join(folder.path, name);
    const guard = guardFile(path);
    try {
      await removeLeftovers(folder.path); // of runs whose shell was killed with them
      await storeNamed(folder, name, make);
      collectGarbage();
      return await run(executable, args, path, passOn(inherited));
    } finally {
      fs.rmSync(folder.at(name), { force: true });
      folder.close();
      guard.stdin?.destroy(); // ends the shell
    }
  }
  const image = await store(make);
  collectGarbage();
  try {
    const number = 1 + Math.max(2, ...inherited);
    return await run(executable, args, `/proc/self/fd/${number}`, passOn(inherited, [number, image]));
  } finally {
    fs.closeSync(image);
  }
}

/** The command's descriptors: standard streams, those that this process inherited, and `added`, a number and the descriptor to pass on as that. */
function passOn(inherited: readonly number[], added?: readonly [number, number]): StdioOptions {
  const same = inherited.map((fd): [number, number] => [fd, fd]);
  const pairs = new Map<number, number>(added === undefined ? same : [...same, added]);
  const length = 1 + Math.max(2, ...pairs.keys());
  // Node opens nothing for an "ignore" above 2.
  return Array.from({ length }, (_, fd) => pairs.get(fd) ?? (fd < 3 ? 'inherit' : 'ignore'));
}

async function run(program: string, args: readonly string[], path: string, stdio: StdioOptions): Promise<LaunchEnd> {
  const words = [program, ...args.map((word) => word.replaceAll(PLACEHOLDER, path))];
  const setpriv = findProgram('setpriv');
  if (setpriv !== undefined) words.unshift(setpriv, '--pdeathsig', 'KILL', '--');
  const [first = '', ...rest] = words;
  // Before the child starts, so that no signal is lost. Handlers run only when this function waits, and then there is a child.
  let child: ChildProcess | undefined;
  const stop = forwardSignals((signal) => child?.kill(signal));
  try {
    const started = spawn(first, rest, { stdio, env: { ...process.env, [PATH_VARIABLE]: path } });
    child = started;
    return await new Promise<LaunchEnd>((done, failed) => {
      started.once('error', failed);
      started.once('exit', (code, signal) => done(signal === null ? { code: code ?? 0 } : { signal }));
    });
  } finally {
    stop();
  }
}

/** Ends this process as the command ended. No listener for signals is left by then, so that the parent sees the same signal. */
export async function endLike(end: LaunchEnd): Promise<number> {
  if ('code' in end) return end.code;
  process.kill(process.pid, end.signal);
  // The signal is on its way. If it does not end this process, because the parent has it ignored, follow the shell's convention.
  await new Promise((done) => setTimeout(done, 200));
  return 128 + constants.signals[end.signal];
}

/** A shell that removes `path` when this process is gone, however it ended. It has a session of its own, out of reach of the terminal's signals. */
function guardFile(path: string): ChildProcess {
  const script = 'while read -r line; do :; done; rm -f -- "$1"';
  const guard = spawn('/bin/sh', ['-c', script, 'sh', path], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  guard.on('error', () => {}); // no /bin/sh: then a SIGKILL leaves the file behind
  guard.unref();
  return guard;
}

// Functions of their own, because a function that waits for the command to end keeps all its values alive meanwhile.
async function store(make: ImageMaker): Promise<number> {
  return use(make, openMemoryFile);
}

async function storeNamed(folder: Directory, name: string, make: ImageMaker): Promise<void> {
  return use(make, (image) => createNamedFile(folder, name, image));
}

function openFolder(path: string): Directory {
  try {
    // resolve('') is the current directory, which nobody meant by "$UNSET".
    return new Directory(path === '' ? path : resolve(path));
  } catch (error) {
    throw isSystemError(error) ? outputError(path, error) : error;
  }
}

async function use<T>(make: ImageMaker, put: (image: Iterable<Uint8Array>) => T): Promise<T> {
  const image: ImageParts = typeof make === 'function' ? await make() : make;
  try {
    return put(image);
  } finally {
    image.close?.();
  }
}

/** Frees the kernel, some 60 MB, before the command runs: this process is idle from then on, and would never collect it. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect === 'function') collect();
}

/** Looks in PATH, unless `name` is a path itself. */
function findProgram(name: string): string | undefined {
  const candidates = name.includes('/')
    ? [name]
    : (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder === '' ? '.' : folder, name));
  return candidates.find((path) => {
    try {
      fs.accessSync(path, fs.constants.X_OK);
      return name !== '' && fs.statSync(path).isFile();
    } catch {
      return false;
    }
  });
}

/**
 * The descriptors that this process was started with, besides standard streams: tap devices, sockets and the like that the command knows by number. Node
 * marks them to be closed on exec, so each has to be passed on explicitly. Node's own descriptors must not be: event descriptors, and pipes of which this
 * process has both ends.
 */
function inheritedDescriptors(): number[] {
  const found = fs.readdirSync('/proc/self/fd').map((name) => ({ fd: Number(name), target: targetOf(name) }));
  const others = found.filter(({ fd, target }) => fd > 2 && target !== undefined && !NODES_OWN.test(target));
  const isInternalPipe = (target: string): boolean =>
    target.startsWith('pipe:') && found.filter((other) => other.target === target).length > 1;
  return others.filter(({ target }) => !isInternalPipe(target!)).map(({ fd }) => fd);
}

const NODES_OWN = /^anon_inode:\[(eventfd|eventpoll|io_uring)\]$/;

/** Undefined for the descriptor with which the directory itself was read: it is closed by now. */
function targetOf(name: string): string | undefined {
  try {
    return fs.readlinkSync(`/proc/self/fd/${name}`);
  } catch {
    return undefined;
  }
}
