/**
 * One instruction to bytes: prefixes, REX, opcode, ModRM, SIB, displacement, immediate, in that order (SDM vol. 2, figure 2-1).
 *
 * An `Instruction` is a row of the SDM's opcode table with its operands filled in: which opcode bytes, what goes into ModRM.reg (a
 * register, or the digit of "/digit"), what into ModRM.r/m, which immediate. families/ chooses the row. This file knows only the format
 * that all rows share, and what 32-bit and 64-bit mode allow.
 *
 * The addresses of labels are not known yet. Their four bytes are left zero and described by a `Fixup`. RIP-relative and label
 * displacements always take disp32, so only the length of a branch depends on where labels lie: layout.ts chooses it.
 */
import { hex } from '../base/errors.ts';
import { AssemblyError, Label } from './operands.ts';
import type { Memory } from './operands.ts';
import type { Bits, Gpr, Register, OperandWidth } from './registers.ts';

/** What a listing shows for an operand. */
export type ShownOperand =
  | Register
  | Memory
  | { readonly kind: 'immediate'; readonly value: bigint | Label; readonly width: OperandWidth }
  | { readonly kind: 'far'; readonly selector: number; readonly value: bigint | Label }
  | { readonly kind: 'verbatim'; readonly text: string };

export interface Instruction {
  /** As objdump prints it, a rep prefix included. */
  readonly mnemonic: string;
  readonly shown: readonly ShownOperand[];
  /** F3 (rep, or part of the opcode as in pause): stands before REX. */
  readonly prefix?: 0xf3 | undefined;
  /** 16 adds the prefix 66, 64 adds REX.W. Undefined: the opcode implies its width. */
  readonly width?: OperandWidth | undefined;
  readonly opcode: readonly number[];
  /** "+r": the register is in the low three bits of the last opcode byte. */
  readonly plusRegister?: Gpr | undefined;
  /** ModRM.reg: a register, or the digit of "/digit". */
  readonly reg?: Register | number | undefined;
  readonly rm?: Gpr | Memory | undefined;
  readonly immediate?: { readonly value: bigint | Label; readonly bytes: 1 | 2 | 4 | 8 } | undefined;
  /** Two more immediate bytes: the selector of ptr16:32. */
  readonly selector?: number | undefined;
}

/** Four bytes at `at` (from the instruction's start) to be filled once labels have offsets. */
export interface Fixup {
  readonly at: number;
  readonly label: Label;
  readonly addend: number;
  /** `relative`: from the instruction's end. `address`: origin + offset. `fixed-address`: the same, but wrong without an origin. */
  readonly kind: 'relative' | 'address' | 'fixed-address';
}

export interface Encoded {
  readonly bytes: number[];
  readonly fixups: readonly Fixup[];
}

export function littleEndian(value: bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Number(BigInt.asUintN(8, value >> BigInt(8 * i))));
}

const high = (register: { readonly number: number } | undefined): number => (register?.number ?? 0) >> 3;
const low = (register: { readonly number: number }): number => register.number & 7;

/** ModRM and what follows it. `x` and `b` are the high bits of its registers, which go into REX. */
interface Addressing {
  readonly bytes: number[];
  readonly x: number;
  readonly b: number;
  readonly fixup?: Fixup;
}

const modrm = (mod: number, reg: number, rm: number): number => (mod << 6) | ((reg & 7) << 3) | rm;

/** ModRM.mod. 00 is no displacement, except with NO_BASE; 11 is a register. */
const DISP8 = 0b01;
const DISP32 = 0b10;
const REGISTER = 0b11;
/** ModRM.rm. Also the low bits of rsp and r12, so these need a SIB byte as a base. */
const SIB_FOLLOWS = 0b100;
/** SIB.index. */
const NO_INDEX = 0b100;
/** ModRM.rm or SIB.base with mod 00: a disp32 alone. Also the low bits of rbp and r13, so these need a displacement as a base. */
const NO_BASE = 0b101;

/** SDM vol. 2, tables 2-2 and 2-3; 2.2.1.6 for RIP-relative, which replaces plain disp32 in 64-bit mode. */
function addressing(memory: Memory, reg: number, bits: Bits): Addressing {
  const { base, index, scale, label } = memory;
  // In 32-bit code addresses wrap, so 0xfffffff0 is -16 and short.
  const displacement = bits === 32 ? memory.displacement | 0 : memory.displacement;
  const isAlone = base === undefined && index === undefined;

  let mod = 0;
  if (base !== undefined) {
    if (label !== undefined || displacement < -128 || displacement > 127) mod = DISP32;
    else if (displacement !== 0 || low(base) === NO_BASE) mod = DISP8;
  }
  const noSib = isAlone ? label !== undefined || bits === 32 : base !== undefined && low(base) !== SIB_FOLLOWS;
  const baseBits = base === undefined ? NO_BASE : low(base);
  const bytes: number[] = [];
  if (noSib && index === undefined) bytes.push(modrm(mod, reg, baseBits));
  else {
    const indexBits = index === undefined ? NO_INDEX : low(index);
    bytes.push(modrm(mod, reg, SIB_FOLLOWS), (Math.log2(scale) << 6) | (indexBits << 3) | baseBits);
  }

  const registers = { x: high(index), b: high(base) };
  if (label !== undefined) {
    const kind = !isAlone ? 'address' : bits === 64 ? 'relative' : 'fixed-address';
    const fixup: Fixup = { at: bytes.length, label, addend: displacement, kind };
    return { bytes: [...bytes, 0, 0, 0, 0], ...registers, fixup };
  }
  const length = base === undefined || mod === DISP32 ? 4 : mod; // mod 00 and 01 say 0 and 1 bytes
  return { bytes: [...bytes, ...littleEndian(BigInt(displacement), length)], ...registers };
}

