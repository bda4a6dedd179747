/**
 * A guest that takes NMIs at chosen instructions: QEMU's GDB stub steps it, and its QMP socket injects them. QEMU's `inject-nmi` reaches the CPU through
 * LINT1 of its local APIC, which SeaBIOS has set up.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PhysAddr } from '../../src/base/addresses.ts';
import { boot } from '../../src/node/qemu/qemu.ts';
import type { BootOptions, BootResult } from '../../src/node/qemu/qemu.ts';
import { Qmp } from '../measure/guest-memory.ts';

export interface Stepped {
  readonly result: BootResult;
  /** Where an NMI was taken and the guest came back from it: offsets from the program's start. */
  readonly taken: ReadonlySet<number>;
}

export interface NmiOptions extends BootOptions {
  readonly entry: 'linux64';
  /** The image's entry, and where the program begins in memory. */
  readonly at: PhysAddr;
  readonly program: PhysAddr;
  /** Offsets in the program: NMIs come from `first` up to `last`, and are handled at `handler`. */
  readonly first: number;
  readonly last: number;
  readonly handler: number;
}

/** Boots, and injects an NMI before each instruction of the program, the first two times that it is reached. */
export async function bootWithNmis(options: NmiOptions): Promise<Stepped> {
  const folder = await mkdtemp(join(tmpdir(), 'kslide-nmi-'));
  const paths = ['qmp', 'gdb'].map((name) => join(folder, name));
  const servers = paths.map((path) => createServer().listen(path));
  const taken = new Set<number>();
  try {
    const connections = servers.map(async (server) => ((await once(server, 'connection')) as [Socket])[0]);
    const extra = [...(options.extra ?? []), '-S', '-qmp', `unix:${paths[0]}`, '-gdb', `unix:${paths[1]}`];
    const running = boot({ ...options, extra });
    const leading = (async (): Promise<void> => {
      const [qmp, gdb] = await Promise.all(connections);
      await lead(new Qmp(qmp!), new Gdb(gdb!), options, taken);
      gdb!.destroy();
    })();
    const [result] = await Promise.all([running, leading]);
    return { result, taken };
  } finally {
    for (const server of servers) server.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function lead(qmp: Qmp, gdb: Gdb, options: NmiOptions, taken: Set<number>): Promise<void> {
  const { at, program, first, last, handler } = options;
  await qmp.execute('qmp_capabilities');
  await gdb.ask(`Z1,${at.toString(16)},1`);
  await gdb.ask('c');
  await gdb.ask(`z1,${at.toString(16)},1`);
  // Bit 0: step. Bits 1 and 2 would hold back interrupts, and stop the timers.
  assert.equal(await gdb.ask('Qqemu.sstep=1'), 'OK');
  const visits = new Map<number, number>();
  await gdb.step();
  for (let rip = await gdb.rip(); rip !== at; rip = await gdb.rip()) {
    const offset = rip - program;
    const visit = visits.get(offset) ?? 0;
    visits.set(offset, visit + 1);
    // An instruction that repeats is one visit an iteration.
    if (offset >= first && offset < last && visit < 2) {
      await qmp.execute('inject-nmi');
      await gdb.step();
      assert.equal((await gdb.rip()) - program, handler, `no NMI at 0x${offset.toString(16)}`);
      await gdb.step();
      assert.equal(await gdb.rip(), rip, `no return from an NMI at 0x${offset.toString(16)}`);
      taken.add(offset);
    }
    await gdb.step();
  }
  await gdb.send('D');
}

/** As in src/measure/bench/gdb-remote.ts, and single steps. */
class Gdb {
  readonly #socket: Socket;
  #text = '';

  constructor(socket: Socket) {
    this.#socket = socket.setEncoding('latin1');
  }

  async step(): Promise<void> {
    assert.match(await this.ask('s'), /^T05/);
  }

  async rip(): Promise<number> {
    return Number(Buffer.from(await this.ask('g'), 'hex').readBigUInt64LE(16 * 8));
  }

  async ask(command: string): Promise<string> {
    await this.send(command);
    for (;;) {
      const end = this.#text.indexOf('#');
      if (end >= 0 && this.#text.length >= end + 3) {
        const answer = this.#text.slice(this.#text.indexOf('$') + 1, end);
        this.#text = this.#text.slice(end + 3);
        this.#socket.write('+');
        return answer;
      }
      const [chunk] = (await once(this.#socket, 'data', { signal: AbortSignal.timeout(60_000) })) as [string];
      this.#text += chunk;
    }
  }

  async send(command: string): Promise<void> {
    const sum = Buffer.from(command, 'latin1').reduce((total, byte) => total + byte, 0) % 256;
    this.#socket.write(`$${command}#${sum.toString(16).padStart(2, '0')}`);
  }
}
