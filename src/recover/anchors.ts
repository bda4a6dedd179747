/**
 * Whether the sweep met the instructions that the processor executes: a disassembly that begins at the wrong byte finds wrong operands. The kernel's own tables name places of
 * instructions: faults that are expected, BUGs, returns, calls, alternatives. At each of them the sweep must have found that an instruction begins.
 */
import type { PhysAddr } from '../base/addresses.ts';
import type { RecoverImage } from './image.ts';

/** Tables of code, with the size of an entry and where in it the distance to an instruction is. Distances are from the field itself. */
const TABLES: readonly {
  readonly name: string;
  readonly sizes: readonly number[];
  readonly fields: readonly number[];
}[] = [
  { name: '__ex_table', sizes: [12], fields: [0, 4] },
  { name: '__bug_table', sizes: [12, 16], fields: [0] },
  { name: '.return_sites', sizes: [4], fields: [0] },
  { name: '.call_sites', sizes: [4], fields: [0] },
  { name: '.retpoline_sites', sizes: [4], fields: [0] },
  { name: '.altinstructions', sizes: [14, 12, 13], fields: [0, 4] },
];

export interface Anchors {
  /** Places that were compared. */
  readonly count: number;
  /** Those at which the sweep found no instruction. */
  readonly off: readonly PhysAddr[];
  /** Those in data (code-in-data.ts). */
  readonly inData: readonly PhysAddr[];
  readonly tables: readonly string[];
}

export function checkAnchors(image: RecoverImage): Anchors {
  let count = 0;
  const inData: PhysAddr[] = [];
  const off: PhysAddr[] = [];
  const tables: string[] = [];
  for (const { name, sizes, fields } of TABLES) {
    const part = image.formatted.get(name);
    if (part === undefined) continue;
    let best: { readonly count: number; readonly off: PhysAddr[] } | undefined;
    for (const size of sizes) {
      if (part.bytes.length % size !== 0) continue;
      const found = compare(image, part.view, part.start, part.bytes.length, size, fields);
      if (best === undefined || found.off.length < best.off.length) best = found;
    }
    if (best === undefined) continue;
    tables.push(name);
    count += best.count;
    const isInData = (place: PhysAddr): boolean => image.data.some(({ start, end }) => place >= start && place < end);
    const outside = best.off.filter((place) => !isInData(place));
    inData.push(...best.off.filter(isInData));
    off.push(...outside);
  }
  return { count, off, inData, tables };
}

function compare(
  { code, instructions }: RecoverImage,
  view: DataView,
  start: PhysAddr,
  length: number,
  size: number,
  fields: readonly number[],
): { count: number; off: PhysAddr[] } {
  let count = 0;
  const off: PhysAddr[] = [];
  for (let at = 0; at + size <= length; at += size)
    for (const field of fields) {
      const distance = view.getInt32(at + field, true);
      if (distance === 0) continue; // an alternative of no instruction
      const place = start + at + field + distance;
      count++;
      // An alternative of no instruction may also name where the next one begins.
      if (!instructions.has(place) && !code.some(({ end }) => end === place)) off.push(place);
    }
  return { count, off };
}
