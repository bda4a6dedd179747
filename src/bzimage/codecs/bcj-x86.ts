/**
 * The x86 BCJ filter of xz, decoding direction: turns the absolute targets of CALL (E8) and JMP (E9) back into relative ones.
 *
 * The encoder made them absolute because calls of one function from many places then look the same, which LZMA likes. Source: lib/xz/
 * xz_dec_bcj.c in the kernel. Data may look like calls; the filter guesses with the help of a mask of where E8/E9 bytes stood in the
 * last bytes, and both directions must guess alike. Hence the odd rules below: they are the format.
 */
const LOOK_AHEAD = 4;

const isMsByte = (byte: number): boolean => byte === 0 || byte === 0xff;

/** Bit n: whether a mask of n may be converted. */
const ALLOWED = [true, true, true, false, true, false, false, false];
const BIT_NUMBER = [0, 1, 2, 2, 3, 3, 3, 3];

/** Filters one whole block, in place. `startOffset`: the filter's option of that name; positions count from it. */
export function decodeX86(bytes: Uint8Array, startOffset = 0): void {
  const end = bytes.length - LOOK_AHEAD;
  let last = -1;
  let mask = 0;
  for (let at = 0; at < end; at++) {
    if ((bytes[at]! & 0xfe) !== 0xe8) continue;
    const distance = at - last;
    last = at;
    if (distance > 3) {
      mask = 0;
    } else {
      mask = (mask << (distance - 1)) & 7;
      if (mask !== 0 && (!ALLOWED[mask] || isMsByte(bytes[at + 4 - BIT_NUMBER[mask]!]!))) {
        mask = (mask << 1) | 1;
        continue;
      }
    }
    if (!isMsByte(bytes[at + 4]!)) {
      mask = (mask << 1) | 1;
      continue;
    }
    let source = bytes[at + 1]! | (bytes[at + 2]! << 8) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 24);
    let target: number;
    for (;;) {
      target = (source - (startOffset + at + 5)) | 0;
      if (mask === 0) break;
      const shift = BIT_NUMBER[mask]! * 8;
      if (!isMsByte((target >>> (24 - shift)) & 0xff)) break;
      source = target ^ ((1 << (32 - shift)) - 1);
    }
    // A 25-bit signed number: 16 MiB in either direction.
    target = (target << 7) >> 7;
    bytes[at + 1] = target;
    bytes[at + 2] = target >> 8;
    bytes[at + 3] = target >> 16;
    bytes[at + 4] = target >> 24;
    at += LOOK_AHEAD;
  }
}
