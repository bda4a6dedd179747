/**
 * The choice of an encoding: for each family of instructions that share a shape, a function that makes the method.
 *
 * `arithmetic(out, 'add', 0)` is the method `add`: it looks at its operands, picks the shortest row of the SDM's opcode table (vol. 2,
 * chapters 3 to 5; the comments quote the rows) and gives it to `out`. Where two rows are equally long it picks the one that GNU as
 * picks, so that the tests can compare bytes. Wrong operands throw here, with the name of the instruction.
 */
import type { Instruction, ShownOperand } from './encoder.ts';
import { AssemblyError } from './misuse.ts';
import { Label, toSigned } from './operands.ts';
import type { Immediate, Memory } from './operands.ts';
import { atWidth } from './registers.ts';
import type { Bits, ControlRegister, Gpr, SegmentRegister, Width } from './registers.ts';

/** Where instructions go, and what they are decoded as there. */
export interface Sink {
  readonly bits: Bits;
  emit(instruction: Instruction): void;
  /** A branch whose length is chosen once labels have offsets. `short` is undefined where only rel32 exists or is wanted. */
  branch(branch: {
    mnemonic: string;
    label: Label;
    short: readonly number[] | undefined;
    near: readonly number[];
  }): void;
}

/** Most rows come in two opcodes: an even one for 8-bit operands and the next for all other widths. */
const forWidth = (opcode: number, width: Width): number => (width === 8 ? opcode : opcode + 1);

const isMemory = (operand: unknown): operand is Memory =>
  typeof operand === 'object' && operand !== null && 'kind' in operand && operand.kind === 'memory';
const isGpr = (operand: unknown): operand is Gpr =>
  typeof operand === 'object' && operand !== null && 'kind' in operand && operand.kind === 'gpr';

export const immediateShown = (value: bigint | Label, width: Width): ShownOperand => ({
  kind: 'immediate',
  value,
  width,
});
export const verbatim = (text: string): ShownOperand => ({ kind: 'verbatim', text });
const fitsByte = (value: bigint): boolean => value >= -128n && value <= 127n;
const named = (operand: Gpr | Memory): string => (operand.kind === 'gpr' ? operand.name : 'memory');

/** The width that all given operands have; registers and sized memory say it, `mem` does not. */
function widthOf(mnemonic: string, ...operands: (Gpr | Memory)[]): Width {
  let width: Width | undefined;
  for (const operand of operands) {
    if (operand.width === undefined) continue;
    if (width !== undefined && width !== operand.width) {
      const list = operands.map((o) => `${named(o)} (${o.width ?? '?'} bits)`).join(' and ');
      throw new AssemblyError(
        `${mnemonic}: ${list} differ in width; use movzx or movsx to widen, or the register of the other width`,
      );
    }
    width = operand.width;
  }
  if (width === undefined)
    throw new AssemblyError(`${mnemonic}: memory of unknown size; use byte, word, dword or qword, not mem`);
  return width;
}

function notByte(mnemonic: string, width: Width): Width {
  if (width === 8) throw new AssemblyError(`${mnemonic}: has no 8-bit form`);
  return width;
}

function bothMemory(mnemonic: string): AssemblyError {
  return new AssemblyError(`${mnemonic}: two memory operands; load one into a register first`);
}

/** An immediate of at most 32 bits that the processor sign-extends to the operand. */
function extended(mnemonic: string, value: Immediate, width: Width): bigint {
  const signed = toSigned(value, width, mnemonic);
  if (BigInt.asIntN(32, signed) === signed) return signed;
  throw new AssemblyError(
    `${mnemonic}: immediate 0x${BigInt.asUintN(64, signed).toString(16)} is not a sign-extended 32-bit value; mov it to a register first`,
  );
}

const immediateBytes = (width: Width): 1 | 2 | 4 => (width === 8 ? 1 : width === 16 ? 2 : 4);

export function unsignedByte(mnemonic: string, value: number, limit: number): bigint {
  if (Number.isInteger(value) && value >= 0 && value < limit) return BigInt(value);
  throw new AssemblyError(`${mnemonic}: ${value} is not between 0 and ${limit - 1}`);
}

