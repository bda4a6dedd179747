/**
 * A program while it is written: instructions, data and labels in order. `assemble` lays them out (layout.ts), then writes (write.ts).
 *
 * Mistakes that can be seen at once throw where they are made, so that the stack trace points at the line of assembly; only an unbound
 * label and a reference that does not reach wait for `assemble`.
 */
import { encode } from './encoder.ts';
import type { Instruction } from './encoder.ts';
import { layOut, offsetOf } from './layout.ts';
import type { Branch, Item, Layout, Part } from './layout.ts';
import type { ListingLine } from './listing.ts';
import { AssemblyError } from './misuse.ts';
import { Label } from './operands.ts';
import type { Bits } from './registers.ts';
import { write } from './write.ts';

export interface Assembled {
  readonly code: Uint8Array;
  readonly listing: readonly ListingLine[];
  /** Offset by name, the labels of `labelAt` included. */
  readonly labels: ReadonlyMap<string, number>;
}

export class Program {
  bits: Bits = 64;
  /** The address of the first byte, if it is known. */
  origin: number | undefined;
  readonly #items: Item[] = [];
  readonly #labels = new Map<string, Label>();
  readonly #bound = new Set<Label>();
  /** Offsets of `labelAt`. */
  readonly #fixed = new Map<Label, number>();
  #note: string | undefined;
  /** Of the items so far; any new one drops it. */
  #layout: Layout | undefined;

  note(text: string): void {
    this.#note = this.#note === undefined ? text : `${this.#note}; ${text}`;
  }

  label(name: string): Label {
    if (this.#labels.has(name)) {
      throw new AssemblyError(`label '${name}' exists already; names are unique in a program`);
    }
    const label = new Label(name);
    this.#labels.set(name, label);
    return label;
  }

  labelAt(name: string, offset: number): Label {
    if (!Number.isSafeInteger(offset)) throw new AssemblyError(`label '${name}': offset ${offset} is not an integer`);
    const label = this.label(name);
    this.#bound.add(label);
    this.#fixed.set(label, offset);
    this.#layout = undefined;
    return label;
  }

  bind(label: Label): void {
    this.#checkOwn(label);
    if (this.#bound.has(label)) {
      throw new AssemblyError(`label '${label.name}' is bound already; a second place needs a second label`);
    }
    this.#bound.add(label);
    // A note before a label is on the instruction after it.
    this.#items.push({ part: { kind: 'bind', label }, bits: this.bits, note: undefined });
    this.#layout = undefined;
  }

  emit(instruction: Instruction): void {
    const encoded = encode(instruction, this.bits);
    for (const { label, kind } of encoded.fixups) {
      this.#checkOwn(label);
      if (kind === 'fixed-address' && this.origin === undefined) {
        throw new AssemblyError(
          `${instruction.mnemonic}: the absolute address of label '${label.name}' is not known; give the Assembler an origin, ` +
            'or address it from a register that holds the first byte, dword(ebp, label)',
        );
      }
    }
    this.#add({ kind: 'instruction', instruction, encoded });
  }

  branch(branch: Omit<Branch, 'kind'>): void {
    this.#checkOwn(branch.label);
    this.#add({ kind: 'branch', ...branch });
  }

  data(bytes: Uint8Array): void {
    this.#add({ kind: 'data', bytes });
  }

  align(alignment: number, fill: number): void {
    if (!Number.isSafeInteger(alignment) || alignment < 1) {
      throw new AssemblyError(`align: ${alignment} is not a positive integer`);
    }
    this.#add({ kind: 'align', alignment, fill });
  }

  offsetOf(label: Label): number {
    this.#checkOwn(label);
    return offsetOf(this.#lay(), label);
  }

  assemble(): Assembled {
    const layout = this.#lay();
    const { code, listing } = write(this.#items, layout, this.origin ?? 0);
    const labels = new Map<string, number>();
    for (const [name, label] of this.#labels) {
      const offset = layout.labels.get(label);
      if (offset !== undefined) labels.set(name, offset);
    }
    return { code, listing, labels };
  }

  #lay(): Layout {
    return (this.#layout ??= layOut(this.#items, this.#fixed));
  }

  #add(part: Part): void {
    this.#items.push({ part, bits: this.bits, note: this.#note });
    this.#note = undefined;
    this.#layout = undefined;
  }

  #checkOwn(label: Label): void {
    if (this.#labels.get(label.name) === label) return;
    throw new AssemblyError(`label '${label.name}' is from another Assembler; make it with this one's label()`);
  }
}
