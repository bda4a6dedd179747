/**
 * The padding between functions: int3, or the no-operations that GNU as and LLVM fill with (Intel SDM, NOP: 90, and 0f 1f /0 with prefixes 66 and 2e).
 * Nothing else counts as padding, whatever it looks like.
 */
import type { Disassembler } from '../disassembler.ts';

const INT3 = 0xcc;
const NOP = 0x90;
const isPrefix = (byte: number | undefined): boolean => byte === 0x66 || byte === 0x2e;
/** By ModRM byte of 0f 1f: what the instruction is long. */
const LONG_NOPS: Readonly<Record<number, number>> = { 0x00: 3, 0x40: 4, 0x44: 5, 0x80: 7, 0x84: 8 };

/**
 * The part of start … end that is not padding at its ends; empty when all is. Ends that do not decode are kept, and so is the front where a section begins:
 * nothing pads there, so no-operations are code.
 */
export function trimPadding(
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