/** The label's address as imm32, which exists for operands of 32 and 64 bits. */
function labelWidth(mnemonic: string, label: Label, width: Width): Width {
  if (width === 32 || width === 64) return width;
  throw new AssemblyError(`${mnemonic}: the address of label '${label.name}' does not fit ${width} bits`);
}

type Source<W extends Width> = Gpr<NoInfer<W>> | Memory | Immediate | Label;

/** add, or, adc, sbb, and, sub, xor, cmp: the digit is also bits 5:3 of the opcode. */
export function arithmetic(out: Sink, mnemonic: string, digit: number) {
  const group = digit << 3;
  return <W extends Width>(to: Gpr<W> | Memory, from: Source<W>): void => {
    if (isGpr(from)) {
      const width = widthOf(mnemonic, to, from); // 00 /r, 01 /r
      out.emit({ mnemonic, shown: [to, from], width, opcode: [forWidth(group, width)], reg: from, rm: to });
      return;
    }
    if (isMemory(from)) {
      if (to.kind === 'memory') throw bothMemory(mnemonic);
      const width = widthOf(mnemonic, to, from); // 02 /r, 03 /r
      out.emit({ mnemonic, shown: [to, from], width, opcode: [forWidth(group | 2, width)], reg: to, rm: from });
      return;
    }
    const width = widthOf(mnemonic, to);
    const value = from instanceof Label ? from : extended(mnemonic, from, width);
    if (value instanceof Label) labelWidth(mnemonic, value, width);
    const common = { mnemonic, shown: [to, immediateShown(value, width)], width };
    if (typeof value === 'bigint' && width !== 8 && fitsByte(value)) {
      out.emit({ ...common, opcode: [0x83], reg: digit, rm: to, immediate: { value, bytes: 1 } }); // 83 /digit ib
      return;
    }
    const immediate = { value, bytes: immediateBytes(width) };
    const accumulator = to.kind === 'gpr' && to.number === 0;
    if (accumulator) out.emit({ ...common, opcode: [forWidth(group | 4, width)], immediate }); // 04 ib, 05 id
    else out.emit({ ...common, opcode: [forWidth(0x80, width)], reg: digit, rm: to, immediate }); // 80 /digit ib, 81 /digit id
  };
}

export interface Move {
  <W extends Width>(to: Gpr<W>, from: Source<W>): void;
  (to: Memory, from: Gpr | SegmentRegister | Immediate | Label): void;
  (to: SegmentRegister, from: Gpr<16> | Gpr<32> | Gpr<64> | Memory): void;
  (to: Gpr<16> | Gpr<32> | Gpr<64>, from: SegmentRegister): void;
  (to: ControlRegister, from: Gpr<32> | Gpr<64>): void;
  (to: Gpr<32> | Gpr<64>, from: ControlRegister): void;
}

type MoveOperand = Gpr | Memory | SegmentRegister | ControlRegister | Immediate | Label;

