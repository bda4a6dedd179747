/** Families that compute: those of 80 /digit, test, one-operand arithmetic, imul, shifts, bits. */
import { AssemblyError } from '../operands.ts';
import type { Immediate, Label, Memory } from '../operands.ts';
import type { Gpr, OperandWidth } from '../registers.ts';
import {
  bothMemory,
  byteImmediate,
  extendedImmediate,
  fitsByte,
  forWidth,
  immediateBytes,
  rmAndReg,
  shownImmediate,
  verbatim,
  wideWidthOf,
  widthOf,
} from './common.ts';
import type { Sink } from './common.ts';

const isOperand = (operand: Gpr | Memory | Immediate | Label): operand is Gpr | Memory =>
  typeof operand === 'object' && operand.kind !== 'label';

const isAccumulator = (operand: Gpr | Memory): boolean => operand.kind === 'gpr' && operand.number === 0;

/** add, or, and, sub, xor, cmp. The digit is also bits 5:3 of the opcodes without one. */
export function arithmetic(out: Sink, mnemonic: string, digit: number) {
  const opcodes = digit << 3;
  return <W extends OperandWidth>(to: Gpr<W> | Memory, from: Gpr<NoInfer<W>> | Memory | Immediate | Label): void => {
    if (isOperand(from)) {
      const width = widthOf(mnemonic, to, from);
      const common = { mnemonic, shown: [to, from], width };
      if (from.kind === 'gpr') out.emit({ ...common, opcode: [forWidth(opcodes, width)], reg: from, rm: to }); // 00 /r, 01 /r
      else if (to.kind === 'gpr') out.emit({ ...common, opcode: [forWidth(opcodes + 2, width)], reg: to, rm: from }); // 02 /r, 03 /r
      else throw bothMemory(mnemonic);
      return;
    }
    const width = widthOf(mnemonic, to);
    const value = extendedImmediate(mnemonic, from, width);
    const common = { mnemonic, shown: [to, shownImmediate(value, width)], width };
    const immediate = { value, bytes: immediateBytes(width) };
    if (width !== 8 && typeof value === 'bigint' && fitsByte(value)) {
      out.emit({ ...common, opcode: [0x83], reg: digit, rm: to, immediate: { value, bytes: 1 } }); // 83 /digit ib
    } else if (isAccumulator(to)) {
      out.emit({ ...common, opcode: [forWidth(opcodes + 4, width)], immediate }); // 04 ib, 05 id
    } else {
      out.emit({ ...common, opcode: [forWidth(0x80, width)], reg: digit, rm: to, immediate }); // 80 /digit ib, 81 /digit id
    }
  };
}

export function testBits(out: Sink) {
  return <W extends OperandWidth>(first: Gpr<W> | Memory, second: Gpr<NoInfer<W>> | Memory | Immediate): void => {
    if (isOperand(second)) {
      const { rm, reg } = rmAndReg('test', first, second);
      const width = widthOf('test', rm, reg);
      out.emit({ mnemonic: 'test', shown: [rm, reg], width, opcode: [forWidth(0x84, width)], reg, rm }); // 84 /r, 85 /r
      return;
    }
    const width = widthOf('test', first);
    const value = extendedImmediate('test', second, width);
    const common = { mnemonic: 'test', shown: [first, shownImmediate(value, width)], width };
    const immediate = { value, bytes: immediateBytes(width) };
    if (isAccumulator(first)) out.emit({ ...common, opcode: [forWidth(0xa8, width)], immediate }); // A8 ib, A9 id
    else out.emit({ ...common, opcode: [forWidth(0xf6, width)], reg: 0, rm: first, immediate }); // F6 /0 ib, F7 /0 id
  };
}

/** not, neg, mul: F6 /digit, F7 /digit. */
export function unary(out: Sink, mnemonic: string, digit: number) {
  return (operand: Gpr | Memory): void => {
    const width = widthOf(mnemonic, operand);
    out.emit({ mnemonic, shown: [operand], width, opcode: [forWidth(0xf6, width)], reg: digit, rm: operand });
  };
}

