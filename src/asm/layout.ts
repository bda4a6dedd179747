/**
 * From parts to bytes in two phases: `layOutCode` gives each part its offset and each branch to a label its length; `writeCode` then
 * writes the bytes, fills in the references to labels, and makes the listing.
 *
 * Every part except a branch has a length from the start. A branch starts as rel8. If it does not reach, it becomes rel32 for good and
 * the offsets are counted again, until nothing changes (Szymanski, "Assembling code for machines with span-dependent instructions",
 * CACM 21(4), 1978). A branch only ever grows, so this ends after at most one round per branch. Without alignment between branches and
 * their labels the result is the shortest program.
 */
import { viewOf } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import type { Encoded, Fixup, Instruction } from './encoder.ts';
import { branchText, dataText, instructionText } from './listing.ts';
import type { ListingLine } from './listing.ts';
import { AssemblyError } from './operands.ts';
import type { Label } from './operands.ts';
import type { Bits } from './registers.ts';

export interface Branch {
  readonly kind: 'branch';
  readonly mnemonic: string;
  readonly label: Label;
  /** Opcode before rel8. Undefined if only rel32 exists, as for call. */
  readonly short: readonly number[] | undefined;
  /** Opcode before rel32. */
  readonly near: readonly number[];
}

export type Part =
  | { readonly kind: 'instruction'; readonly instruction: Instruction; readonly encoded: Encoded }
  | Branch
  | { readonly kind: 'data'; readonly bytes: Uint8Array }
  | { readonly kind: 'align'; readonly alignment: number; readonly fill: number }
  | { readonly kind: 'bind'; readonly label: Label };

export interface Item {
  readonly part: Part;
  readonly bits: Bits;
  readonly step: string | undefined;
  readonly note: string | undefined;
}

export interface CodeLayout {
  /** Item `i` lies from `offsets[i]` to `offsets[i + 1]`. */
  readonly offsets: readonly number[];
  readonly labels: ReadonlyMap<Label, number>;
  /** The branches that are rel32. */
  readonly near: ReadonlySet<Branch>;
}

/** `from`, for the message: the offset of the instruction that refers to the label. */
export function offsetOf(layout: CodeLayout, label: Label, from?: number): number {
  const offset = layout.labels.get(label);
  if (offset !== undefined) return offset;
  const where = from === undefined ? '' : `, but used at offset ${hex(from)}`;
  throw new AssemblyError(`label '${label.name}' was never bound${where}; call bind(label) where it belongs`);
}

/** The first phase. `fixed`: the labels with a given offset (`labelAt`). */
export function layOutCode(items: readonly Item[], fixed: ReadonlyMap<Label, number>): CodeLayout {
  const near = new Set<Branch>();
  const branches: { branch: Branch; index: number }[] = [];
  for (const [index, { part }] of items.entries()) {
    if (part.kind !== 'branch') continue;
    if (part.short === undefined) near.add(part);
    else branches.push({ branch: part, index });
  }
  for (;;) {
    const layout = count(items, fixed, near);
    const before = near.size;
    for (const { branch, index } of branches) {
      if (near.has(branch)) continue;
      const end = layout.offsets[index + 1] ?? 0;
      const distance = offsetOf(layout, branch.label, layout.offsets[index]) - end;
      if (distance < -128 || distance > 127) near.add(branch);
    }
    if (near.size === before) return layout;
  }
}

function count(items: readonly Item[], fixed: ReadonlyMap<Label, number>, near: ReadonlySet<Branch>): CodeLayout {
  const offsets = [0];
  const labels = new Map(fixed);
  let offset = 0;
  for (const { part } of items) {
    if (part.kind === 'bind') labels.set(part.label, offset);
    offset += lengthOf(part, offset, near);
    offsets.push(offset);
  }
  return { offsets, labels, near };
}

