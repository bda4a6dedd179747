/**
 * The instructions, data and labels of a program in order, while it is written. `assemble` lays them out, then writes them (layout.ts).
 *
 * A mistake throws where it is made if it can be seen there, so that the stack trace points at the line of assembly. Only an unbound
 * label and a reference that does not reach have to wait for `assemble`.
 */
import { encode } from './encoder.ts';
import type { Instruction } from './encoder.ts';
import { layOutCode, offsetOf, writeCode } from './layout.ts';
import type { Branch, CodeLayout, Item, Part } from './layout.ts';
import type { ListingLine } from './listing.ts';
import { AssemblyError, Label } from './operands.ts';
import type { Bits } from './registers.ts';

export interface Assembled {
  readonly code: Uint8Array;
  readonly listing: readonly ListingLine[];
  /** Offset by name, including the labels of `labelAt`. */
  readonly labels: ReadonlyMap<string, number>;
}

export class InstructionStream {
  bits: Bits = 64;
  /** The address of the first byte, if it is known. */
  origin: number | undefined;
  readonly #items: Item[] = [];
  readonly #labels = new Map<string, Label>();
  readonly #bound = new Set<Label>();
  readonly #steps = new Set<string>();
  /** Labels of `labelAt`, with their offsets. */
  readonly #fixed = new Map<Label, number>();
  /** Of the next item. */
  #step: string | undefined;
  #note: string | undefined;
  /** The layout of the items so far; a new item discards it. */
  #layout: CodeLayout | undefined;

  step(name: string): void {
    if (this.#step !== undefined)
      throw new AssemblyError(`step '${name}': step '${this.#step}' has no instruction yet`);
    if (this.#steps.has(name)) throw new AssemblyError(`step '${name}' exists already; names are unique in a program`);
    this.#steps.add(name);
    this.#step = name;
  }

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
    // A step or note before a label belongs to the instruction after it.
    this.#items.push({ part: { kind: 'bind', label }, bits: this.bits, step: undefined, note: undefined });
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
    if (this.#step !== undefined)
      throw new AssemblyError(`step '${this.#step}' has no instruction yet; no code follows it`);
    const layout = this.#lay();
    const { code, listing } = writeCode(this.#items, layout, this.origin ?? 0);
    const labels = new Map<string, number>();
    for (const [name, label] of this.#labels) {
      const offset = layout.labels.get(label);
      if (offset !== undefined) labels.set(name, offset);
    }
    return { code, listing, labels };
  }

  #lay(): CodeLayout {
    return (this.#layout ??= layOutCode(this.#items, this.#fixed));
  }

  #add(part: Part): void {
    this.#items.push({ part, bits: this.bits, step: this.#step, note: this.#note });
    this.#step = undefined;
    this.#note = undefined;
    this.#layout = undefined;
  }

  #checkOwn(label: Label): void {
    if (this.#labels.get(label.name) === label) return;
    throw new AssemblyError(`label '${label.name}' is from another Assembler; make it with this one's label()`);
  }
}
