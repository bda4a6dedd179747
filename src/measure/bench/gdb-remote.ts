/**
 * The little of the GDB remote protocol that it takes to run a guest from place to place (GDB manual, appendix E).
 *
 * A packet is `$text#xx`, xx the sum of its characters, answered by a `+` and then a packet. QEMU neither escapes nor run-length
 * encodes what is asked for here. Breakpoints are hardware ones (Z1): under TCG they are addresses in a list, as many as one
 * likes, and change no byte of the guest.
 */
import type { Socket } from 'node:net';
import type { PhysAddr, VirtAddr } from '../../base/addresses.ts';
import { hex } from '../../base/errors.ts';
import { HungUp } from './hung-up.ts';

/** What a stop reply's signal means (gdbstub.c of QEMU): a breakpoint, or a guest that has ended while QEMU stays. */
const SIGNAL_QUIT = 3;
const SIGNAL_TRAP = 5;
/** RIP follows 16 general registers in the answer to `g`, all of 8 bytes. */
const RIP_OFFSET = 16 * 8;

export class GdbRemote {
  readonly #socket: Socket;
  readonly #packets: AsyncIterator<string>;

  /** Takes over a connection whose guest stands still. */
  constructor(socket: Socket) {
    this.#socket = socket;
    this.#packets = packetsOf(socket);
  }

  /**
   * Lets the guest run until it is about to execute one of `addresses`, and says which; undefined if the guest ended before. They are linear
   * addresses, which are physical ones until the kernel has its own page tables, and virtual ones then.
   */
  async runTo<A extends PhysAddr | VirtAddr>(addresses: readonly A[]): Promise<A | undefined> {
    for (const address of addresses) await this.#expectOk(`Z1,${address.toString(16)},1`);
    const stop = await this.#ask('c');
    // QEMU exits, for whatever reason.
    if (stop.startsWith('W') || stop.startsWith('X')) throw new HungUp('c');
    const signal = Number.parseInt(stop.slice(1, 3), 16);
    if (signal === SIGNAL_QUIT) return undefined;
    if (signal !== SIGNAL_TRAP) throw new Error(`the guest stopped by ${stop}`);
    for (const address of addresses) await this.#expectOk(`z1,${address.toString(16)},1`);
    // In real mode RIP counts from the segment's start: only who asks for one address can run there.
    if (addresses.length === 1) return addresses[0];
    const at = await this.#instructionPointer();
    const found = addresses.find((address) => BigInt(address) === at);
    if (found === undefined) throw new Error(`the guest stopped at ${hex(at)}, where it was not to`);
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
