/**
 * One instruction to bytes: prefixes, REX or VEX, opcode, ModRM, SIB, displacement, immediate, in that order (SDM vol. 2, figure 2-1).
 *
 * An `Instruction` is a row of the SDM's opcode table with its operands filled in: which opcode bytes, what goes into ModRM.reg (a
 * register, or the digit of "/digit"), what into ModRM.r/m, which immediate. The choice of a row is made by families/; this file only
 * knows the format that all rows share, and what 32-bit and 64-bit mode allow.
 *
 * Addresses of labels are not known yet. Their four bytes are left zero and described by a `Fixup`; no other length depends on a
 * label (RIP-relative and label displacements always take disp32), so only branches need the relaxation in layout.ts.
 */
import { hex } from '../errors.ts';
import { AssemblyError } from './misuse.ts';
import { Label } from './operands.ts';
import type { Memory } from './operands.ts';
import type { Bits, ControlRegister, Gpr, Register, SegmentRegister, Width } from './registers.ts';

/** What a listing shows for an operand. */
export type ShownOperand =
  | Register
  | Memory
  | { readonly kind: 'immediate'; readonly value: bigint | Label; readonly width: Width }
  | { readonly kind: 'far'; readonly selector: number; readonly value: bigint | Label }
  | { readonly kind: 'verbatim'; readonly text: string };

export interface Instruction {
  /** As objdump prints it, a rep prefix included. */
  readonly mnemonic: string;
  readonly shown: readonly ShownOperand[];
  /** F2, F3 (repeat or mandatory): stands before REX. */
  readonly prefix?: 0xf2 | 0xf3 | undefined;
  /** 16 adds the prefix 66, 64 adds REX.W. Undefined: the width that the opcode has by itself. */
  readonly width?: Width | undefined;
  readonly opcode: readonly number[];
  /** "+r": the register is in the low three bits of the last opcode byte. */
  readonly plusRegister?: Gpr | undefined;
  /** ModRM.reg: a register, or the digit of "/digit". */
  readonly reg?: Register | number | undefined;
  readonly rm?: Gpr | Memory | undefined;
  readonly immediate?: { readonly value: bigint | Label; readonly bytes: 1 | 2 | 4 | 8 } | undefined;
  /** Further immediate bytes: the selector of ptr16:32. */
  readonly selector?: number | undefined;
  /** Present in a VEX instruction (map 0F38, L0, no 66/F2/F3): the register in VEX.vvvv. */
  readonly vex?: Gpr | undefined;
}

/** Four bytes at `at` (from the instruction's start) to be filled once labels have offsets. */
export interface Fixup {
  readonly at: number;
  readonly label: Label;
  readonly addend: number;
  /** `relative`: from the instruction's end. `address`: origin + offset. `fixed-address`: the same, wrong without an origin. */
  readonly kind: 'relative' | 'address' | 'fixed-address';
}

export interface Encoded {
  readonly bytes: number[];
  readonly fixups: readonly Fixup[];
}

export function littleEndian(value: bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Number(BigInt.asUintN(8, value >> BigInt(8 * i))));
}

/** ModRM and what follows it, with REX.X and REX.B as they result. */
interface Addressing {
  readonly bytes: number[];
  readonly x: number;
  readonly b: number;
  readonly fixup?: Fixup;
}

const high = (register: { number: number } | undefined): number => (register === undefined ? 0 : register.number >> 3);
const low = (register: { number: number }): number => register.number & 7;
const modrm = (mod: number, reg: number, rm: number): number => (mod << 6) | ((reg & 7) << 3) | rm;

const DISP8 = 0b01;
const DISP32 = 0b10;
const RM_IS_SIB = 0b100;
const NO_INDEX = 0b100;
/** r/m 101b with mod 00 is disp32, and in 64-bit mode RIP + disp32; SIB.base 101b with mod 00 is disp32 without base. */
const NO_BASE = 0b101;

