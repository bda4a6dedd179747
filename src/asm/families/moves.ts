/** Families that move data: mov in all its forms, movzx, lea, the stack. */
import { AssemblyError, Label, toSigned } from '../operands.ts';
import type { Immediate, Memory } from '../operands.ts';
import { atWidth } from '../registers.ts';
import type { ControlRegister, Gpr, SegmentRegister, OperandWidth } from '../registers.ts';
import {
  bothMemory,
  extendedImmediate,
  fitsByte,
  forWidth,
  immediateBytes,
  shownImmediate,
  wideWidthOf,
  widthOf,
} from './common.ts';
import type { Sink } from './common.ts';

export interface Mov {
  <W extends OperandWidth>(to: Gpr<W> | Memory, from: Gpr<NoInfer<W>> | Memory | Immediate | Label): void;
  (to: SegmentRegister, from: Gpr<16> | Gpr<32> | Gpr<64> | Memory): void;
  (to: Gpr<16> | Gpr<32> | Gpr<64> | Memory, from: SegmentRegister): void;
  (to: ControlRegister, from: Gpr<32> | Gpr<64>): void;
  (to: Gpr<32> | Gpr<64>, from: ControlRegister): void;
}

export function move(out: Sink): Mov {
  return (
    to: Gpr | Memory | SegmentRegister | ControlRegister,
    from: Gpr | Memory | SegmentRegister | ControlRegister | Immediate | Label,
  ): void => {
    if (typeof from !== 'object' || from.kind === 'label') {
      if (to.kind === 'gpr') moveToRegister(out, to, from);
      else if (to.kind === 'memory') moveToMemory(out, to, from);
      else throw new AssemblyError(`mov: ${to.name} takes no immediate; mov it to a general-purpose register first`);
    } else if (to.kind === 'control' || from.kind === 'control') moveControl(out, to, from);
    else if (to.kind === 'segment' || from.kind === 'segment') moveSegment(out, to, from);
    else if (from.kind === 'gpr') {
      const width = widthOf('mov', to, from); // 88 /r, 89 /r
      out.emit({ mnemonic: 'mov', shown: [to, from], width, opcode: [forWidth(0x88, width)], reg: from, rm: to });
    } else if (to.kind === 'gpr') {
      const width = widthOf('mov', to, from); // 8A /r, 8B /r
      out.emit({ mnemonic: 'mov', shown: [to, from], width, opcode: [forWidth(0x8a, width)], reg: to, rm: from });
    } else throw bothMemory('mov');
  };
}

function moveToRegister(out: Sink, to: Gpr, from: Immediate | Label): void {
  const { width } = to;
  if (width === 64) {
    if (from instanceof Label) return moveExtended(out, to, from);
    const value = toSigned(from, width, 'mov');
    const unsigned = BigInt.asUintN(64, value);
    // Writing a 32-bit register clears the upper half (SDM vol. 1, 3.4.1.1), in 5 bytes instead of 7.
    if (unsigned <= 0xffff_ffffn) return moveToRegister(out, atWidth(to, 32), unsigned);
    if (BigInt.asIntN(32, value) === value) return moveExtended(out, to, value);
    const row = { width, opcode: [0xb8], plusRegister: to, immediate: { value, bytes: 8 } } as const; // REX.W + B8+ rd io
    return out.emit({ mnemonic: 'movabs', shown: [to, shownImmediate(value, width)], ...row });
  }
  const value = extendedImmediate('mov', from, width);
  const row = { width, opcode: [width === 8 ? 0xb0 : 0xb8], plusRegister: to }; // B0+ rb ib, B8+ rw iw, B8+ rd id
  const immediate = { value, bytes: immediateBytes(width) };
  out.emit({ mnemonic: 'mov', shown: [to, shownImmediate(value, width)], ...row, immediate });
}

function moveToMemory(out: Sink, to: Memory, from: Immediate | Label): void {
  moveExtended(out, to, extendedImmediate('mov', from, widthOf('mov', to)));
}

/** C6 /0 ib, C7 /0 iw, C7 /0 id, REX.W + C7 /0 id. */
function moveExtended(out: Sink, to: Gpr | Memory, value: bigint | Label): void {
  const width = widthOf('mov', to);
  const immediate = { value, bytes: immediateBytes(width) };
  const shown = [to, shownImmediate(value, width)];
  out.emit({ mnemonic: 'mov', shown, width, opcode: [forWidth(0xc6, width)], reg: 0, rm: to, immediate });
}

type Operand = Gpr | Memory | SegmentRegister | ControlRegister;

