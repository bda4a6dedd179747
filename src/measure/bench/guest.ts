/**
 * A guest that starts stopped and is controlled from outside: through QEMU's monitor, and through its GDB stub when instructions are counted.
 *
 * Counting. With `-icount shift=0,sleep=off` one instruction takes one nanosecond of guest time, however busy the host is. While QEMU records
 * (rr=record), `info replay` gives the number of instructions since power-on; the recording itself goes to /dev/null. A guest that sleeps executes
 * no instructions; one that waits in a loop does. Each iteration of a `rep` counts. With -seed for RDRAND and RDSEED, and a clock that starts at a
 * given date, nothing is left to chance: the same seed gives the same number, to the instruction (measured on QEMU 7.2).
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PhysAddr, VirtAddr } from '../../base/addresses.ts';
import { KernelImageError } from '../../base/errors.ts';
import { EnvironmentError } from '../../node/errors.ts';
import { boot } from '../../node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../node/qemu/qemu.ts';
import { GdbRemote } from './gdb-remote.ts';
import { HungUp, Monitor } from './monitor.ts';

export interface GuestOptions extends Pick<BootOptions, 'entry' | 'append' | 'initrd' | 'memoryMib' | 'signal'> {
  /** What errors call the image. */
  readonly title: string;
  /** The image is the user's own kernel: kslide has changed nothing in it. */
  readonly original: boolean;
  readonly image: Uint8Array;
  readonly timeoutMs: number;
}

/** Where a counted guest stopped. `at` is undefined when the guest ended before it reached any of the addresses. */
export interface Arrival<A = PhysAddr> {
  readonly at: A | undefined;
  /** Since power-on. */
  readonly instructions: number;
}

export interface CountedGuest {
  /** Runs to the first of these addresses, or to the guest's end. `place` is what errors call them. */
  runTo<A extends PhysAddr | VirtAddr>(addresses: readonly A[], place: string): Promise<Arrival<A>>;
  readMemory(address: PhysAddr | VirtAddr, length: number): Promise<Uint8Array>;
}

/** -no-shutdown: QEMU stays after the guest has ended, so that the count can be read. */
const COUNTING = ['-no-shutdown', '-icount', 'shift=0,sleep=off,rr=record,rrfile=/dev/null'];
/** Any date would do. At this one the certificates in the kernel are valid, as they usually are. */
const FIXED_CLOCK = ['-rtc', 'base=2024-01-01,clock=vm'];

/** Powers on a guest under TCG, has `lead` run it, and ends it. Throws what `lead` throws, or why QEMU ended early. */
export function countGuest<T>(
  options: GuestOptions & { readonly seed: number },
  lead: (guest: CountedGuest) => Promise<T>,
): Promise<T> {
  const extra = [...COUNTING, ...FIXED_CLOCK, '-seed', String(options.seed)];
  return withSockets(['qmp', 'gdb'], ([qmp, gdb]) => {
    extra.push('-qmp', `unix:${qmp!.path}`, '-gdb', `unix:${gdb!.path}`);
    const way: Way = { towards: 'its first instruction' };
    return leadGuest({ ...options, accel: 'tcg', extra, way }, qmp!, async (monitor) => {
      const remote = new GdbRemote(await gdb!.connection);
      return lead({
        runTo: async (addresses, place) => {
          way.towards = place;
          // While the guest runs, nothing else asks the monitor.
          way.monitor = monitor;
          const at = await remote.runTo(addresses);
          way.monitor = undefined;
          return { at, instructions: await monitor.instructionCount() };
        },
        readMemory: (address, length) => remote.readMemory(address, length),
      });
    });
  });
}

/** Microseconds from power-on under KVM until the console shows `text`, or until the guest's end when there is no `text`. */
export function timeGuest(options: GuestOptions, text?: string): Promise<number> {
  let console = '';
  let sawText: (() => void) | undefined;
  const shown = new Promise<void>((resolve) => (sawText = resolve));
  const onConsole = (more: string): void => {
    console += more;
    if (text !== undefined && console.includes(text)) sawText?.();
  };
  return withSockets(['qmp'], ([qmp]) => {
    const extra = ['-no-shutdown', '-qmp', `unix:${qmp!.path}`];
    const way: Way = { towards: text === undefined ? 'its end' : '/init' };
    return leadGuest({ ...options, accel: 'kvm', extra, onConsole, way }, qmp!, async (monitor) => {
      const started = performance.now();
      await monitor.execute('cont');
      const ended = monitor.event('SHUTDOWN').then(() => {
        if (text !== undefined) throw wouldNotBoot(nameOf(options), 'a guest that ended', '/init to run');
      });
      await Promise.race([shown, ended]);
      return Math.round((performance.now() - started) * 1000);
    });
  });
}

/** How far a guest has come, for the error if it stalls. */
interface Way {
  towards: string;
  /** Free to be asked where the guest is. */
  monitor?: Monitor | undefined;
}

type LedOptions = GuestOptions &
  Pick<BootOptions, 'accel' | 'onConsole'> & {
    readonly seed?: number;
    readonly extra: readonly string[];
    readonly way: Way;
  };

