/** The bytes of a WebAssembly module, in the order in which they are written, and the depths that branches are written as. */
import { ascii } from '../base/bytes.ts';
import { OPCODE } from './opcodes.ts';
import type { BranchTarget } from './statements.ts';

/**
 * Everything is written into one buffer. An earlier version joined arrays of arrays at the end, and the garbage of those cost more than all the
 * rest: 16 ms cold, 10 of them in the garbage collector; now 5.
 */
export class WasmWriter {
  #bytes = new Uint8Array(1 << 14);
  #length = 0;
  readonly #open: BranchTarget[] = [];

  byte(value: number): void {
    if (this.#length === this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes[this.#length++] = value;
  }

  /** Section 5.2.2: LEB128, here and in the next two. */
  unsigned(value: number): void {
    if (value < 0) throw new RangeError(`${value} is not unsigned`);
    for (; value >= 0x80; value = Math.floor(value / 0x80)) this.byte((value % 0x80) | 0x80);
    this.byte(value);
  }

  signed(value: number): void {
    for (; value < -64 || value > 63; value >>= 7) this.byte((value & 0x7f) | 0x80);
    this.byte(value & 0x7f);
  }

  signed64(value: bigint): void {
    for (; value < -64n || value > 63n; value >>= 7n) this.byte(Number(value & 0x7fn) | 0x80);
    this.byte(Number(value & 0x7fn));
  }

  name(text: string): void {
    this.unsigned(text.length);
    for (const byte of ascii(text)) this.byte(byte);
  }

  /** What `write` writes, after its size. The size is known only afterwards, so it always gets three bytes, as LEB128 allows. */
  sized(write: () => void): void {
    const at = this.#length;
    for (let i = 0; i < 3; i++) this.byte(0);
    write();
    const size = this.#length - at - 3;
    this.#bytes.set([(size & 0x7f) | 0x80, ((size >> 7) & 0x7f) | 0x80, size >> 14], at);
  }

  /** Enters a block, loop or if. */
  open(target: BranchTarget): void {
    this.#open.push(target);
  }

  close(): void {
    this.#open.pop();
    this.byte(OPCODE.end);
  }

  /** Section 5.4.1: branches name their target by its depth, counted outwards from the innermost construct. */
  depth(target: BranchTarget): number {
    const at = this.#open.lastIndexOf(target);
    if (at < 0) throw new RangeError('a branch to a construct that it is not in');
    return this.#open.length - 1 - at;
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}
