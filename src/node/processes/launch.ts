/**
 * Runs a command with a kernel image that exists for it alone, as if the command had been started by itself: standard streams, other
 * inherited descriptors, signals and exit code pass through.
 *
 * The image has no name. The command inherits a descriptor, and `/proc/self/fd/N` stands for the path: whatever happens to whom, the memory is
 * free once the last process that has it open is gone. For commands that close their descriptors or have a file opened by somebody else it can have
 * a name; then this process removes it, and a shell that waits for our end of a pipe to close does when we cannot.
 *
 * The command does not outlive us, as it would not outlive itself: setpriv(1) of util-linux, where there is one, has the kernel send it a
 * SIGKILL when we get one.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess, StdioOptions } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { constants } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { isatty } from 'node:tty';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { EnvironmentError } from '../environment.ts';
import { createNamedFile, openMemoryFile } from '../files/memory-file.ts';

export interface LaunchOptions {
  /** Program and arguments. PLACEHOLDER in an argument becomes the image's path, which is also in the environment as PATH_VARIABLE. */
  readonly command: readonly string[];
  /** A directory in which the image gets a name. */
  readonly directory?: string | undefined;
}

export const PLACEHOLDER = '{}';
export const PATH_VARIABLE = 'KSLIDE_IMAGE';

/** How the command ended: by an exit code or by a signal. */
export type LaunchEnd = { readonly code: number } | { readonly signal: NodeJS.Signals };

/** All that can be caught and that a program may want to hear of. */
const FORWARDED = [
  'SIGINT',
  'SIGTERM',
  'SIGHUP',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGCONT',
  'SIGWINCH',
] as const;
/** Those that a terminal sends to all processes in its foreground: the command has had its own. */
const FROM_TERMINAL = new Set<NodeJS.Signals>(['SIGINT', 'SIGQUIT', 'SIGWINCH']);

/** The image's parts, or what gives them: then they are let go before the command starts. */
export type ImageMaker = Iterable<Uint8Array> | (() => Promise<Image>);

export interface Image extends Iterable<Uint8Array> {
  readonly close?: () => void;
}

/** Throws EnvironmentError when the program is not there, DiskError or OutputFileError when the image cannot be. */
export async function launch(make: ImageMaker, { command, directory }: LaunchOptions): Promise<LaunchEnd> {
  const [program = '', ...args] = command;
  const executable = findProgram(program);
  if (executable === undefined)
    throw new EnvironmentError({ problem: 'missing-program', what: `${program}: no such program` });
  const inherited = inheritedDescriptors();
  if (directory !== undefined) {
    const path = join(resolve(directory), `kslide-${process.pid}-${randomBytes(6).toString('hex')}`);
    const guard = guardFile(path);
    try {
      await storeNamed(path, make);
      collectGarbage();
      return await run(executable, args, path, passOn(inherited));
    } finally {
      fs.rmSync(path, { force: true });
      guard.stdin?.destroy(); // which ends it
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

/** The command's descriptors: standard streams, those that we inherited, and one more at a number of its own. */
function passOn(inherited: readonly number[], added?: readonly [number, number]): StdioOptions {
  const same = inherited.map((fd): [number, number] => [fd, fd]);
  const pairs = new Map<number, number>(added === undefined ? same : [...same, added]);
  const length = 1 + Math.max(2, ...pairs.keys());
  // "ignore" above 2 opens nothing.
  return Array.from({ length }, (_, fd) => pairs.get(fd) ?? (fd < 3 ? 'inherit' : 'ignore'));
}

async function run(program: string, args: readonly string[], path: string, stdio: StdioOptions): Promise<LaunchEnd> {
  const words = [program, ...args.map((word) => word.replaceAll(PLACEHOLDER, path))];
  const setpriv = findProgram('setpriv');
  if (setpriv !== undefined) words.unshift(setpriv, '--pdeathsig', 'KILL', '--');
  const [first = '', ...rest] = words;
  // First, so that none is lost between: handlers run when this function waits, and the child is there by then.
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

function forwardSignals(send: (signal: NodeJS.Signals) => void): () => void {
  const atTerminal = isatty(0);
  const forward = (signal: NodeJS.Signals): void => {
    if (!(atTerminal && FROM_TERMINAL.has(signal))) send(signal);
  };
  for (const signal of FORWARDED) process.on(signal, forward);
  return () => {
    for (const signal of FORWARDED) process.off(signal, forward);
  };
}

/** Ends this process as the command ended. Nothing listens to signals any more, so that the parent sees the same one. */
export async function endLike(end: LaunchEnd): Promise<number> {
  if ('code' in end) return end.code;
  process.kill(process.pid, end.signal);
  // The signal is on its way; if it does not end us (ignored by our parent's wish), the shell's convention remains.
  await new Promise((done) => setTimeout(done, 200));
  return 128 + constants.signals[end.signal];
}

/** Removes `path` when this process is gone, however that comes. In a session of its own, out of reach of the terminal's signals. */
function guardFile(path: string): ChildProcess {
  const script = 'while read -r line; do :; done; rm -f -- "$1"';
  const guard = spawn('/bin/sh', ['-c', script, 'sh', path], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  guard.on('error', () => {}); // no /bin/sh: then only SIGKILL leaves the file behind
  guard.unref();
  return guard;
}

// Functions of their own, because a function that waits for the command to end keeps all that it ever had in hand.
async function store(make: ImageMaker): Promise<number> {
  return use(make, openMemoryFile);
}

async function storeNamed(path: string, make: ImageMaker): Promise<void> {
  return use(make, (image) => createNamedFile(path, image));
}

async function use<T>(make: ImageMaker, put: (image: Iterable<Uint8Array>) => T): Promise<T> {
  const image: Image = typeof make === 'function' ? await make() : make;
  try {
    return put(image);
  } finally {
    image.close?.();
  }
}

/** The kernel that was moved here, 60 MB or so, should not wait for a collection that an idle process never comes to. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect === 'function') collect();
}

/** In PATH, or by its own path. */
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
 * What we were started with besides standard streams: tap devices, sockets and the like that the command knows by number. Node marks them to be
 * closed on exec, so each is passed on by name; Node's own have to be told apart: event descriptors, and pipes of which we have both ends.
 */
function inheritedDescriptors(): number[] {
  const found = fs.readdirSync('/proc/self/fd').map((name) => ({ fd: Number(name), target: targetOf(name) }));
  const others = found.filter(({ fd, target }) => fd > 2 && target !== undefined && !NODES_OWN.test(target));
  const isInternalPipe = (target: string): boolean =>
    target.startsWith('pipe:') && found.filter((other) => other.target === target).length > 1;
  return others.filter(({ target }) => !isInternalPipe(target!)).map(({ fd }) => fd);
}

const NODES_OWN = /^anon_inode:\[(eventfd|eventpoll|io_uring)\]$/;

/** Undefined for the descriptor that reading the directory took. */
function targetOf(name: string): string | undefined {
  try {
    return fs.readlinkSync(`/proc/self/fd/${name}`);
  } catch {
    return undefined;
  }
}
