/**
 * The second phase: with every offset known (layout.ts), write the code, fill in what refers to labels, and say what it is.
 */
import { viewOf } from '../base/bytes.ts';
import { hex } from '../base/errors.ts';
import type { Fixup } from './encoder.ts';
import { offsetOf } from './layout.ts';
import type { Branch, Item, Layout } from './layout.ts';
import { branchText, dataText, instructionText } from './listing.ts';
import type { ListingLine } from './listing.ts';
import { AssemblyError } from './misuse.ts';
import type { Label } from './operands.ts';
import type { Bits } from './registers.ts';

/** The bytes of one item, and what it takes to fill them. */
interface Spot {
  readonly offset: number;
  /** A view of the code. */
  readonly bytes: Uint8Array;
  readonly bits: Bits;
  readonly layout: Layout;
  readonly origin: number;
}

/** The text is made when somebody reads it: `convert` wants the code alone, and quickly. */
interface Written extends Pick<ListingLine, 'target'> {
  readonly textOf: () => string;
}

export function write(
  items: readonly Item[],
  layout: Layout,
  origin: number,
): { code: Uint8Array; listing: ListingLine[] } {
  const code = new Uint8Array(layout.offsets.at(-1) ?? 0);
  const listing: ListingLine[] = [];
  let labels: string[] = [];
  for (const [i, { part, bits, note }] of items.entries()) {
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
      const place = {
        ...spot,
        end: offset + bytes.length,
        offsetOf: (label: Label) => offsetOf(layout, label, offset),
      };
      return { textOf: () => instructionText(part.instruction, place), target: part.encoded.fixups[0]?.label.name };
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

/** In 64-bit code all 32-bit displacements are sign-extended; in 32-bit code addresses go up to 2^32. */
function write32({ offset, bytes, bits }: Spot, at: number, value: number, mnemonic: string, label: Label): void {
  const max = bits === 32 ? 0xffff_ffff : 0x7fff_ffff;
  if (value < -0x8000_0000 || value > max) {
    const where = `${mnemonic} at offset ${hex(offset)}`;
    throw new AssemblyError(`${where}: reaching label '${label.name}' takes ${hex(value)}, which does not fit 32 bits`);
  }
  viewOf(bytes).setUint32(at, value, true);
}