/** What QEMU gets to say where a stalled guest is, and then to end. A recording QEMU can stall itself (-icount with rr=record). */
const LAST_WORDS_MS = 5_000;

/** Starts QEMU with the guest stopped (`-S`), has `lead` run it, and ends QEMU. */
async function leadGuest<T>(options: LedOptions, qmp: Listener, lead: (monitor: Monitor) => Promise<T>): Promise<T> {
  // Our own timer comes first: it can still ask where the guest is.
  const running = boot({
    ...options,
    timeoutMs: options.timeoutMs + 2 * LAST_WORDS_MS,
    extra: ['-S', ...options.extra],
  });
  let monitor: Monitor | undefined;
  let timer: NodeJS.Timeout | undefined;
  const stalling = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => void whereabouts(options.way).then((at) => reject(stalled(options, at))),
      options.timeoutMs,
    );
  });
  const leading = async (): Promise<T> => {
    monitor = await Monitor.open(await qmp.connection);
    return lead(monitor);
  };
  try {
    return await Promise.race([
      leading(),
      running.then((result) => {
        throw endedEarly(options, result);
      }),
      stalling,
    ]);
  } catch (error) {
    throw error instanceof HungUp ? endedEarly(options, await running) : error;
  } finally {
    clearTimeout(timer);
    await monitor?.execute('quit').catch(() => {});
    await running.catch(() => {});
  }
}

function endedEarly(options: LedOptions, { end, errors }: BootResult): Error {
  if (end === 'aborted') return options.signal?.reason as Error;
  if (end === 'timeout') return stalled(options, NO_ANSWER);
  const reason = errors.trim().split('\n')[0] || `it ended by ${end}`;
  return new EnvironmentError({ problem: 'command-failed', what: `QEMU failed: ${reason}` });
}

const NO_ANSWER = 'QEMU does not say where';

/** The instruction that a stalled guest is at, and how many it has executed. Never throws, and takes LAST_WORDS_MS at most. */
async function whereabouts({ monitor }: Way): Promise<string | undefined> {
  if (monitor === undefined) return undefined;
  const ask = async (): Promise<string> => {
    // The guest goes on meanwhile: a stop would be an answer to the debugger, too. So the two answers belong together only nearly.
    const registers = String(await monitor.execute('human-monitor-command', { 'command-line': 'info registers' }));
    const rip = /RIP=([0-9a-f]+)/.exec(registers)?.[1];
    const count = await monitor.instructionCount();
    return `RIP 0x${rip?.replace(/^0+(?=.)/, '') ?? '?'} after ${count} instructions`;
  };
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(NO_ANSWER), LAST_WORDS_MS);
  });
  try {
    return await Promise.race([ask(), silence]);
  } catch {
    return NO_ANSWER;
  } finally {
    clearTimeout(timer);
  }
}

/** Says which boot it was, how far it came, and whether kslide has a part in it. */
function stalled(
  { title, original, seed, accel, timeoutMs, way }: LedOptions,
  at: string | undefined,
): KernelImageError {
  const counted = accel === 'tcg';
  return new KernelImageError({
    code: 'would-not-boot',
    what: nameOf({ title, original, seed }),
    found: `stalled after ${timeoutMs / 1000} s on the way to ${way.towards}${at === undefined ? '' : `, at ${at}`}`,
    expected: `${way.towards} to be reached${counted ? ' under -icount' : ''}`,
    hint: original
      ? `kslide did not change this kernel${counted ? '; --accel kvm measures without -icount' : ''}; on a slow machine a longer --timeout helps`
      : 'on a slow machine a longer --timeout helps',
  });
}

/** "vmlinux (the original kernel, not converted, boot with seed 1)". */
export function nameOf({
  title,
  original,
  seed,
}: Pick<GuestOptions, 'title' | 'original'> & { readonly seed?: number | undefined }): string {
  const whose = original ? 'the original kernel, not converted' : 'converted by kslide';
  return `${title} (${whose}${seed === undefined ? '' : `, boot with seed ${seed}`})`;
}

export function wouldNotBoot(title: string, found: string, expected: string): KernelImageError {
  return new KernelImageError({ code: 'would-not-boot', what: title, found, expected });
}

interface Listener {
  readonly path: string;
  /** The first connection. */
  readonly connection: Promise<Socket>;
}

/** QEMU connects to these sockets, not the reverse, so there is no need to wait until QEMU has created one. Removes them afterwards. */
async function withSockets<T>(
  names: readonly string[],
  use: (listeners: readonly Listener[]) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'kslide-bench-'));
  const servers: Server[] = [];
  const sockets: Socket[] = [];
  try {
    const listeners = names.map((name): Listener => {
      const path = join(folder, name);
      const server = createServer((socket) => sockets.push(socket)).listen(path);
      servers.push(server);
      return { path, connection: once(server, 'connection').then(([socket]) => socket as Socket) };
    });
    await Promise.all(servers.map((server) => once(server, 'listening')));
    return await use(listeners);
  } finally {
    for (const socket of sockets) socket.destroy();
    for (const server of servers) server.close();
    await rm(folder, { recursive: true, force: true });
  }
}
