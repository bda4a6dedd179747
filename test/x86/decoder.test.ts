/** The decoder, judged by iced-x86: random bytes, with the bytes frequent that lead to prefixes and other opcode maps. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Decoder as Iced, DecoderOptions, Instruction } from 'iced-x86';
import { Decoder } from '../../src/x86/decoder.ts';
import { randomNumbers } from './random.ts';

const FREQUENT = [0x0f, 0x48, 0x66, 0x62, 0xc4, 0xc5, 0x8f, 0xc7, 0x81];
const TRIES = 60_000;

function* randomCode(): Generator<Uint8Array> {
  const next = randomNumbers(14);
  for (let count = 0; count < TRIES; count++)
    yield Uint8Array.from({ length: 24 }, () => (next(8) === 0 ? FREQUENT[next(FREQUENT.length)]! : next(256)));
}

/** What both say of the instruction: where it ends, and where its fields of 4 bytes or more are. */
interface Shape {
  readonly next: number;
  readonly displacement: number;
  readonly immediate: number;
}

function byIced(code: Uint8Array, bits: 32 | 64): Shape | undefined {
  const decoder = new Iced(bits, code, DecoderOptions.None);
  const instruction = new Instruction();
  try {
    decoder.decodeOut(instruction);
    if (decoder.lastError !== 0) return undefined;
    const offsets = decoder.getConstantOffsets(instruction);
    const shape = {
      next: instruction.length,
      displacement: offsets.displacementSize >= 4 ? offsets.displacementOffset : 0,
      immediate: offsets.immediateSize >= 4 ? offsets.immediateOffset : 0,
    };
    offsets.free();
    return shape;
  } finally {
    instruction.free();
    decoder.free();
  }
}

function byKslide(code: Uint8Array, bits: 32 | 64): Shape | undefined {
  const decoder = new Decoder(code, bits);
  if (!decoder.decode(0)) return undefined;
  return { next: decoder.next, displacement: decoder.displacement, immediate: decoder.immediate };
}

/** UD0, which kernels write without ModRM. */
const isUd0 = (code: Uint8Array): boolean => {
  const decoder = new Decoder(code);
  return decoder.decode(0) && decoder.opcode === 0x1ff;
};

for (const bits of [64, 32] as const)
  test(`${bits}-bit code: every instruction that iced-x86 finds, with the same fields`, () => {
    let valid = 0;
    for (const code of randomCode()) {
      const expected = byIced(code, bits);
      if (expected === undefined || isUd0(code)) continue;
      const actual = byKslide(code, bits);
      // 16-bit addressing in 32-bit code is refused.
      if (bits === 32 && actual === undefined && code.subarray(0, 15).includes(0x67)) continue;
      valid++;
      assert.deepEqual(actual, expected, Buffer.from(code).toString('hex'));
    }
    assert.ok(valid > TRIES / 2, `${valid} of ${TRIES} are instructions`);
  });

test('an instruction that the code ends in is none', () => {
  const next = randomNumbers(15);
  for (let count = 0; count < 3000; count++) {
    const code = Uint8Array.from({ length: 20 }, () => next(256));
    const decoder = new Decoder(code);
    if (!decoder.decode(0)) continue;
    for (let length = 0; length < decoder.next; length++)
      assert.equal(new Decoder(code.subarray(0, length)).decode(0), false, Buffer.from(code).toString('hex'));
  }
});

test('registers that moves, additions and LEA read and write', () => {
  for (const [hex, written, source, addition] of [
    ['4805002cc202', 0, 0, true], // add $0x2c22000,%rax
    ['4c8d8800100000', 9, 0, true], // lea 0x1000(%rax),%r9
    ['4889c7', 7, 0, false], // mov %rax,%rdi
    ['498bc4', 0, 12, false], // mov %r12,%rax
    ['480305fd071b00', 0, 0, true], // add 0x1b07fd(%rip),%rax
    ['4881fa00000001', -1, -1, false], // cmp $0x1000000,%rdx
    ['415c', 12, 12, false], // pop %r12
  ] as const) {
    const decoder = new Decoder(Uint8Array.from(Buffer.from(hex, 'hex')));
    assert.ok(decoder.decode(0), hex);
    assert.deepEqual(
      [decoder.writtenRegister, decoder.sourceRegister, decoder.isAddition],
      [written, source, addition],
      hex,
    );
  }
});
