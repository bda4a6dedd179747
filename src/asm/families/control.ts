/** Families that transfer control: jumps, calls, conditional jumps. */
import { hex } from '../../base/errors.ts';
import { AssemblyError, Label, toSigned } from '../operands.ts';
import type { Memory } from '../operands.ts';
import type { Gpr } from '../registers.ts';
import type { Sink } from './common.ts';

/** FF /digit: through a register or memory of the mode's width, without REX.W. */
function indirect(out: Sink, mnemonic: string, target: Gpr | Memory, digit: number): void {
  if (target.width !== out.bits) {
    const size = out.bits === 64 ? 'qword' : 'dword';
    throw new AssemblyError(
      `${mnemonic}: in ${out.bits}-bit code the target is a label, a ${out.bits}-bit register or ${size}(…)`,
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

/** E8 cd, FF /2. */
export function call(out: Sink) {
  return (target: Label | Gpr<32> | Gpr<64> | Memory): void => {
    if (target instanceof Label) out.branch({ mnemonic: 'call', label: target, short: undefined, near: [0xe8] });
    else indirect(out, 'call', target, 2);
  };
}

/** EA cd: jmp ptr16:32. The target is an absolute address, so a label needs a program with an origin. */
export function jumpFar(out: Sink) {
  return (selector: number, target: Label | number): void => {
    if (out.bits !== 32) {
      throw new AssemblyError('ljmp: 64-bit mode has no jmp ptr16:32; push the frame that iretq pops, then iretq');
    }
    if (!Number.isInteger(selector) || selector < 0 || selector > 0xffff) {
      throw new AssemblyError(`ljmp: selector ${hex(selector)} does not fit 16 bits`);
    }
    const value = target instanceof Label ? target : toSigned(target, 32, 'ljmp');
    const shown = [{ kind: 'far', selector, value }] as const;
    out.emit({ mnemonic: 'jmp', shown, opcode: [0xea], immediate: { value, bytes: 4 }, selector });
  };
}

/** jcc: 70+cc cb, 0F 80+cc cd. The condition codes are in SDM vol. 1, appendix B. */
export function jumpIf(out: Sink, mnemonic: string, condition: number) {
  const rows = { short: [0x70 | condition], near: [0x0f, 0x80 | condition] };
  return (label: Label): void => out.branch({ mnemonic, label, ...rows });
}
