/**
 * Families of instructions that move control or talk to the machine: branches, stack, strings, ports, descriptor tables. The same scheme
 * as families.ts.
 */
import type { Instruction } from './encoder.ts';
import { immediateShown, unsignedByte, verbatim } from './families.ts';
import type { Sink } from './families.ts';
import { AssemblyError } from './misuse.ts';
import { Label, toSigned } from './operands.ts';
import type { Immediate, Memory } from './operands.ts';
import type { Gpr } from './registers.ts';

/** An opcode without operands. `only` names the one mode that has it. */
export function plain(
  out: Sink,
  mnemonic: string,
  opcode: readonly number[],
  more?: Partial<Instruction>,
  only?: 32 | 64,
) {
  return (): void => {
    if (only !== undefined && out.bits !== only) {
      throw new AssemblyError(`${mnemonic}: exists in ${only}-bit code only, and this code is ${out.bits}-bit`);
    }
    out.emit({ mnemonic, shown: [], opcode, ...more });
  };
}

/** jmp and call through a register or memory, FF /digit. The width is that of the mode, without REX.W. */
function indirect(out: Sink, mnemonic: string, target: Gpr | Memory, digit: number): void {
  if (target.width !== out.bits) {
    const size = out.bits === 64 ? 'qword' : 'dword';
    throw new AssemblyError(
      `${mnemonic}: the target is a ${out.bits}-bit register or ${size}(…) in ${out.bits}-bit code`,
    );
  }
  out.emit({ mnemonic, shown: [target], opcode: [0xff], reg: digit, rm: target });
}

/** EB cb, E9 cd, FF /4. */
export function jump(out: Sink) {
  return (target: Label | Gpr<32> | Gpr<64> | Memory): void => {
    if (target instanceof Label) out.branch({ mnemonic: 'jmp', label: target, short: [0xeb], near: [0xe9] });
    else indirect(out, 'jmp', target, 4);
  };
}

/** E9 cd whatever the distance. */
export function jumpNear(out: Sink) {
  return (label: Label): void => out.branch({ mnemonic: 'jmp', label, short: undefined, near: [0xe9] });
}

/** E8 cd, FF /2. */
export function call(out: Sink) {
  return (target: Label | Gpr<32> | Gpr<64> | Memory): void => {
    if (target instanceof Label) out.branch({ mnemonic: 'call', label: target, short: undefined, near: [0xe8] });
    else indirect(out, 'call', target, 2);
  };
}

/** 70+cc cb, 0F 80+cc cd. The condition codes are in SDM vol. 1, appendix B. */
export function jumpIf(out: Sink, mnemonic: string, condition: number) {
  return (label: Label): void =>
    out.branch({ mnemonic, label, short: [0x70 | condition], near: [0x0f, 0x80 | condition] });
}

/** 0F 90+cc. */
export function setIf(out: Sink, mnemonic: string, condition: number) {
  return (to: Gpr<8> | Memory): void => {
    if (to.width !== 8) throw new AssemblyError(`${mnemonic}: sets one byte; use an 8-bit register or byte(…)`);
    out.emit({ mnemonic, shown: [to], opcode: [0x0f, 0x90 | condition], reg: 0, rm: to });
  };
}

/** EA cd iw: jmp ptr16:32. The offset is an absolute address, so a label needs a program with an origin. */
export function farJump(out: Sink) {
  return (selector: number, target: Label | number): void => {
    if (out.bits !== 32)
      throw new AssemblyError('ljmp: 64-bit mode has no jmp ptr16:32; push selector and address, then retfq');
    if (!Number.isInteger(selector) || selector < 0 || selector > 0xffff) {
      throw new AssemblyError(`ljmp: selector ${selector} does not fit 16 bits`);
    }
    const value = target instanceof Label ? target : toSigned(target, 32, 'ljmp');
    out.emit({
      mnemonic: 'jmp',
      shown: [{ kind: 'far', selector, value }],
      opcode: [0xea],
      immediate: { value, bytes: 4 },
      selector,
    });
  };
}

