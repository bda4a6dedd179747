/**
 * Whether the sweep met the instructions that the processor executes: a disassembly that begins at the wrong byte finds wrong operands. The kernel's own tables name places of
 * instructions: faults that are expected, BUGs, returns, calls, alternatives; and its symbols name functions. At each of them the sweep must have found that an instruction begins.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { partAt } from './image.ts';
import type { Part, RecoverImage } from './image.ts';
import type { PvhCode } from './rules/pvh.ts';
import type { Symbols } from './symbols.ts';

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
  /** Symbols of code in kallsyms at which no instruction begins: a few, which may be labels of data. */
  readonly strays: readonly PhysAddr[];
}

/** `pvh`: code that the sweep left out. */
export function checkAnchors(image: RecoverImage, symbols: readonly Symbols[], pvh: PvhCode | undefined): Anchors {
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
  let strays: PhysAddr[] = [];
  for (const each of symbols) {
    const { source } = each;
    const found = compareFunctions(image, codeParts, each.functions);
    if (found.count === 0) continue;
    tables.push(source);
    count += found.count;
    if (source === 'kallsyms')
      strays = found.off.filter((place) => !isInside(pvh, place) && !isSecondEntry(image, each, place));
    else off.push(...found.off);
  }
  // One label of data in code is no reason to refuse a kernel. A sweep that is off meets many functions wrongly.
  if (strays.length > MOST_STRAYS) {
    off.push(...strays);
    strays = [];
  }
  return { count, off, inData, tables, strays };
}

/** Kernels that were tried have none. */
const MOST_STRAYS = 8;
/** No instruction is longer. */
const LONGEST = 15;

/** `functions`: where they begin. Those outside the code, such as _etext, are not compared. 5 ms for 150,000 of them. */
function compareFunctions(
  image: RecoverImage,
  codeParts: ReadonlySet<Part>,
  functions: ArrayLike<PhysAddr>,
): { count: number; off: PhysAddr[] } {
  let count = 0;
  const off: PhysAddr[] = [];
  let part: Part | undefined;
  let isCode = false;
  for (let index = 0; index < functions.length; index++) {
    const place = functions[index]!;
    if (part === undefined || place < part.start || place >= part.end) {
      part = partAt(image, place);
      isCode = part !== undefined && codeParts.has(part);
    }
    if (!isCode) continue;
    count++;
    if (!image.instructions.has(place) && off.at(-1) !== place) off.push(place);
  }
  return { count, off };
}

function isInside(pvh: PvhCode | undefined, place: PhysAddr): boolean {
  return pvh !== undefined && place >= pvh.start && place < pvh.end;
}

/**
 * retbleed_untrain_ret and srso_untrain_ret are an instruction of which the last bytes are another one, with a symbol of its own: retbleed_return_thunk, srso_safe_ret. So both begin at a symbol. The instruction over a function that the sweep missed
 * begins anywhere.
 */
function isSecondEntry({ instructions }: RecoverImage, { hasSymbolAt }: Symbols, place: PhysAddr): boolean {
  const outer = instructions.before(place, LONGEST);
  return outer !== undefined && hasSymbolAt(outer);
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
