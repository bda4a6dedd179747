/**
 * The part of the GDB remote protocol that is needed to run a guest from one address to another (GDB manual, appendix E).
 *
 * A packet is `$text#xx`, where xx is the sum of its characters. The answer is a `+` and then a packet. QEMU neither escapes nor run-length encodes
 * the answers that are needed here. Breakpoints are hardware breakpoints (Z1): under TCG these are addresses in a list of any length, and change no
 * byte of the guest.
 */
import type { Socket } from 'node:net';
import type { PhysAddr, VirtAddr } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import { HungUp } from './monitor.ts';

/** Signals in a stop reply (QEMU's gdbstub.c): a guest that has ended while QEMU goes on, or a breakpoint. */
const SIGNAL_QUIT = 3;
const SIGNAL_TRAP = 5;
/** In the answer to `g`, RIP follows 16 general registers of 8 bytes each. */
const RIP_OFFSET = 16 * 8;

export class GdbRemote {
  readonly #socket: Socket;
  readonly #packets: AsyncIterator<string>;

  /** Takes over a connection to a guest that is stopped. */
  constructor(socket: Socket) {
    this.#socket = socket;
    this.#packets = packetsOf(socket);
  }

  /**
   * Lets the guest run until it is about to execute one of `addresses`, and returns that one; undefined if the guest ended first. The addresses are
   * linear: equal to physical ones until the kernel has its own page tables, virtual ones after that.
   */
  async runTo<A extends PhysAddr | VirtAddr>(addresses: readonly A[]): Promise<A | undefined> {
    for (const address of addresses) await this.#expectOk(`Z1,${address.toString(16)},1`);
    const stop = await this.#ask('c');
    // QEMU itself exits.
    if (stop.startsWith('W') || stop.startsWith('X')) throw new HungUp('c');
    const signal = Number.parseInt(stop.slice(1, 3), 16);
    if (signal === SIGNAL_QUIT) return undefined;
    if (signal !== SIGNAL_TRAP) throw new Error(`the guest stopped with ${stop}`);
    for (const address of addresses) await this.#expectOk(`z1,${address.toString(16)},1`);
    // In real mode RIP is relative to the code segment, so it cannot tell addresses apart: there a caller can wait for one address only.
    if (addresses.length === 1) return addresses[0];
    const at = await this.#instructionPointer();
    const found = addresses.find((address) => BigInt(address) === at);
    if (found === undefined) throw new Error(`the guest stopped at ${hex(at)}, where there is no breakpoint`);
    return found;
  }

  async readMemory(address: PhysAddr | VirtAddr, length: number): Promise<Uint8Array> {
    return Buffer.from(await this.#ask(`m${address.toString(16)},${length.toString(16)}`), 'hex');
  }

  async #instructionPointer(): Promise<VirtAddr> {
    return Buffer.from(await this.#ask('g'), 'hex').readBigUInt64LE(RIP_OFFSET);
  }

  async #expectOk(command: string): Promise<void> {
    const answer = await this.#ask(command);
    if (answer !== 'OK') throw new Error(`QEMU answered ${JSON.stringify(answer)} to ${command}`);
  }

  async #ask(command: string): Promise<string> {
    const sum = Buffer.from(command, 'latin1').reduce((total, byte) => total + byte, 0) % 256;
    this.#socket.write(`$${command}#${sum.toString(16).padStart(2, '0')}`);
    const { value, done } = await this.#packets.next();
    if (done === true) throw new HungUp(command);
    this.#socket.write('+');
    return value;
  }
}

async function* packetsOf(socket: Socket): AsyncGenerator<string, undefined> {
  let text = '';
  for await (const chunk of socket.setEncoding('latin1')) {
    text += String(chunk);
    for (let end = text.indexOf('#'); end >= 0 && text.length >= end + 3; end = text.indexOf('#')) {
      yield text.slice(text.indexOf('$') + 1, end);
      text = text.slice(end + 3);
    }
  }
  return undefined;
}
