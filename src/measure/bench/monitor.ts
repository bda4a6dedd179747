/** QEMU's machine protocol (docs/interop/qmp-spec in its source): one JSON object a line, each way. */
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { HungUp } from './hung-up.ts';

interface Message {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
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

  /** What the command returns. Events before its answer are lost. */
  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    for (;;) {
      const answer = await this.#next(command);
      if (answer.error !== undefined) throw new Error(`QEMU refused ${command}: ${answer.error.desc}`);
      // The greeting and events have neither.
      if ('return' in answer) return answer.return;
    }
  }

  /** Waits for an event that is still to come. */
  async event(name: string): Promise<void> {
    while ((await this.#next(name)).event !== name);
  }

  /** Guest instructions since power-on. Only while QEMU records (rr=record); exact only while the guest stands still. */
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
