/** QEMU's machine protocol, QMP (docs/interop/qmp-spec in its source): one JSON object per line, in both directions. */
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';

interface Message {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
}

/** QEMU closed the connection during a command. The reason is in the result of `boot`, which started QEMU. */
export class HungUp extends Error {
  override readonly name = 'HungUp';

  constructor(command: string) {
    super(`QEMU hung up at ${command}`);
  }
}

export class Monitor {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  static async open(socket: Socket): Promise<Monitor> {
    const monitor = new Monitor(socket);
    await monitor.execute('qmp_capabilities');
    return monitor;
  }

  /** Gives what the command returns. Events that arrive before the answer are dropped. */
  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    for (;;) {
      const answer = await this.#next(command);
      if (answer.error !== undefined) throw new Error(`QEMU refused ${command}: ${answer.error.desc}`);
      // The greeting and events have neither `return` nor `error`.
      if ('return' in answer) return answer.return;
    }
  }

  /** Waits for an event that has not arrived yet. */
  async event(name: string): Promise<void> {
    while ((await this.#next(name)).event !== name);
  }

  /** Guest instructions since power-on. Needs a QEMU that records (rr=record); exact only while the guest is stopped. */
  async instructionCount(): Promise<number> {
    const text = String(await this.execute('human-monitor-command', { 'command-line': 'info replay' }));
    const digits = /instruction count = (\d+)/.exec(text)?.[1];
    if (digits === undefined) throw new Error(`QEMU does not count instructions: ${text.trim()}`);
    return Number(digits);
  }

  async #next(what: string): Promise<Message> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new HungUp(what);
    return JSON.parse(value) as Message;
  }
}