/** 0F 20 /r, 0F 22 /r. No operand width: it is that of the mode, whatever the prefixes say. */
function moveControl(out: Sink, to: Operand, from: Operand): void {
  const [reg, rm] = to.kind === 'control' ? [to, from] : [from, to];
  if (reg.kind !== 'control') return;
  if (rm.kind !== 'gpr' || rm.width !== out.bits) {
    throw new AssemblyError(`mov: in ${out.bits}-bit code ${reg.name} is moved to and from a ${out.bits}-bit register`);
  }
  out.emit({ mnemonic: 'mov', shown: [to, from], opcode: [0x0f, to.kind === 'control' ? 0x22 : 0x20], reg, rm });
}

/**
 * 8C /r, 8E /r. Memory is 16 bits. Of a source register the processor reads 16 bits. To a destination register it writes 32, the upper 16
 * of them zero, which clears the rest of a 64-bit register too. So the 32-bit row, which is the shortest, serves every width except a
 * 16-bit destination. GNU as does the same.
 */
function moveSegment(out: Sink, to: Operand, from: Operand): void {
  const [reg, other] = to.kind === 'segment' ? [to, from] : [from, to];
  if (reg.kind !== 'segment') return;
  const fits = (other.kind === 'memory' && other.width === 16) || (other.kind === 'gpr' && other.width !== 8);
  if (!fits) {
    throw new AssemblyError(`mov: ${reg.name} is moved to and from word(…) or a register of 16, 32 or 64 bits`);
  }
  if (to.kind === 'segment') {
    const rm = other.kind === 'gpr' ? atWidth(other, 32) : other;
    out.emit({ mnemonic: 'mov', shown: [to, rm], opcode: [0x8e], reg, rm });
  } else {
    const rm = other.kind === 'gpr' && other.width === 64 ? atWidth(other, 32) : other;
    const width = rm.kind === 'gpr' ? rm.width : undefined;
    out.emit({ mnemonic: 'mov', shown: [rm, from], width, opcode: [0x8c], reg, rm });
  }
}

/** 0F B6 /r from 8 bits, 0F B7 /r from 16. */
export function zeroExtend(out: Sink) {
  return (to: Gpr<16> | Gpr<32> | Gpr<64>, from: Gpr<8> | Gpr<16> | Memory): void => {
    const { width } = from;
    if (width !== 8 && width !== 16) {
      throw new AssemblyError(
        'movzx: the source is 8 or 16 bits; for 32 use mov to a 32-bit register, which clears the upper half',
      );
    }
    if (to.width <= width) throw new AssemblyError(`movzx: ${to.name} is not wider than the source; use mov`);
    const opcode = [0x0f, forWidth(0xb6, width)];
    out.emit({ mnemonic: 'movzx', shown: [to, from], width: to.width, opcode, reg: to, rm: from });
  };
}

/** 8D /r. */
export function loadAddress(out: Sink) {
  return (to: Gpr<32> | Gpr<64>, address: Memory): void => {
    if (address.width !== undefined)
      throw new AssemblyError('lea: reads no memory, so its operand has no size; write mem(…)');
    out.emit({
      mnemonic: 'lea',
      shown: [to, address],
      width: wideWidthOf('lea', to),
      opcode: [0x8d],
      reg: to,
      rm: address,
    });
  };
}

/** push and pop move as many bits as the mode has, without REX.W. */
function checkStack(out: Sink, mnemonic: string, operand: Gpr | Memory): void {
  if (operand.width === out.bits) return;
  const size = out.bits === 64 ? 'qword' : 'dword';
  throw new AssemblyError(
    `${mnemonic}: in ${out.bits}-bit code the operand is a ${out.bits}-bit register or ${size}(…)`,
  );
}

/** 50+ rd, FF /6, 6A ib, 68 id. */
export function push(out: Sink) {
  return (operand: Gpr<32> | Gpr<64> | Memory | Immediate): void => {
    if (typeof operand !== 'object') {
      const value = extendedImmediate('push', operand, out.bits);
      const short = typeof value === 'bigint' && fitsByte(value);
      const immediate = { value, bytes: short ? 1 : 4 } as const;
      out.emit({
        mnemonic: 'push',
        shown: [shownImmediate(value, out.bits)],
        opcode: [short ? 0x6a : 0x68],
        immediate,
      });
      return;
    }
    checkStack(out, 'push', operand);
    if (operand.kind === 'gpr') out.emit({ mnemonic: 'push', shown: [operand], opcode: [0x50], plusRegister: operand });
    else out.emit({ mnemonic: 'push', shown: [operand], opcode: [0xff], reg: 6, rm: operand });
  };
}

/** 58+ rd, 8F /0. */
export function pop(out: Sink) {
  return (operand: Gpr<32> | Gpr<64> | Memory): void => {
    checkStack(out, 'pop', operand);
    if (operand.kind === 'gpr') out.emit({ mnemonic: 'pop', shown: [operand], opcode: [0x58], plusRegister: operand });
    else out.emit({ mnemonic: 'pop', shown: [operand], opcode: [0x8f], reg: 0, rm: operand });
  };
}