function lengthOf(part: Part, offset: number, near: ReadonlySet<Branch>): number {
  switch (part.kind) {
    case 'instruction':
      return part.encoded.bytes.length;
    case 'branch':
      return part.short === undefined || near.has(part) ? part.near.length + 4 : part.short.length + 1;
    case 'data':
      return part.bytes.length;
    case 'align':
      return (part.alignment - (offset % part.alignment)) % part.alignment;
    case 'bind':
      return 0;
  }
}

/** The bytes of one item, and what is needed to fill them. */
interface Spot {
  readonly offset: number;
  /** A view of the code. */
  readonly bytes: Uint8Array;
  readonly bits: Bits;
  readonly layout: CodeLayout;
  readonly origin: number;
}

/** Text is made only when it is read: most callers want the code alone. */
interface Written extends Pick<ListingLine, 'target'> {
  readonly textOf: () => string;
}

/** The second phase. */
export function writeCode(
  items: readonly Item[],
  layout: CodeLayout,
  origin: number,
): { code: Uint8Array; listing: ListingLine[] } {
  const code = new Uint8Array(layout.offsets.at(-1) ?? 0);
  const listing: ListingLine[] = [];
  let labels: string[] = [];
  for (const [i, { part, bits, step, note }] of items.entries()) {
    const offset = layout.offsets[i] ?? 0;
    const bytes = code.subarray(offset, layout.offsets[i + 1]);
    if (part.kind === 'bind') labels.push(part.label.name);
    if (bytes.length === 0) continue;
    const data = part.kind === 'data' || part.kind === 'align';
    const { target, textOf } = writePart(part, { offset, bytes, bits, layout, origin });
    listing.push({
      offset,
      bytes,
      bits,
      data,
      labels,
      step,
      note,
      target,
      get text() {
        return textOf();
      },
    });
    labels = [];
  }
  return { code, listing };
}

function writePart(part: Item['part'], spot: Spot): Written {
  const { bytes, layout, offset } = spot;
  switch (part.kind) {
    case 'instruction': {
      bytes.set(part.encoded.bytes);
      for (const fixup of part.encoded.fixups) fill(fixup, part.instruction.mnemonic, spot);
      const context = {
        ...spot,
        end: offset + bytes.length,
        offsetOf: (label: Label) => offsetOf(layout, label, offset),
      };
      return { textOf: () => instructionText(part.instruction, context), target: part.encoded.fixups[0]?.label.name };
    }
    case 'branch':
      return writeBranch(part, spot);
    case 'data':
      bytes.set(part.bytes);
      break;
    case 'align':
      bytes.fill(part.fill);
      break;
    case 'bind':
      break;
  }
  return { textOf: () => dataText(bytes), target: undefined };
}

function writeBranch(branch: Branch, spot: Spot): Written {
  const { mnemonic, label, short, near } = branch;
  const { offset, bytes, bits, layout } = spot;
  const target = offsetOf(layout, label, offset);
  const distance = target - (offset + bytes.length);
  if (short === undefined || layout.near.has(branch)) {
    bytes.set(near);
    write32(spot, near.length, distance, mnemonic, label);
  } else {
    bytes.set(short);
    viewOf(bytes).setInt8(short.length, distance);
  }
  return { textOf: () => branchText(mnemonic, target, bits), target: label.name };
}

function fill({ at, label, addend, kind }: Fixup, mnemonic: string, spot: Spot): void {
  const { offset, bytes, layout, origin } = spot;
  const target = offsetOf(layout, label, offset) + addend;
  write32(spot, at, kind === 'relative' ? target - (offset + bytes.length) : origin + target, mnemonic, label);
}

/** In 64-bit code 32-bit displacements are sign-extended; in 32-bit code addresses go up to 2^32. */
function write32({ offset, bytes, bits }: Spot, at: number, value: number, mnemonic: string, label: Label): void {
  const max = bits === 32 ? 0xffff_ffff : 0x7fff_ffff;
  if (value < -0x8000_0000 || value > max) {
    const where = `${mnemonic} at offset ${hex(offset)}`;
    throw new AssemblyError(`${where}: reaching label '${label.name}' takes ${hex(value)}, which does not fit 32 bits`);
  }
  viewOf(bytes).setUint32(at, value, true);
}
