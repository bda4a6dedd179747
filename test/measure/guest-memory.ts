/**
 * A guest's memory, as it is when the guest says so: QEMU is stopped through QMP (docs/interop/qmp-spec in QEMU's source) when the console shows
 * what is waited for, writes the memory to a file, and ends.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { boot } from '../../src/node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../src/node/qemu/qemu.ts';

const MIB = 0x10_0000;

export interface Snapshot {
  /** All of it, from physical address 0. */
  readonly memory: Uint8Array;
  /** Registers of CPU 0 as QEMU's monitor prints them. */
  readonly registers: string;
  readonly result: BootResult;
}

/** Boots until the console matches `when`. At most 2 GiB of memory: up to there it has no hole. */
export async function snapshot(options: BootOptions & { readonly memoryMib: number }, when: RegExp): Promise<Snapshot> {
  const folder = await mkdtemp(join(tmpdir(), 'kslide-memory-'));
  const [socket, file] = [join(folder, 'qmp'), join(folder, 'memory')];
  let console = '';
  let registers: Promise<string> | undefined;
  const onConsole = (text: string): void => {
    console += text;
    if (when.test(console)) registers ??= dump(socket, file, options.memoryMib * MIB);
  };
  try {
    const extra = [...(options.extra ?? []), '-qmp', `unix:${socket},server=on,wait=off`];
    const result = await boot({ ...options, extra, onConsole });
    assert.ok(registers, `${when} was not seen: ${result.end} ${result.errors}\n${console.slice(-1500)}`);
    const saved = await registers;
    const { buffer, byteOffset, length } = await readFile(file);
    // Not the Buffer: its slice() is no copy.
    return { registers: saved, memory: new Uint8Array(buffer, byteOffset, length), result };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function dump(path: string, file: string, size: number): Promise<string> {
  const socket = createConnection(path);
  await once(socket, 'connect');
  const qmp = new Qmp(socket);
  await qmp.execute('qmp_capabilities');
  await qmp.execute('stop');
  const registers = await qmp.execute('human-monitor-command', { 'command-line': 'info registers' });
  await qmp.execute('pmemsave', { val: 0, size, filename: file });
  await qmp.execute('quit');
  socket.destroy();
  return String(registers);
}

export class Qmp {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      assert.ok(done !== true, `QEMU hung up at ${command}`);
      const answer = JSON.parse(value) as { readonly return?: unknown; readonly error?: { readonly desc: string } };
      assert.equal(answer.error, undefined, `${command}: ${answer.error?.desc}`);
      // A greeting and events have neither.
      if ('return' in answer) return answer.return;
    }
  }
}

/** Every address at which `needle` stands. */
export function search(memory: Uint8Array, needle: Uint8Array): number[] {
  const haystack = Buffer.from(memory.buffer, memory.byteOffset, memory.length);
  const found: number[] = [];
  for (let at = haystack.indexOf(needle); at >= 0; at = haystack.indexOf(needle, at + 1)) found.push(at);
  return found;
}

/** Ranges of addresses, `end` not included, where two memories of one size differ; differences less than `near` bytes apart are one range. */
export function differences(one: Uint8Array, other: Uint8Array, near = 16): { start: number; end: number }[] {
  assert.equal(one.length, other.length);
  const [a, b] = [one, other].map((bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)) as [
    Buffer,
    Buffer,
  ];
  const ranges: { start: number; end: number }[] = [];
  const CHUNK = 4096;
  for (let chunk = 0; chunk < a.length; chunk += CHUNK) {
    const end = Math.min(a.length, chunk + CHUNK);
    if (a.compare(b, chunk, end, chunk, end) === 0) continue;
    for (let at = chunk; at < end; at++) {
      if (a[at] === b[at]) continue;
      const last = ranges.at(-1);
      if (last !== undefined && at - last.end < near) last.end = at + 1;
      else ranges.push({ start: at, end: at + 1 });
    }
  }
  return ranges;
}