/** SDM vol. 2, tables 2-2 and 2-3, and 2.2.1.6 for RIP-relative. */
function address(memory: Memory, reg: number, bits: Bits): Addressing {
  const { base, index, scale, label } = memory;
  // In 32-bit code addresses wrap, so 0xfffffff0 is -16 and may be short.
  const displacement = bits === 32 ? memory.displacement | 0 : memory.displacement;
  const disp32 = littleEndian(BigInt(displacement), 4);
  const x = high(index);
  const b = high(base);
  const sib = (baseBits: number): number =>
    (Math.log2(scale) << 6) | ((index === undefined ? NO_INDEX : low(index)) << 3) | baseBits;

  if (base === undefined && index === undefined) {
    if (label !== undefined) {
      const kind = bits === 64 ? 'relative' : 'fixed-address';
      return { bytes: [modrm(0, reg, NO_BASE), 0, 0, 0, 0], x, b, fixup: { at: 1, label, addend: displacement, kind } };
    }
    if (bits === 32) return { bytes: [modrm(0, reg, NO_BASE), ...disp32], x, b };
    return { bytes: [modrm(0, reg, RM_IS_SIB), sib(NO_BASE), ...disp32], x, b };
  }
  if (base === undefined) return { bytes: [modrm(0, reg, RM_IS_SIB), sib(NO_BASE), ...disp32], x, b };

  const needsSib = index !== undefined || low(base) === RM_IS_SIB;
  const head = (mod: number): number[] =>
    needsSib ? [modrm(mod, reg, RM_IS_SIB), sib(low(base))] : [modrm(mod, reg, low(base))];
  if (label !== undefined) {
    const bytes = head(DISP32);
    const fixup: Fixup = { at: bytes.length, label, addend: displacement, kind: 'address' };
    return { bytes: [...bytes, 0, 0, 0, 0], x, b, fixup };
  }
  // 101b without displacement is taken (NO_BASE), so rbp and r13 always have one.
  if (displacement === 0 && low(base) !== NO_BASE) return { bytes: head(0), x, b };
  if (displacement >= -128 && displacement <= 127) return { bytes: [...head(DISP8), displacement & 0xff], x, b };
  return { bytes: [...head(DISP32), ...disp32], x, b };
}

function checkRegister(mnemonic: string, register: Gpr | ControlRegister | SegmentRegister, bits: Bits): void {
  if (bits === 64) return;
  const only64 = register.number > 7 || (register.kind === 'gpr' && (register.width === 64 || needsRex(register)));
  if (only64)
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

function rexBits(instruction: Instruction, addressing: Addressing | undefined): number {
  const { width, reg, rm, plusRegister } = instruction;
  const w = width === 64 ? 8 : 0;
  const r = typeof reg === 'object' ? high(reg) << 2 : 0;
  const x = (addressing?.x ?? 0) << 1;
  const b = (addressing?.b ?? 0) | high(plusRegister);
  const byteRegister = [reg, rm, plusRegister].some((o) => typeof o === 'object' && o.kind === 'gpr' && needsRex(o));
  const fields = w | r | x | b;
  return fields !== 0 || byteRegister ? 0x40 | fields : 0;
}

/** SDM vol. 2, 2.3.5: three-byte VEX, map 0F38. R, X, B and vvvv are stored inverted. */
function vexPrefix(instruction: Instruction, vvvv: Gpr, addressing: Addressing | undefined): number[] {
  const rxb = (rexBits(instruction, addressing) & 7) << 5;
  return [0xc4, (~rxb & 0xe0) | 0b00010, (instruction.width === 64 ? 0x80 : 0) | ((~vvvv.number & 15) << 3)];
}

export function encode(instruction: Instruction, bits: Bits): Encoded {
  const { mnemonic, prefix, width, opcode, plusRegister, reg, rm, immediate, selector, vex } = instruction;
  for (const operand of [reg, rm, plusRegister, vex]) {
    if (typeof operand !== 'object') continue;
    if (operand.kind === 'memory') checkMemory(mnemonic, operand, bits);
    else checkRegister(mnemonic, operand, bits);
  }
  if (width === 64 && bits === 32) throw new AssemblyError(`${mnemonic}: 64-bit operands exist in 64-bit mode only`);

  const regBits = typeof reg === 'object' ? reg.number : (reg ?? 0);
  let addressing: Addressing | undefined;
  if (rm?.kind === 'memory') addressing = address(rm, regBits, bits);
  else if (rm !== undefined) addressing = { bytes: [modrm(0b11, regBits, low(rm))], x: 0, b: high(rm) };

  const bytes: number[] = [];
  if (width === 16) bytes.push(0x66);
  if (prefix !== undefined) bytes.push(prefix);
  if (vex !== undefined) bytes.push(...vexPrefix(instruction, vex, addressing));
  else {
    const rex = rexBits(instruction, addressing);
    if (rex !== 0) bytes.push(rex);
  }
  bytes.push(...opcode);
  if (plusRegister !== undefined) bytes.push((bytes.pop() ?? 0) | low(plusRegister));

  const fixups: Fixup[] = [];
  if (addressing !== undefined) {
    if (addressing.fixup !== undefined) fixups.push({ ...addressing.fixup, at: bytes.length + addressing.fixup.at });
    bytes.push(...addressing.bytes);
  }
  if (immediate !== undefined) {
    if (immediate.value instanceof Label) {
      fixups.push({
        at: bytes.length,
        label: immediate.value,
        addend: 0,
        kind: selector === undefined ? 'address' : 'fixed-address',
      });
      bytes.push(0, 0, 0, 0);
    } else bytes.push(...littleEndian(immediate.value, immediate.bytes));
  }
  if (selector !== undefined) bytes.push(...littleEndian(BigInt(selector), 2));
  return { bytes, fixups };
}
