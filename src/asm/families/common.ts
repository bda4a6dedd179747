/**
 * What the families of instructions share.
 *
 * A family is a set of instructions of one shape: add and xor differ in a digit only. Each family has a function that makes methods:
 * `arithmetic(out, 'add', 0)` makes `Assembler.add`. The method looks at its operands, picks the shortest row of the SDM's opcode table
 * (vol. 2, chapters 3 to 5; comments quote the rows) and hands it to `out`. Where two rows are equally long it picks the one that GNU as
 * picks, so that the tests can compare bytes. Operands that no row takes throw an error with the instruction's name and what to write
 * instead.
 */
import { hex } from '../../base/errors.ts';
import type { Instruction, ShownOperand } from '../encoder.ts';
import type { Branch } from '../layout.ts';
import { AssemblyError, Label, toSigned } from '../operands.ts';
import type { Immediate, Memory } from '../operands.ts';
import type { Bits, Gpr, OperandWidth } from '../registers.ts';

/** Receives the instructions, and says in which mode they will be decoded. */
export interface Sink {
  readonly bits: Bits;
  emit(instruction: Instruction): void;
  /** A branch, whose length is chosen later. */
  branch(branch: Omit<Branch, 'kind'>): void;
}

/** Most rows have two opcodes: one for 8-bit operands and the next one for all other widths. */
export const forWidth = (opcode: number, width: OperandWidth): number => (width === 8 ? opcode : opcode + 1);

/** OperandWidth of an immediate, which for 64-bit operands is 32 bits, sign-extended. */
export const immediateBytes = (width: OperandWidth): 1 | 2 | 4 => (width === 8 ? 1 : width === 16 ? 2 : 4);

export const fitsByte = (value: bigint): boolean => BigInt.asIntN(8, value) === value;

export const shownImmediate = (value: bigint | Label, width: OperandWidth): ShownOperand => ({
  kind: 'immediate',
  value,
  width,
});

export const verbatim = (text: string): ShownOperand => ({ kind: 'verbatim', text });

/** The width that all operands share; throws if they differ. */
export function widthOf(mnemonic: string, ...operands: readonly (Gpr | Memory)[]): OperandWidth {
  const widths = operands.map((operand) => operand.width);
  const [width] = widths;
  if (width === undefined || widths.includes(undefined)) {
    throw new AssemblyError(
      `${mnemonic}: mem(…) is an address without a size; use byte(…), word(…), dword(…) or qword(…)`,
    );
  }
  if (widths.every((each) => each === width)) return width;
  const list = operands.map((operand) => `${operand.kind === 'gpr' ? operand.name : 'memory'} (${operand.width} bits)`);
  throw new AssemblyError(
    `${mnemonic}: ${list.join(' and ')} differ in width; take the register of the same width, or movzx first`,
  );
}

/** The same, for instructions without an 8-bit row. */
export function wideWidthOf(mnemonic: string, ...operands: readonly (Gpr | Memory)[]): OperandWidth {
  const width = widthOf(mnemonic, ...operands);
  if (width === 8) throw new AssemblyError(`${mnemonic}: has no 8-bit form; use the 32-bit register`);
  return width;
}

/** For instructions whose operands may stand in either order: which one goes to ModRM.r/m, which to ModRM.reg. */
export function rmAndReg(mnemonic: string, first: Gpr | Memory, second: Gpr | Memory): { rm: Gpr | Memory; reg: Gpr } {
  if (second.kind === 'gpr') return { rm: first, reg: second };
  if (first.kind === 'gpr') return { rm: second, reg: first };
  throw bothMemory(mnemonic);
}

export function bothMemory(mnemonic: string): AssemblyError {
  return new AssemblyError(`${mnemonic}: two memory operands; load one into a register first`);
}

/** An immediate that the processor sign-extends from 32 bits, or a label's address in its place. */
export function extendedImmediate(mnemonic: string, value: Immediate | Label, width: OperandWidth): bigint | Label {
  if (value instanceof Label) {
    if (width === 32 || width === 64) return value;
    throw new AssemblyError(`${mnemonic}: the address of label '${value.name}' does not fit ${width} bits`);
  }
  const signed = toSigned(value, width, mnemonic);
  if (BigInt.asIntN(32, signed) === signed) return signed;
  const found = hex(BigInt.asUintN(64, signed));
  throw new AssemblyError(`${mnemonic}: ${found} is not a sign-extended 32-bit immediate; mov it to a register first`);
}

/** A count, a bit number or a port: 0 to `limit` - 1 in one byte. */
export function byteImmediate(mnemonic: string, value: number, limit: number): bigint {
  if (Number.isInteger(value) && value >= 0 && value < limit) return BigInt(value);
  throw new AssemblyError(`${mnemonic}: ${value} is not between 0 and ${limit - 1}`);
}