export function move(out: Sink): Move {
  const mnemonic = 'mov';

  const control = (register: ControlRegister, gpr: MoveOperand, opcode: number, toControl: boolean): void => {
    if (!isGpr(gpr) || gpr.width !== out.bits) {
      throw new AssemblyError(
        `mov: ${register.name} is read and written with a ${out.bits}-bit register in ${out.bits}-bit code`,
      );
    }
    // 0F 20 /r, 0F 22 /r: no REX.W, the width is that of the mode.
    out.emit({
      mnemonic,
      shown: toControl ? [register, gpr] : [gpr, register],
      opcode: [0x0f, opcode],
      reg: register,
      rm: gpr,
    });
  };

  const toSegment = (register: SegmentRegister, from: MoveOperand): void => {
    if (!isMemory(from) && !isGpr(from))
      throw new AssemblyError(`mov: ${register.name} is loaded from a register or from memory`);
    if (isMemory(from) ? from.width !== 16 : from.width === 8) {
      throw new AssemblyError(
        `mov: ${register.name} holds 16 bits; load it from word(…) or a register of at least 16 bits`,
      );
    }
    // 8E /r. The width of the register makes no difference to the processor; like GNU as, encode the shortest, 32 bits.
    const rm = isGpr(from) ? atWidth(from, 32) : from;
    out.emit({ mnemonic, shown: [register, rm], opcode: [0x8e], reg: register, rm });
  };

  const fromSegment = (to: MoveOperand, register: SegmentRegister): void => {
    if (isMemory(to) && to.width === 16) {
      out.emit({ mnemonic, shown: [to, register], opcode: [0x8c], reg: register, rm: to }); // 8C /r
    } else if (isGpr(to) && to.width !== 8) {
      // A 32-bit destination is zero-extended to 64 bits, so REX.W would add nothing.
      const rm = to.width === 64 ? atWidth(to, 32) : to;
      out.emit({ mnemonic, shown: [rm, register], width: rm.width, opcode: [0x8c], reg: register, rm });
    } else
      throw new AssemblyError(
        `mov: ${register.name} holds 16 bits; store it to word(…) or a register of at least 16 bits`,
      );
  };

  const immediate = (to: Gpr | Memory, from: Immediate | Label): void => {
    const width = widthOf(mnemonic, to);
    if (to.kind === 'gpr' && typeof from !== 'object') {
      const value = toSigned(from, width, mnemonic);
      const unsigned = BigInt.asUintN(width, value);
      if (width === 64 && unsigned <= 0xffff_ffffn) return immediate(atWidth(to, 32), unsigned); // zero-extended, and shorter
      if (width === 64 && BigInt.asIntN(32, value) !== value) {
        const row = { width, opcode: [0xb8], plusRegister: to, immediate: { value, bytes: 8 as const } }; // REX.W + B8+ rd io
        return out.emit({ mnemonic: 'movabs', shown: [to, immediateShown(value, width)], ...row });
      }
      if (width !== 64) {
        const row = { opcode: [width === 8 ? 0xb0 : 0xb8], plusRegister: to }; // B0+ rb ib, B8+ rd id
        const shown = [to, immediateShown(value, width)];
        return out.emit({ mnemonic, shown, width, ...row, immediate: { value, bytes: immediateBytes(width) } });
      }
    }
    const value = typeof from === 'object' ? from : extended(mnemonic, from, width);
    if (typeof value === 'object') labelWidth(mnemonic, value, width);
    const bytes = immediateBytes(width);
    const shown = [to, immediateShown(value, width)];
    if (to.kind === 'gpr' && width === 32) {
      return out.emit({ mnemonic, shown, width, opcode: [0xb8], plusRegister: to, immediate: { value, bytes } });
    }
    out.emit({ mnemonic, shown, width, opcode: [forWidth(0xc6, width)], reg: 0, rm: to, immediate: { value, bytes } }); // C6 /0 ib, C7 /0 id
  };

  return (to: MoveOperand, from: MoveOperand): void => {
    if (typeof to !== 'object' || to.kind === 'label')
      throw new AssemblyError('mov: the destination is a register or memory');
    if (to.kind === 'control') return control(to, from, 0x22, true);
    if (to.kind === 'segment') return toSegment(to, from);
    if (typeof from !== 'object' || from.kind === 'label') return immediate(to, from);
    if (from.kind === 'control') return control(from, to, 0x20, false);
    if (from.kind === 'segment') return fromSegment(to, from);
    if (to.kind === 'memory' && from.kind === 'memory') throw bothMemory(mnemonic);
    const width = widthOf(mnemonic, to, from);
    if (from.kind === 'gpr')
      out.emit({ mnemonic, shown: [to, from], width, opcode: [forWidth(0x88, width)], reg: from, rm: to }); // 88 /r
    else if (to.kind === 'gpr') {
      out.emit({ mnemonic, shown: [to, from], width, opcode: [forWidth(0x8a, width)], reg: to, rm: from }); // 8A /r
    }
  };
}

