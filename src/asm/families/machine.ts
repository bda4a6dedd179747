/** Families that reach the machine around the program: opcodes without operands, strings, ports, descriptor tables, random numbers. */
import { hex } from '../../base/errors.ts';
import type { Instruction } from '../encoder.ts';
import { AssemblyError } from '../operands.ts';
import type { Memory } from '../operands.ts';
import type { Gpr } from '../registers.ts';
import { byteImmediate, forWidth, shownImmediate, verbatim, wideWidthOf } from './common.ts';
import type { Sink } from './common.ts';

/** An opcode without operands. `only: 64` is one that 32-bit code does not have. */
export function plain(
  out: Sink,
  mnemonic: string,
  opcode: readonly number[],
  { only, ...prefixes }: Pick<Instruction, 'prefix' | 'width'> & { readonly only?: 64 } = {},
) {
  return (): void => {
    if (only !== undefined && out.bits !== only) {
      throw new AssemblyError(
        `${mnemonic}: this form exists in ${only}-bit code only, and this code is ${out.bits}-bit`,
      );
    }
    out.emit({ mnemonic, shown: [], opcode, ...prefixes });
  };
}

const SIZE = { 8: 'BYTE', 32: 'DWORD', 64: 'QWORD' } as const;
const ACCUMULATOR = { 8: 'al', 32: 'eax', 64: 'rax' } as const;
const STRING_OPCODE = { movs: 0xa4, stos: 0xaa, lods: 0xac } as const;

/** movs, stos, lods; with `rep` repeated rcx times. The operands are implicit and stand here for the listing alone. */
export function string(out: Sink, name: 'movs' | 'stos' | 'lods', width: 8 | 32 | 64, repeat?: 'rep') {
  return (): void => {
    const r = out.bits === 64 ? 'r' : 'e';
    const source = `${SIZE[width]} PTR ds:[${r}si]`;
    const destination = `${SIZE[width]} PTR es:[${r}di]`;
    const accumulator = ACCUMULATOR[width];
    const operands = { movs: [destination, source], stos: [destination, accumulator], lods: [accumulator, source] };
    out.emit({
      mnemonic: repeat === undefined ? name : `rep ${name}`,
      shown: operands[name].map(verbatim),
      prefix: repeat === undefined ? undefined : 0xf3,
      width,
      opcode: [forWidth(STRING_OPCODE[name], width)],
    });
  };
}

/** The port is dx or, below 0x100, a number; the data is al, ax or eax. */
function port(out: Sink, mnemonic: 'in' | 'out', at: number | Gpr, data: Gpr, opcode: number): void {
  if (data.number !== 0 || data.width === 64) {
    throw new AssemblyError(`${mnemonic}: the data is in al, ax or eax, not ${data.name}`);
  }
  const { width } = data;
  if (typeof at === 'object') {
    if (at.name !== 'dx') throw new AssemblyError(`${mnemonic}: the port is dx or a number, not ${at.name}`);
    const shown = mnemonic === 'in' ? [data, at] : [at, data];
    out.emit({ mnemonic, shown, width, opcode: [forWidth(opcode + 8, width)] });
    return;
  }
  if (at > 0xff) throw new AssemblyError(`${mnemonic}: port ${hex(at)} does not fit 8 bits; mov it to dx`);
  const value = byteImmediate(mnemonic, at, 0x100);
  const number = shownImmediate(value, 8);
  const shown = mnemonic === 'in' ? [data, number] : [number, data];
  out.emit({ mnemonic, shown, width, opcode: [forWidth(opcode, width)], immediate: { value, bytes: 1 } });
}

/** E4 ib, E5 ib, EC, ED. */
export function portIn(out: Sink) {
  return (to: Gpr<8> | Gpr<16> | Gpr<32>, from: number | Gpr<16>): void => port(out, 'in', from, to, 0xe4);
}

/** E6 ib, E7 ib, EE, EF. */
export function portOut(out: Sink) {
  return (to: number | Gpr<16>, from: Gpr<8> | Gpr<16> | Gpr<32>): void => port(out, 'out', to, from, 0xe6);
}

/** 0F C7 /6 rdrand, 0F C7 /7 rdseed. */
export function random(out: Sink, mnemonic: string, digit: number) {
  return (to: Gpr<16> | Gpr<32> | Gpr<64>): void => {
    out.emit({ mnemonic, shown: [to], width: wideWidthOf(mnemonic, to), opcode: [0x0f, 0xc7], reg: digit, rm: to });
  };
}

/** Instructions whose operand size the opcode implies. `shownAs` is the size that objdump prints. */
export function onAddress(out: Sink, mnemonic: string, opcode: readonly number[], digit: number, shownAs?: 8) {
  return (address: Memory): void => {
    if (address.width !== undefined) {
      throw new AssemblyError(`${mnemonic}: knows the size of its operand itself; write mem(…)`);
    }
    out.emit({ mnemonic, shown: [{ ...address, width: shownAs }], opcode, reg: digit, rm: address });
  };
}

/** sgdt, sidt, lgdt, lidt: 0F 01 /digit. objdump adds a d in 32-bit code. */
export function descriptorTable(out: Sink, name: string, digit: number) {
  return (address: Memory): void => onAddress(out, out.bits === 32 ? `${name}d` : name, [0x0f, 0x01], digit)(address);
}
