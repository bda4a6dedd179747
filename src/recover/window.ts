/** The instructions around one, in the order of the code. */
import type { PhysAddr } from '../base/addresses.ts';
import { Decoder } from '../x86/decoder.ts';
import type { Part, RecoverImage } from './image.ts';

/** No instruction is longer. */
const LONGEST = 15;

/** Decodes up to `count` instructions before the one at `place`, the nearest first. `place` must be one where an instruction begins. */
export function* instructionsBefore(
  image: RecoverImage,
  part: Part,
  place: PhysAddr,
  count: number,
): Generator<Decoder> {
  const decoder = new Decoder(part.bytes);
  let at: PhysAddr | undefined = place;
  for (let left = count; left > 0; left--) {
    at = image.instructions.before(at, LONGEST);
    if (at === undefined || at < part.start || !decoder.decode(at - part.start)) return;
    yield decoder;
  }
}

/** Decodes up to `count` instructions from the one at `place` on, in the order of the code or along unconditional jumps. */
export function* instructionsFrom(
  part: Part,
  place: PhysAddr,
  count: number,
  along: 'code' | 'jumps' = 'code',
): Generator<Decoder> {
  const decoder = new Decoder(part.bytes);
  let at = place - part.start;
  for (let left = count; left > 0 && at < part.bytes.length; left--) {
    if (!decoder.decode(at)) return;
    yield decoder;
    at = decoder.next;
    if (along === 'code') continue;
    if (decoder.opcode === 0xeb) at += part.view.getInt8(at - 1);
    if (decoder.opcode === 0xe9) at += part.view.getInt32(at - 4, true);
    if (at < 0) return;
  }
}

/** The place that a RIP-relative operand names, as a physical link address; undefined for an instruction without one. */
export function ripTarget({ view, start }: Part, decoder: Decoder): PhysAddr | undefined {
  if (decoder.displacementSize !== 4 || !decoder.isRipRelative) return undefined;
  return start + decoder.next + view.getInt32(decoder.displacement, true);
}