/** movzx, movsx: from 8 or 16 bits to more. */
export function extend(out: Sink, mnemonic: string, opcode: number) {
  return (to: Gpr<16> | Gpr<32> | Gpr<64>, from: Gpr<8> | Gpr<16> | Memory): void => {
    const width = from.width;
    if (width !== 8 && width !== 16) {
      const instead = mnemonic === 'movsx' ? 'movsxd' : 'mov to a 32-bit register, which zero-extends';
      throw new AssemblyError(`${mnemonic}: from byte or word only; from dword use ${instead}`);
    }
    if (to.width <= width) throw new AssemblyError(`${mnemonic}: ${to.name} is not wider than ${width} bits; use mov`);
    out.emit({
      mnemonic,
      shown: [to, from],
      width: to.width,
      opcode: [0x0f, forWidth(opcode, width)],
      reg: to,
      rm: from,
    });
  };
}

/** REX.W + 63 /r. */
export function extendDword(out: Sink) {
  return (to: Gpr<64>, from: Gpr<32> | Memory): void => {
    if (to.width !== 64 || from.width !== 32) throw new AssemblyError('movsxd: from 32 bits to 64 bits only');
    out.emit({ mnemonic: 'movsxd', shown: [to, from], width: 64, opcode: [0x63], reg: to, rm: from });
  };
}

/** 8D /r. */
export function loadAddress(out: Sink) {
  return (to: Gpr<32> | Gpr<64>, address: Memory): void => {
    if (address.width !== undefined)
      throw new AssemblyError('lea: computes an address and reads nothing; write it as mem(…)');
    out.emit({
      mnemonic: 'lea',
      shown: [to, address],
      width: notByte('lea', to.width),
      opcode: [0x8d],
      reg: to,
      rm: address,
    });
  };
}

export function exchange(out: Sink) {
  const mnemonic = 'xchg';
  return <W extends Width>(first: Gpr<W> | Memory, second: Gpr<NoInfer<W>> | Memory): void => {
    if (first.kind === 'memory' && second.kind === 'memory') throw bothMemory(mnemonic);
    const width = widthOf(mnemonic, first, second);
    // 90+ rd. Not for an accumulator with itself: 90 is nop, which would not clear the upper half of rax.
    if (width !== 8 && first.kind === 'gpr' && second.kind === 'gpr' && first.number !== second.number) {
      const accumulator = [first, second].find((register) => register.number === 0);
      const other = accumulator === first ? second : first;
      if (accumulator !== undefined) {
        out.emit({ mnemonic, shown: [other, accumulator], width, opcode: [0x90], plusRegister: other });
        return;
      }
    }
    const [rm, reg] = second.kind === 'gpr' ? [first, second] : [second, first as Gpr];
    out.emit({ mnemonic, shown: [rm, reg], width, opcode: [forWidth(0x86, width)], reg, rm }); // 86 /r, 87 /r
  };
}

export function test(out: Sink) {
  const mnemonic = 'test';
  return <W extends Width>(first: Gpr<W> | Memory, second: Gpr<NoInfer<W>> | Memory | Immediate): void => {
    if (typeof second === 'object') {
      if (first.kind === 'memory' && second.kind === 'memory') throw bothMemory(mnemonic);
      const width = widthOf(mnemonic, first, second);
      const [rm, reg] = second.kind === 'gpr' ? [first, second] : [second, first as Gpr];
      out.emit({ mnemonic, shown: [rm, reg], width, opcode: [forWidth(0x84, width)], reg, rm }); // 84 /r, 85 /r
      return;
    }
    const width = widthOf(mnemonic, first);
    const value = extended(mnemonic, second, width);
    const common = { mnemonic, shown: [first, immediateShown(value, width)], width };
    const immediate = { value, bytes: immediateBytes(width) };
    const accumulator = first.kind === 'gpr' && first.number === 0;
    if (accumulator) out.emit({ ...common, opcode: [forWidth(0xa8, width)], immediate }); // A8 ib, A9 id
    else out.emit({ ...common, opcode: [forWidth(0xf6, width)], reg: 0, rm: first, immediate }); // F6 /0 ib, F7 /0 id
  };
}

