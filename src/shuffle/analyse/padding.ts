/**
 * The padding between functions: int3, or the no-operations that GNU as and LLVM fill with (Intel SDM, NOP: 90, and 0f 1f /0 with prefixes 66 and 2e).
 * Nothing else counts as padding.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { lastAtOrBelow } from '../../base/search.ts';
import type { Disassembler } from '../disassembler.ts';
import type { TextSections } from '../read/debug-kernel.ts';
import type { InputSections } from '../read/link-map.ts';

const INT3 = 0xcc;
const NOP = 0x90;
const isPrefix = (byte: number | undefined): boolean => byte === 0x66 || byte === 0x2e;
/** By the ModRM byte of 0f 1f: the length of the instruction. */
const LONG_NOPS: Readonly<Record<number, number>> = { 0x00: 3, 0x40: 4, 0x44: 5, 0x80: 7, 0x84: 8 };

export interface TextCode {
  readonly text: TextSections;
  /** The input sections of a link map: their borders are borders of code as well. */
  readonly map: InputSections | undefined;
  /** All bytes of .text. */
  readonly code: Uint8Array;
}

/** The code between two places of .text: what lies in a section and is not padding. Nothing returned crosses a border between two sections. */
export function codeBetween(
  { text, map, code }: TextCode,
  disassembler: Disassembler,
  start: PhysAddr,
  end: PhysAddr,
): [PhysAddr, PhysAddr][] {
  const origin = text.start;
  const { extents } = text;
  const found: [PhysAddr, PhysAddr][] = [];
  const trim = (from: PhysAddr, to: PhysAddr, beginsSection: boolean): void => {
    const [one, other] = trimPadding(code, from - origin, to - origin, beginsSection, disassembler);
    if (one < other) found.push([one + origin, other + origin]);
  };
  const first = Math.max(0, lastAtOrBelow(text.starts, start));
  for (let index = first; index < extents.length && extents[index]!.start < end; index++) {
    let from = Math.max(start, extents[index]!.start);
    const to = Math.min(end, extents[index]!.end);
    if (from >= to) continue;
    let begins = from === extents[index]!.start;
    if (map !== undefined) {
      const { starts } = map;
      let next = lastAtOrBelow(starts, from);
      begins ||= next >= 0 && starts[next] === from;
      for (next++; next < starts.length && starts[next]! < to; next++) {
        trim(from, starts[next]!, begins);
        from = starts[next]!;
        begins = true;
      }
    }
    trim(from, to, begins);
  }
  return found;
}

/**
 * The part of start … end without the padding at either end; empty when all of it is padding. An end that does not decode is kept. So are no-operations where a
 * section begins: nothing pads there, so they are code.
 */
function trimPadding(
  code: Uint8Array,
  start: number,
  end: number,
  beginsSection: boolean,
  disassembler: Disassembler,
): [number, number] {
  const front = skipPadding(code, start, end);
  const first = beginsSection ? start : front;
  let last = front;
  disassembler.seek(front);
  for (let at = front; at < end;) {
    const next = disassembler.step();
    if (next < 0 || next > end) return [first, end];
    if (lengthOfPadding(code, at, end) !== next - at) last = next;
    at = next;
  }
  return [first, last];
}

/** Where padding that begins at `start` ends. */
function skipPadding(code: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end) {
    const length = lengthOfPadding(code, at, end);
    if (length === 0) break;
    at += length;
  }
  return at;
}

function lengthOfPadding(code: Uint8Array, start: number, end: number): number {
  if (code[start] === INT3) return 1;
  let at = start;
  while (at < end && at - start < 14 && isPrefix(code[at])) at++;
  let length = 0;
  if (code[at] === NOP) length = 1;
  else if (code[at] === 0x0f && code[at + 1] === 0x1f) length = LONG_NOPS[code[at + 2]!] ?? 0;
  return length === 0 || at + length > end ? 0 : at + length - start;
}
