/**
 * Gives each part of a program its offset, and each branch to a label its length.
 *
 * Everything but a branch has its length at once. A branch starts as rel8; whenever one does not reach, it becomes rel32 for good and
 * the offsets are counted again, until nothing changes (Szymanski, "Assembling code for machines with span-dependent instructions",
 * CACM 21(4), 1978). A branch only ever grows, so this ends after at most one round a branch, and without alignment in between it gives
 * the shortest program.
 */
import { hex } from '../base/errors.ts';
import type { Encoded, Instruction } from './encoder.ts';
import { AssemblyError } from './misuse.ts';
import type { Label } from './operands.ts';
import type { Bits } from './registers.ts';

export interface Branch {
  readonly kind: 'branch';
  readonly mnemonic: string;
  readonly label: Label;
  /** Opcode before rel8. Undefined where only rel32 exists or is wanted. */
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
  readonly note: string | undefined;
}

export interface Layout {
  /** Item `i` lies from `offsets[i]` to `offsets[i + 1]`. */
  readonly offsets: readonly number[];
  readonly labels: ReadonlyMap<Label, number>;
  /** The branches that are rel32. */
  readonly near: ReadonlySet<Branch>;
}

/** `from` is for the message: the offset of what refers to the label. */
export function offsetOf(layout: Layout, label: Label, from?: number): number {
  const offset = layout.labels.get(label);
  if (offset !== undefined) return offset;
  const where = from === undefined ? '' : `, but used at offset ${hex(from)}`;
  throw new AssemblyError(`label '${label.name}' was never bound${where}; call bind(label) where it belongs`);
}

/** `fixed` are the labels that were given an offset by hand. */
export function layOut(items: readonly Item[], fixed: ReadonlyMap<Label, number>): Layout {
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

function count(items: readonly Item[], fixed: ReadonlyMap<Label, number>, near: ReadonlySet<Branch>): Layout {
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
