/**
 * Operands, exhaustively: every register pair, every shape of address at the limits of disp8 and disp32, every immediate at the limit of a
 * width. The text is that of our listing; objdump, iced and GNU as must each agree.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Assembler, byte, dword, qword, word } from '../../src/asm/assembler.ts';
import { GPRS } from '../../src/asm/registers.ts';
import type { Bits, Gpr, OperandWidth } from '../../src/asm/registers.ts';
import { assertDisassembles, gnuAs, hexOf } from './judges.ts';

const WIDTHS = [8, 16, 32, 64] as const;
const SIZED = { 8: byte, 16: word, 32: dword, 64: qword };

function judge(bits: Bits, write: (a: Assembler) => void): void {
  const a = new Assembler({ bits });
  write(a);
  const { listing } = a.assemble();
  assertDisassembles(listing);
  assert.deepEqual(
    gnuAs(listing, bits).map((bytes, i) => `${hexOf(bytes)} ${listing[i]?.text}`),
    listing.map(({ bytes, text }) => `${hexOf(bytes)} ${text}`),
  );
}

test('register with register, of every width', () => {
  judge(64, (a) => {
    for (const width of WIDTHS) {
      for (const to of GPRS[width] as readonly Gpr[]) for (const from of GPRS[width]) a.mov(to, from);
      for (const register of GPRS[width]) {
        a.neg(register);
        a.inc(register);
        a.shl(register, 3);
        a.xor(register, 1);
        if (width !== 8) a.imul(register as Gpr, register, 100);
      }
    }
    for (const register of GPRS[64]) {
      a.push(register);
      a.pop(register);
      a.call(register);
      for (const small of GPRS[8]) a.movzx(register, small);
    }
  });
});

const DISPLACEMENTS = [0, 1, -1, 127, 128, -128, -129, 0x7fff_ffff, -0x8000_0000];

/** `data` must not be eax: in 32-bit code, as loads it from an absolute address with another opcode (A1). */
function addresses(a: Assembler, bits: Bits, data: Gpr): void {
  const registers: readonly (Gpr<32> | Gpr<64>)[] = bits === 64 ? GPRS[64] : GPRS[32].slice(0, 8);
  const memory = SIZED[data.width];
  for (const displacement of DISPLACEMENTS) {
    a.mov(data, memory(displacement));
    for (const base of [null, ...registers]) {
      if (base !== null) a.mov(memory(base, displacement), data);
      for (const index of registers) {
        if (index.number === 4) continue;
        for (const scale of [1, 2, 4, 8] as const) a.mov(data, memory(base, index, scale, displacement));
      }
    }
  }
}

test('every shape of address, 64-bit code', () => judge(64, (a) => addresses(a, 64, GPRS[64][9])));
test('every shape of address, 32-bit code', () => judge(32, (a) => addresses(a, 32, GPRS[32][1])));
test('an address with spl, which needs a REX prefix of its own', () => judge(64, (a) => addresses(a, 64, GPRS[8][4])));

/** The ends of each signed and unsigned width, and their neighbours. */
const EDGES = [7n, 8n, 15n, 16n, 31n, 32n, 63n, 64n].flatMap((n) => [
  2n ** n - 1n,
  2n ** n,
  -(2n ** n),
  -(2n ** n) - 1n,
]);

function fits(value: bigint, width: OperandWidth): boolean {
  return value >= -(2n ** BigInt(width - 1)) && value < 2n ** BigInt(width);
}

const isSigned32 = (value: bigint, width: OperandWidth): boolean => {
  const signed = BigInt.asIntN(width, value);
  return BigInt.asIntN(32, signed) === signed;
};

test('immediates at the edges of each width', () => {
  judge(64, (a) => {
    for (const width of WIDTHS) {
      for (const value of [0n, 1n, -1n, ...EDGES].filter((edge) => fits(edge, width))) {
        for (const register of [GPRS[width][0], GPRS[width][5], GPRS[width][15]] as readonly Gpr[]) {
          a.mov(register, value);
          if (!isSigned32(value, width)) continue;
          a.add(register, value);
          a.test(register, value);
          if (width !== 8) a.imul(register, register, value);
        }
        if (!isSigned32(value, width)) continue;
        a.mov(SIZED[width](GPRS[64][13]), value);
        a.cmp(SIZED[width](GPRS[64][12], 8), value);
        if (width === 64) a.push(value);
      }
    }
  });
});
