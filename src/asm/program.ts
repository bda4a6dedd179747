/**
 * A program while it is written: instructions, data and labels in order. `assemble` lays them out (layout.ts), then fills in what
 * referred to labels and writes the listing.
 *
 * Mistakes that can be seen at once throw where they are made, so that the stack trace points at the line of assembly; only an unbound
 * label and a reference that does not reach wait for `assemble`.
 */
import { encode } from './encoder.ts';
import type { Fixup, Instruction } from './encoder.ts';
import { layOut, offsetOf, shownOffset } from './layout.ts';
import type { Branch, Item, Layout, Part } from './layout.ts';
import { branchText, dataText, instructionText } from './listing.ts';
import type { ListingLine, Place } from './listing.ts';
import { AssemblyError } from './misuse.ts';
import { Label } from './operands.ts';
import type { Bits } from './registers.ts';
import { viewOf } from '../bytes.ts';

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
  readonly #fixed = new Map<Label, number>();
  #note: string | undefined;
  #layout: Layout | undefined;

  note(text: string): void {
    this.#note = this.#note === undefined ? text : `${this.#note}; ${text}`;
  }

  label(name: string): Label {
    if (this.#labels.has(name))
      throw new AssemblyError(`label '${name}' exists already; names are unique in a program`);
    const label = new Label(name);
    this.#labels.set(name, label);
    return label;
  }

  labelAt(name: string, offset: number): Label {
    if (!Number.isSafeInteger(offset)) throw new AssemblyError(`label '${name}': offset ${offset} is not an integer`);
    const label = this.label(name);
    this.#bound.add(label);
    this.#fixed.set(label, offset);
    return label;
  }

  bind(label: Label): void {
    this.#own(label);
    if (this.#bound.has(label)) {
      throw new AssemblyError(`label '${label.name}' is bound already; a second place needs a second label`);
    }
    this.#bound.add(label);
    this.#add({ kind: 'bind', label });
  }

  emit(instruction: Instruction): void {
    const encoded = encode(instruction, this.bits);
    for (const fixup of encoded.fixups) {
      this.#own(fixup.label);
      if (fixup.kind === 'fixed-address' && this.origin === undefined) {
        throw new AssemblyError(
          `${instruction.mnemonic}: the absolute address of label '${fixup.label.name}' is not known: give the Assembler an origin, ` +
            'or address it from a register, dword(ebp, label)',
        );
      }
    }
    this.#add({ kind: 'instruction', instruction, encoded });
  }

  branch(branch: Omit<Branch, 'kind'>): void {
    this.#own(branch.label);
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
    this.#own(label);
    this.#layout ??= layOut(this.#items, this.#fixed);
    return offsetOf(this.#layout, label);
  }

  assemble(): Assembled {
    const layout = (this.#layout ??= layOut(this.#items, this.#fixed));
    const code = new Uint8Array(layout.offsets.at(-1) ?? 0);
    const listing: ListingLine[] = [];
    let labelsHere: string[] = [];
    for (const [i, { part, bits, note }] of this.#items.entries()) {
      const offset = layout.offsets[i] ?? 0;
      const bytes = code.subarray(offset, layout.offsets[i + 1]);
      if (part.kind === 'bind') labelsHere.push(part.label.name);
      if (bytes.length === 0) continue;
      const written = this.#write(part, bits, offset, bytes, layout);
      const data = part.kind === 'data' || part.kind === 'align';
      listing.push({ offset, bytes, bits, data, labels: labelsHere, note, ...written });
      labelsHere = [];
    }
    const labels = new Map<string, number>();
    for (const [name, label] of this.#labels) {
      const offset = layout.labels.get(label);
      if (offset !== undefined) labels.set(name, offset);
    }
    return { code, listing, labels };
  }

  /** Fills `bytes`, which lie at `offset`, and says what they are. */
  #write(
    part: Part,
    bits: Bits,
    offset: number,
    bytes: Uint8Array,
    layout: Layout,
  ): Pick<ListingLine, 'text' | 'target'> {
    const end = offset + bytes.length;
    switch (part.kind) {
      case 'instruction': {
        const { instruction, encoded } = part;
        bytes.set(encoded.bytes);
        for (const fixup of encoded.fixups) this.#fill(fixup, instruction.mnemonic, offset, bytes, layout);
        const place: Place = {
          bits,
          end,
          origin: this.origin ?? 0,
          offsetOf: (label) => offsetOf(layout, label, offset),
        };
        return { text: instructionText(instruction, place), target: encoded.fixups[0]?.label.name };
      }
      case 'branch': {
        const { mnemonic, label } = part;
        const target = offsetOf(layout, label, offset);
        const isNear = part.short === undefined || layout.near.has(part);
        const opcode = part.short === undefined || isNear ? part.near : part.short;
        bytes.set(opcode);
        if (isNear) write32(bytes, opcode.length, target - end, mnemonic, label, offset);
        else viewOf(bytes).setInt8(opcode.length, target - end);
        return { text: branchText(mnemonic, target, bits), target: label.name };
      }
      case 'data':
        bytes.set(part.bytes);
        break;
      case 'align':
        bytes.fill(part.fill);
        break;
      case 'bind':
        break;
    }
    return { text: dataText(bytes) };
  }

  #fill({ at, label, addend, kind }: Fixup, mnemonic: string, offset: number, bytes: Uint8Array, layout: Layout): void {
    const target = offsetOf(layout, label, offset) + addend;
    const value = kind === 'relative' ? target - (offset + bytes.length) : target + (this.origin ?? 0);
    write32(bytes, at, value, mnemonic, label, offset);
  }

  #own(label: Label): void {
    if (this.#labels.get(label.name) !== label)
      throw new AssemblyError(`label '${label.name}' is from another Assembler`);
  }

  #add(part: Part): void {
    const isBind = part.kind === 'bind';
    this.#items.push({ part, bits: this.bits, note: isBind ? undefined : this.#note });
    if (!isBind) this.#note = undefined;
    this.#layout = undefined;
  }
}

/** A signed displacement; an address may also be unsigned, up to 2^32. */
function write32(bytes: Uint8Array, at: number, value: number, mnemonic: string, label: Label, offset: number): void {
  if (value < -0x8000_0000 || value > 0x7fff_ffff) {
    throw new AssemblyError(
      `${mnemonic} at offset ${shownOffset(offset)}: label '${label.name}' is ${shownOffset(value)} away, more than 32 bits reach`,
    );
  }
  viewOf(bytes).setInt32(at, value, true);
}