/** inc, dec: FE /digit, FF /digit; in 32-bit code 40+ rd, 48+ rd, whose bytes are REX prefixes in 64-bit mode. */
export function increment(out: Sink, mnemonic: string, digit: number) {
  return (operand: Gpr | Memory): void => {
    const width = widthOf(mnemonic, operand);
    const common = { mnemonic, shown: [operand], width };
    if (out.bits === 32 && operand.kind === 'gpr' && width !== 8) {
      out.emit({ ...common, opcode: [0x40 | (digit << 3)], plusRegister: operand });
    } else out.emit({ ...common, opcode: [forWidth(0xfe, width)], reg: digit, rm: operand });
  };
}

/** Two operands 0F AF /r; with a constant factor 6B /r ib or 69 /r id. */
export function signedMultiply(out: Sink) {
  return <W extends OperandWidth>(to: Gpr<W>, from: Gpr<NoInfer<W>> | Memory, factor?: Immediate): void => {
    if (to.kind !== 'gpr') throw new AssemblyError('imul: the destination of two or three operands is a register');
    const width = wideWidthOf('imul', to, from);
    const common = { mnemonic: 'imul', width, reg: to, rm: from };
    if (factor === undefined) return out.emit({ ...common, shown: [to, from], opcode: [0x0f, 0xaf] });
    const value = extendedImmediate('imul', factor, width);
    const short = typeof value === 'bigint' && fitsByte(value);
    const immediate = { value, bytes: short ? 1 : immediateBytes(width) };
    const shown = [to, from, shownImmediate(value, width)];
    out.emit({ ...common, shown, opcode: [short ? 0x6b : 0x69], immediate });
  };
}

/** rol, ror, shl, shr: by one D0 /digit, by more C0 /digit ib. */
export function shift(out: Sink, mnemonic: string, digit: number) {
  return (operand: Gpr | Memory, count: number): void => {
    const width = widthOf(mnemonic, operand);
    const common = { mnemonic, width, reg: digit, rm: operand };
    if (count === 1) {
      out.emit({ ...common, shown: [operand, verbatim('1')], opcode: [forWidth(0xd0, width)] });
    } else {
      const value = byteImmediate(mnemonic, count, width); // the processor would mask a larger one
      const shown = [operand, shownImmediate(value, 8)];
      out.emit({ ...common, shown, opcode: [forWidth(0xc0, width)], immediate: { value, bytes: 1 } });
    }
  };
}

/** bt, bts, btr: 0F opcode /r, 0F BA /digit ib. */
export function bitTest(out: Sink, mnemonic: string, opcode: number, digit: number) {
  return <W extends OperandWidth>(operand: Gpr<W> | Memory, bit: number | Gpr<NoInfer<W>>): void => {
    if (typeof bit === 'object') {
      const width = wideWidthOf(mnemonic, operand, bit);
      out.emit({ mnemonic, shown: [operand, bit], width, opcode: [0x0f, opcode], reg: bit, rm: operand });
      return;
    }
    const width = wideWidthOf(mnemonic, operand);
    const value = byteImmediate(mnemonic, bit, width);
    const row = { opcode: [0x0f, 0xba], reg: digit, rm: operand, immediate: { value, bytes: 1 } } as const;
    out.emit({ mnemonic, shown: [operand, shownImmediate(value, 8)], width, ...row });
  };
}

/** Read r/m, write a register, 0F opcode /r: bsf, bsr, cmovcc; after F3: tzcnt, popcnt. */
export function intoRegister(out: Sink, mnemonic: string, opcode: number, prefix?: 0xf3) {
  return <W extends OperandWidth>(to: Gpr<W>, from: Gpr<NoInfer<W>> | Memory): void => {
    const width = wideWidthOf(mnemonic, to, from);
    out.emit({ mnemonic, shown: [to, from], prefix, width, opcode: [0x0f, opcode], reg: to, rm: from });
  };
}

/** blsr: VEX.LZ.0F38.W1 F3 /1, between 64-bit registers below r8, so that the prefix has one form. The destination is in VEX.vvvv, inverted. */
export function resetLowestBit(out: Sink) {
  return (to: Gpr<64>, from: Gpr<64>): void => {
    if (out.bits !== 64 || to.number >= 8 || from.number >= 8) {
      throw new AssemblyError(`blsr: only in 64-bit code and between registers below r8, not ${to.name}, ${from.name}`);
    }
    const vex = [0xc4, 0xe2, 0xf8 - 8 * to.number];
    out.emit({ mnemonic: 'blsr', shown: [to, from], opcode: [...vex, 0xf3], reg: 1, rm: from });
  };
}