/** One operand that is read and written: not, neg, mul, div (F6 /digit) and inc, dec (FE /digit). */
export function unary(out: Sink, mnemonic: string, opcode: number, digit: number) {
  return (operand: Gpr | Memory): void => {
    const width = widthOf(mnemonic, operand);
    out.emit({ mnemonic, shown: [operand], width, opcode: [forWidth(opcode, width)], reg: digit, rm: operand });
  };
}

export function signedMultiply(out: Sink) {
  const mnemonic = 'imul';
  const one = unary(out, mnemonic, 0xf6, 5);
  return <W extends Width>(to: Gpr<W> | Memory, from?: Gpr<NoInfer<W>> | Memory, factor?: Immediate): void => {
    if (from === undefined) return one(to); // F6 /5
    if (to.kind === 'memory') throw new AssemblyError('imul: with two or three operands the destination is a register');
    const width = notByte(mnemonic, widthOf(mnemonic, to, from));
    if (factor === undefined) {
      return out.emit({ mnemonic, shown: [to, from], width, opcode: [0x0f, 0xaf], reg: to, rm: from }); // 0F AF /r
    }
    const value = extended(mnemonic, factor, width);
    const short = fitsByte(value);
    const immediate = { value, bytes: short ? (1 as const) : immediateBytes(width) };
    const shown = [to, from, immediateShown(value, width)];
    out.emit({ mnemonic, shown, width, opcode: [short ? 0x6b : 0x69], reg: to, rm: from, immediate }); // 6B /r ib, 69 /r id
  };
}

/** By one D0 /digit, by an immediate C0 /digit ib, by cl D2 /digit. */
export function shift(out: Sink, mnemonic: string, digit: number) {
  return (operand: Gpr | Memory, count: number | Gpr<8>): void => {
    const width = widthOf(mnemonic, operand);
    const common = { mnemonic, width, reg: digit, rm: operand };
    if (typeof count === 'object') {
      if (count.number !== 1 || count.width !== 8)
        throw new AssemblyError(`${mnemonic}: the count is a number or cl, not ${count.name}`);
      return out.emit({ ...common, shown: [operand, count], opcode: [forWidth(0xd2, width)] });
    }
    if (count === 1) return out.emit({ ...common, shown: [operand, verbatim('1')], opcode: [forWidth(0xd0, width)] });
    // The processor takes the count modulo 32 (64 with REX.W); a larger one is a mistake.
    const value = unsignedByte(mnemonic, count, width === 64 ? 64 : 32);
    const shown = [operand, immediateShown(value, 8)];
    out.emit({ ...common, shown, opcode: [forWidth(0xc0, width)], immediate: { value, bytes: 1 } });
  };
}

/** bt, bts, btr, btc: 0F opcode /r, or 0F BA /digit ib. */
export function bitTest(out: Sink, mnemonic: string, opcode: number, digit: number) {
  return <W extends Width>(operand: Gpr<W> | Memory, bit: number | Gpr<NoInfer<W>>): void => {
    if (typeof bit === 'object') {
      const width = notByte(mnemonic, widthOf(mnemonic, operand, bit));
      return out.emit({ mnemonic, shown: [operand, bit], width, opcode: [0x0f, opcode], reg: bit, rm: operand });
    }
    const width = notByte(mnemonic, widthOf(mnemonic, operand));
    const value = unsignedByte(mnemonic, bit, width);
    const shown = [operand, immediateShown(value, 8)];
    out.emit({ mnemonic, shown, width, opcode: [0x0f, 0xba], reg: digit, rm: operand, immediate: { value, bytes: 1 } });
  };
}

/** 0F opcode /r with a register destination: bsf, bsr, tzcnt, popcnt, cmovcc. */
export function toRegister(out: Sink, mnemonic: string, opcode: number, prefix?: 0xf3) {
  return <W extends Width>(to: Gpr<W>, from: Gpr<NoInfer<W>> | Memory): void => {
    const width = notByte(mnemonic, widthOf(mnemonic, to, from));
    out.emit({ mnemonic, shown: [to, from], width, prefix, opcode: [0x0f, opcode], reg: to, rm: from });
  };
}
