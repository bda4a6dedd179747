/**
 * The padding between functions: int3, or the no-operations that GNU as and LLVM fill with (Intel SDM, NOP: 90, and 0f 1f /0 with prefixes 66 and 2e).
 * Nothing else counts as padding, whatever it looks like.
 */
const INT3 = 0xcc;
const NOP = 0x90;
const PREFIXES = [0x66, 0x2e];
/** By ModRM byte of 0f 1f: what the instruction is long. */
const LONG_NOPS: Readonly<Record<number, number>> = { 0x00: 3, 0x40: 4, 0x44: 5, 0x80: 7, 0x84: 8 };

/** The part of start … end that is not padding at its ends; empty when all is. */
export function trimPadding(code: Uint8Array, start: number, end: number): [number, number] {
  const first = skipPadding(code, start, end);
  if (first === end) return [end, end];
  let last = end;
  for (let at = end - 1; at > first; at--) if (skipPadding(code, at, end) === end) last = at;
    else if (end - at > 15 && last - at > 15) break;
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
  while (at < end && at - start < 14 && PREFIXES.includes(code[at]!)) at++;
  let length = 0;
  if (code[at] === NOP) length = 1;
  else if (code[at] === 0x0f && code[at + 1] === 0x1f) length = LONG_NOPS[code[at + 2]!] ?? 0;
  return length === 0 || at + length > end ? 0 : at + length - start;
}