/** 50+ rd, FF /6, 6A ib, 68 id. */
export function push(out: Sink) {
  const mnemonic = 'push';
  return (operand: Gpr<32> | Gpr<64> | Memory | Immediate): void => {
    if (typeof operand === 'object') return stack(out, mnemonic, operand, 0x50, [0xff], 6);
    const value = toSigned(operand, out.bits, mnemonic);
    if (BigInt.asIntN(32, value) !== value) {
      throw new AssemblyError(
        `push: the immediate is sign-extended from 32 bits; mov 0x${value.toString(16)} to a register and push that`,
      );
    }
    const short = BigInt.asIntN(8, value) === value;
    const immediate = { value, bytes: short ? (1 as const) : (4 as const) };
    out.emit({ mnemonic, shown: [immediateShown(value, out.bits)], opcode: [short ? 0x6a : 0x68], immediate });
  };
}

/** 58+ rd, 8F /0. */
export function pop(out: Sink) {
  return (operand: Gpr<32> | Gpr<64> | Memory): void => stack(out, 'pop', operand, 0x58, [0x8f], 0);
}

function stack(
  out: Sink,
  mnemonic: string,
  operand: Gpr | Memory,
  plus: number,
  opcode: number[],
  digit: number,
): void {
  if (operand.width !== out.bits) {
    throw new AssemblyError(
      `${mnemonic}: ${out.bits}-bit code moves ${out.bits} bits on the stack, not ${operand.width ?? 'unknown'}`,
    );
  }
  if (operand.kind === 'gpr') out.emit({ mnemonic, shown: [operand], opcode: [plus], plusRegister: operand });
  else out.emit({ mnemonic, shown: [operand], opcode, reg: digit, rm: operand });
}

/** 0F C8+ rd. */
export function byteSwap(out: Sink) {
  return (register: Gpr<32> | Gpr<64>): void => {
    const { width } = register as Gpr;
    if (width !== 32 && width !== 64)
      throw new AssemblyError('bswap: 32-bit and 64-bit registers only; use rol(ax, 8) for 16 bits');
    out.emit({ mnemonic: 'bswap', shown: [register], width, opcode: [0x0f, 0xc8], plusRegister: register });
  };
}

/** VEX.LZ.0F38 F3 /1: the destination is in VEX.vvvv. */
export function resetLowestBit(out: Sink) {
  return <W extends 32 | 64>(to: Gpr<W>, from: Gpr<NoInfer<W>> | Memory): void => {
    if ((to.width !== 32 && to.width !== 64) || from.width !== to.width) {
      throw new AssemblyError('blsr: two operands of 32 or of 64 bits');
    }
    out.emit({ mnemonic: 'blsr', shown: [to, from], width: to.width, opcode: [0xf3], reg: 1, rm: from, vex: to });
  };
}

/** 0F C7 /6 rdrand, 0F C7 /7 rdseed. */
export function random(out: Sink, mnemonic: string, digit: number) {
  return (to: Gpr<16> | Gpr<32> | Gpr<64>): void => {
    if ((to as Gpr).kind !== 'gpr' || (to as Gpr).width === 8)
      throw new AssemblyError(`${mnemonic}: a register of 16, 32 or 64 bits`);
    out.emit({ mnemonic, shown: [to], width: to.width, opcode: [0x0f, 0xc7], reg: digit, rm: to });
  };
}

/** Instructions on memory whose size they know themselves: lgdt, invlpg, prefetcht0. `shownWidth` is what objdump prints. */
export function onAddress(out: Sink, mnemonic: string, opcode: readonly number[], digit: number, shownWidth?: 8) {
  return (address: Memory): void => {
    if (address.width !== undefined)
      throw new AssemblyError(`${mnemonic}: takes an address of no size; write it as mem(…)`);
    out.emit({ mnemonic, shown: [{ ...address, width: shownWidth }], opcode, reg: digit, rm: address });
  };
}

/** The descriptor tables, whose mnemonics objdump suffixes with d in 32-bit code. */
export function descriptorTable(out: Sink, name: string, digit: number) {
  return (address: Memory): void => onAddress(out, out.bits === 32 ? `${name}d` : name, [0x0f, 0x01], digit)(address);
}