function checkRegister(mnemonic: string, register: Register, bits: Bits): void {
  const is64 = register.kind === 'gpr' && (register.width === 64 || needsRex(register));
  if (bits === 64 || (register.number < 8 && !is64)) return;
  throw new AssemblyError(`${mnemonic}: ${register.name} exists in 64-bit mode only, and this code is 32-bit`);
}

/** spl, bpl, sil and dil: without a REX prefix their numbers mean ah, ch, dh and bh. */
function needsRex(register: Gpr): boolean {
  return register.width === 8 && register.number >= 4 && register.number <= 7;
}

function checkMemory(mnemonic: string, memory: Memory, bits: Bits): void {
  const register = memory.base ?? memory.index;
  if (register !== undefined && register.width !== bits) {
    throw new AssemblyError(
      `${mnemonic}: ${bits}-bit code has ${bits}-bit addresses, so ${register.name} cannot be in one`,
    );
  }
  for (const used of [memory.base, memory.index]) if (used !== undefined) checkRegister(mnemonic, used, bits);
  if (bits === 64 && memory.displacement > 0x7fff_ffff) {
    throw new AssemblyError(
      `${mnemonic}: displacement ${hex(memory.displacement)} would be sign-extended to 64 bits; it ends at 0x7fffffff`,
    );
  }
}

/** 0 where no REX prefix is needed. */
function rexPrefix({ width, reg, rm, plusRegister }: Instruction, address: Addressing | undefined): number {
  const w = width === 64 ? 8 : 0;
  const r = typeof reg === 'object' ? high(reg) << 2 : 0;
  const x = (address?.x ?? 0) << 1;
  const b = (address?.b ?? 0) | high(plusRegister);
  const fields = w | r | x | b;
  const isNeeded = [reg, rm, plusRegister].some((o) => typeof o === 'object' && o.kind === 'gpr' && needsRex(o));
  return fields !== 0 || isNeeded ? 0x40 | fields : 0;
}

/** Throws if the mode lacks the instruction's registers, addresses or width. */
function check({ mnemonic, width, plusRegister, reg, rm }: Instruction, bits: Bits): void {
  for (const operand of [reg, rm, plusRegister]) {
    if (typeof operand !== 'object') continue;
    if (operand.kind === 'memory') checkMemory(mnemonic, operand, bits);
    else checkRegister(mnemonic, operand, bits);
  }
  if (width === 64 && bits === 32) throw new AssemblyError(`${mnemonic}: 64-bit operands exist in 64-bit mode only`);
}

export function encode(instruction: Instruction, bits: Bits): Encoded {
  check(instruction, bits);
  const { prefix, width, opcode, plusRegister, reg, rm, immediate, selector } = instruction;
  const bytes: number[] = [];
  const fixups: Fixup[] = [];

  const regBits = typeof reg === 'object' ? reg.number : (reg ?? 0);
  let address: Addressing | undefined;
  if (rm?.kind === 'memory') address = addressing(rm, regBits, bits);
  else if (rm !== undefined) address = { bytes: [modrm(REGISTER, regBits, low(rm))], x: 0, b: high(rm) };

  if (width === 16) bytes.push(0x66);
  if (prefix !== undefined) bytes.push(prefix);
  const rex = rexPrefix(instruction, address);
  if (rex !== 0) bytes.push(rex);

  bytes.push(...opcode);
  if (plusRegister !== undefined) bytes.push((bytes.pop() ?? 0) | low(plusRegister));

  if (address !== undefined) {
    if (address.fixup !== undefined) fixups.push({ ...address.fixup, at: bytes.length + address.fixup.at });
    bytes.push(...address.bytes);
  }

  if (immediate?.value instanceof Label) {
    const kind = selector === undefined ? 'address' : 'fixed-address';
    fixups.push({ at: bytes.length, label: immediate.value, addend: 0, kind });
    bytes.push(0, 0, 0, 0);
  } else if (immediate !== undefined) bytes.push(...littleEndian(immediate.value, immediate.bytes));
  if (selector !== undefined) bytes.push(...littleEndian(BigInt(selector), 2));
  return { bytes, fixups };
}
