/**
 * Whether the sweep met the instructions that the processor executes: a disassembly that begins at the wrong byte finds wrong operands. The kernel's own tables name places of
 * instructions: faults that are expected, BUGs, returns, calls, alternatives. At each of them the sweep must have found that an instruction begins.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { partAt } from './image.ts';
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

/** `functions`: where the symbol table says that functions begin. */
export function checkAnchors(image: RecoverImage, functions: readonly PhysAddr[]): Anchors {
  let count = 0;
  const inData: PhysAddr[] = [];
  const off: PhysAddr[] = [];
  const tables: string[] = [];
  // Where code ends: an alternative of no instruction may name where the next one would begin.
  const dataParts = new Set(image.data);
  const codeParts = new Set(image.code);
  const ends = new Set(image.code.map(({ end }) => end));
  for (const { name, sizes, fields } of TABLES) {
    const part = image.formatted.get(name);
    if (part === undefined) continue;
    let best: { readonly count: number; readonly off: PhysAddr[] } | undefined;
    for (const size of sizes) {
      if (part.bytes.length % size !== 0) continue;
      const found = compare(image, part.view, part.start, part.bytes.length, size, fields, ends);
      if (best === undefined || found.off.length < best.off.length) best = found;
    }
    if (best === undefined) continue;
    tables.push(name);
    count += best.count;
    const isInData = (place: PhysAddr): boolean => {
      const holder = partAt(image, place);
      return holder !== undefined && dataParts.has(holder);
    };
    const outside = best.off.filter((place) => !isInData(place));
    inData.push(...best.off.filter(isInData));
    off.push(...outside);
  }
  const inCode = functions.filter((place) => {
    const holder = partAt(image, place);
    return holder !== undefined && codeParts.has(holder);
  });
  if (inCode.length > 0) {
    tables.push('.symtab');
    count += inCode.length;
    off.push(...inCode.filter((place) => !image.instructions.has(place)));
  }
  return { count, off, inData, tables };
}

function compare(
  { instructions }: RecoverImage,
  view: DataView,
  start: PhysAddr,
  length: number,
  size: number,
  fields: readonly number[],
  ends: ReadonlySet<PhysAddr>,
): { count: number; off: PhysAddr[] } {
  let count = 0;
  const off: PhysAddr[] = [];
  for (let at = 0; at + size <= length; at += size)
    for (const field of fields) {
      const distance = view.getInt32(at + field, true);
      if (distance === 0) continue; // an alternative of no instruction
      const place = start + at + field + distance;
      count++;
      if (!instructions.has(place) && !ends.has(place)) off.push(place);
    }
  return { count, off };
}