/** 0F 00 /3. */
export function loadTask(out: Sink) {
  return (selector: Gpr<16> | Memory): void => {
    if (selector.width !== 16) throw new AssemblyError('ltr: the selector is a 16-bit register or word(…)');
    out.emit({ mnemonic: 'ltr', shown: [selector], opcode: [0x0f, 0x00], reg: 3, rm: selector });
  };
}

/** 0F C3 /r. */
export function storeNonTemporal(out: Sink) {
  return <W extends 32 | 64>(to: Memory, from: Gpr<W>): void => {
    if (to.width !== from.width || (from.width !== 32 && from.width !== 64)) {
      throw new AssemblyError('movnti: stores 32 or 64 bits to memory of that size');
    }
    out.emit({ mnemonic: 'movnti', shown: [to, from], width: from.width, opcode: [0x0f, 0xc3], reg: from, rm: to });
  };
}

/** The data of a port instruction is al, ax or eax; the port is a byte or dx. */
function port(out: Sink, mnemonic: string, data: Gpr, at: number | Gpr<16>, opcode: number): void {
  if (data.number !== 0 || data.width === 64)
    throw new AssemblyError(`${mnemonic}: the data is in al, ax or eax, not ${data.name}`);
  const even = data.width === 8 ? opcode : opcode + 1;
  const arrange = <T>(shownPort: T, shownData: T): T[] =>
    mnemonic === 'in' ? [shownData, shownPort] : [shownPort, shownData];
  if (typeof at === 'number') {
    const value = unsignedByte(mnemonic, at, 0x100);
    const shown = arrange<Instruction['shown'][number]>(immediateShown(value, 8), data);
    return out.emit({ mnemonic, shown, width: data.width, opcode: [even], immediate: { value, bytes: 1 } });
  }
  if (at.number !== 2 || at.width !== 16)
    throw new AssemblyError(`${mnemonic}: the port is a number up to 0xff or dx, not ${at.name}`);
  out.emit({ mnemonic, shown: arrange<Instruction['shown'][number]>(at, data), width: data.width, opcode: [even | 8] });
}

/** E4 ib, E5 ib, EC, ED. */
export function portIn(out: Sink) {
  return (data: Gpr<8> | Gpr<16> | Gpr<32>, from: number | Gpr<16>): void => port(out, 'in', data, from, 0xe4);
}

/** E6 ib, E7 ib, EE, EF. */
export function portOut(out: Sink) {
  return (to: number | Gpr<16>, data: Gpr<8> | Gpr<16> | Gpr<32>): void => port(out, 'out', data, to, 0xe6);
}

const ACCUMULATOR = { 8: 'al', 32: 'eax', 64: 'rax' } as const;
const SIZE = { 8: 'BYTE', 32: 'DWORD', 64: 'QWORD' } as const;

/** movs, cmps, stos, lods, scas, with a repeat prefix or without. Only the operands that objdump prints differ between them. */
export function string(out: Sink, name: string, opcode: number, width: 8 | 32 | 64, repeat?: 'rep' | 'repz' | 'repnz') {
  return (): void => {
    const registers = out.bits === 64 ? 'r' : 'e';
    const source = `${SIZE[width]} PTR ds:[${registers}si]`;
    const destination = `${SIZE[width]} PTR es:[${registers}di]`;
    const operands = {
      movs: [destination, source],
      cmps: [source, destination],
      stos: [destination, ACCUMULATOR[width]],
      lods: [ACCUMULATOR[width], source],
      scas: [ACCUMULATOR[width], destination],
    }[name];
    out.emit({
      mnemonic: repeat === undefined ? name : `${repeat} ${name}`,
      shown: (operands ?? []).map(verbatim),
      prefix: repeat === undefined ? undefined : repeat === 'repnz' ? 0xf2 : 0xf3,
      width,
      opcode: [width === 8 ? opcode : opcode + 1],
    });
  };
}
