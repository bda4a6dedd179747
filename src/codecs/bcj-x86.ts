/**
 * The x86 BCJ filter of xz, decoding direction: turns the absolute targets of CALL (E8) and JMP (E9) back into relative ones.
 *
 * The encoder made them absolute because calls of one function from many places then look alike, and LZMA makes use of that. It cannot
 * tell code from data: it converts what follows an E8 or E9 byte if that could be a target (its top byte is 00 or FF), and has rules for opcode
 * bytes that are less than five bytes apart. Both directions must guess alike, so the rules are the format.
 * Source: lib/xz/xz_dec_bcj.c in the kernel.
 *
 * 66 MB take 30 ms; byte by byte in TypeScript, 100.
 */
import {
  FunctionBuilder,
  block,
  i32,
  load32,
  load64,
  load8,
  loop,
  store32,
  when,
  type I32,
  type Statement,
} from '../wasm/assembler.ts';

/** An opcode has a target of 4 bytes; the last 4 bytes of a block hold no opcode. */
const TARGET = 4;

/**
 * `mask`: which of the last three bytes were opcodes that were not converted; bit 0 is the last byte. Two or more of them forbid a conversion
 * (mask_to_allowed_status). A single one forbids it if the top byte of its own target, which lies in this target, is 00 or FF (mask_to_bit_num).
 */
const ALLOWED = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 4);
/** mask_to_bit_num, in bytes, packed: four bits for each mask. */
const BIT_NUMBERS = [0, 1, 2, 2, 3, 3, 3, 3].reduce((packed, bytes, mask) => packed | (bytes << (4 * mask)), 0);

const couldBeTop = (byte: I32): I32 => byte.add(1).and(0xff).atMost(1);
/** An i64 with the same byte eight times. */
const each = (byte: bigint): bigint => byte * 0x0101_0101_0101_0101n;

/** Filters from..to in place; positions count from `from`. */
export function decodeX86(): FunctionBuilder {
  const f = new FunctionBuilder('decodeX86');
  const { from, to, startOffset } = f.parameters('from', 'to', 'startOffset');
  const { at, end, last, mask, place, target } = f.locals('i32', 'at', 'end', 'last', 'mask', 'place', 'target');
  const { opcodes } = f.locals('i64', 'opcodes');

  const relative = (absolute: I32): I32 =>
    absolute
      .sub(at)
      .add(from)
      .sub(startOffset)
      .sub(1 + TARGET);

  return f.body([
    at.set(from),
    last.set(from.sub(1)),
    end.set(to.sub(TARGET)),
    when(to.sub(from).above(TARGET), [
      block((done) => [
        loop((next) => {
          const leave: Statement[] = [mask.set(mask.shl(1).or(1)), at.increase(1), next.go()];
          return [
            done.goIf(at.atLeast(end)),
            // Finds the lowest of eight bytes that is E8 or E9: the first line makes it 0, and the lowest 0 is the lowest byte that borrows.
            opcodes.set(load64(at).and(each(0xfen)).xor(each(0xe8n))),
            opcodes.set(opcodes.sub(each(1n)).and(opcodes.xor(-1n)).and(each(0x80n))),
            when(opcodes.isZero(), [at.increase(8), next.go()]),
            at.increase(opcodes.trailingZeros().shr(3).low32()),
            done.goIf(at.atLeast(end)),

            // An opcode four or more bytes back does not count.
            mask.set(mask.shl(at.sub(last).sub(1)).and(7)),
            when(at.sub(last).above(3), [mask.set(0)]),
            last.set(at),
            place.set(i32(BIT_NUMBERS).shr(mask.shl(2)).and(15)),
            when(mask, [
              when(i32(ALLOWED).shr(mask).and(1).isZero(), leave),
              when(couldBeTop(load8(at.add(TARGET).sub(place))), leave),
            ]),
            when(couldBeTop(load8(at, TARGET)).isZero(), leave),

            target.set(relative(load32(at, 1))),
            // The encoder converted a target of this form a second time. Not a third: the byte that decided is then the complement of the
            // byte tested above, and cannot be a top byte.
            place.set(place.shl(3)),
            when(mask, [
              when(couldBeTop(target.shr(i32(24).sub(place))), [target.set(relative(target.xor(i32(-1).shr(place))))]),
            ]),
            // 25 bits with sign: 16 MiB in either direction.
            store32(at, target.shl(7).sar(7), 1),
            at.increase(1 + TARGET),
            next.go(),
          ];
        }),
      ]),
    ]),
  ]);
}
