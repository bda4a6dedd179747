/**
 * The registers of an x86-64 processor, as values.
 *
 * A register knows its name, its width in bits and its number. The low three bits of the number go into ModRM, SIB or the opcode (SDM
 * vol. 2, section 2.1.3), bit 3 into the REX prefix (section 2.2.1). The width is part of the type, so that `mov(rax, ebx)` does not compile.
 *
 * ah, ch, dh and bh are left out on purpose. They share their numbers with spl, bpl, sil and dil, and cannot be encoded in an instruction
 * with a REX prefix. With only one of the two sets on offer, there is nothing to get wrong.
 */
/** Operand widths of general-purpose instructions, in bits. */
export type OperandWidth = 8 | 16 | 32 | 64;

/** What the processor decodes: 64-bit mode, or 32-bit protected mode. */
export type Bits = 32 | 64;

/** A general-purpose register. */
export interface Gpr<W extends OperandWidth = OperandWidth> {
  readonly kind: 'gpr';
  readonly name: string;
  readonly width: W;
  readonly number: number;
}

export interface SegmentRegister {
  readonly kind: 'segment';
  readonly name: string;
  readonly number: number;
}

export interface ControlRegister {
  readonly kind: 'control';
  readonly name: string;
  readonly number: number;
}

export type Register = Gpr | SegmentRegister | ControlRegister;

function gpr<W extends OperandWidth>(name: string, width: W, number: number): Gpr<W> {
  return Object.freeze({ kind: 'gpr', name, width, number });
}

function segment(name: string, number: number): SegmentRegister {
  return Object.freeze({ kind: 'segment', name, number });
}

function control(name: string, number: number): ControlRegister {
  return Object.freeze({ kind: 'control', name, number });
}

export const rax = gpr('rax', 64, 0);
export const rcx = gpr('rcx', 64, 1);
export const rdx = gpr('rdx', 64, 2);
export const rbx = gpr('rbx', 64, 3);
export const rsp = gpr('rsp', 64, 4);
export const rbp = gpr('rbp', 64, 5);
export const rsi = gpr('rsi', 64, 6);
export const rdi = gpr('rdi', 64, 7);
export const r8 = gpr('r8', 64, 8);
export const r9 = gpr('r9', 64, 9);
export const r10 = gpr('r10', 64, 10);
export const r11 = gpr('r11', 64, 11);
export const r12 = gpr('r12', 64, 12);
export const r13 = gpr('r13', 64, 13);
export const r14 = gpr('r14', 64, 14);
export const r15 = gpr('r15', 64, 15);

export const eax = gpr('eax', 32, 0);
export const ecx = gpr('ecx', 32, 1);
export const edx = gpr('edx', 32, 2);
export const ebx = gpr('ebx', 32, 3);
export const esp = gpr('esp', 32, 4);
export const ebp = gpr('ebp', 32, 5);
export const esi = gpr('esi', 32, 6);
export const edi = gpr('edi', 32, 7);
export const r8d = gpr('r8d', 32, 8);
export const r9d = gpr('r9d', 32, 9);
export const r10d = gpr('r10d', 32, 10);
export const r11d = gpr('r11d', 32, 11);
export const r12d = gpr('r12d', 32, 12);
export const r13d = gpr('r13d', 32, 13);
export const r14d = gpr('r14d', 32, 14);
export const r15d = gpr('r15d', 32, 15);

export const ax = gpr('ax', 16, 0);
export const cx = gpr('cx', 16, 1);
export const dx = gpr('dx', 16, 2);
export const bx = gpr('bx', 16, 3);
export const sp = gpr('sp', 16, 4);
export const bp = gpr('bp', 16, 5);
export const si = gpr('si', 16, 6);
export const di = gpr('di', 16, 7);
export const r8w = gpr('r8w', 16, 8);
export const r9w = gpr('r9w', 16, 9);
export const r10w = gpr('r10w', 16, 10);
export const r11w = gpr('r11w', 16, 11);
export const r12w = gpr('r12w', 16, 12);
export const r13w = gpr('r13w', 16, 13);
export const r14w = gpr('r14w', 16, 14);
export const r15w = gpr('r15w', 16, 15);

export const al = gpr('al', 8, 0);
export const cl = gpr('cl', 8, 1);
export const dl = gpr('dl', 8, 2);
export const bl = gpr('bl', 8, 3);
export const spl = gpr('spl', 8, 4);
export const bpl = gpr('bpl', 8, 5);
export const sil = gpr('sil', 8, 6);
export const dil = gpr('dil', 8, 7);
export const r8b = gpr('r8b', 8, 8);
export const r9b = gpr('r9b', 8, 9);
export const r10b = gpr('r10b', 8, 10);
export const r11b = gpr('r11b', 8, 11);
export const r12b = gpr('r12b', 8, 12);
export const r13b = gpr('r13b', 8, 13);
export const r14b = gpr('r14b', 8, 14);
export const r15b = gpr('r15b', 8, 15);

export const es = segment('es', 0);
export const cs = segment('cs', 1);
export const ss = segment('ss', 2);
export const ds = segment('ds', 3);
export const fs = segment('fs', 4);
export const gs = segment('gs', 5);

export const cr0 = control('cr0', 0);
export const cr2 = control('cr2', 2);
export const cr3 = control('cr3', 3);
export const cr4 = control('cr4', 4);

/** All sixteen registers of each width, by number. */
export const GPRS = {
  64: [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15],
  32: [eax, ecx, edx, ebx, esp, ebp, esi, edi, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d],
  16: [ax, cx, dx, bx, sp, bp, si, di, r8w, r9w, r10w, r11w, r12w, r13w, r14w, r15w],
  8: [al, cl, dl, bl, spl, bpl, sil, dil, r8b, r9b, r10b, r11b, r12b, r13b, r14b, r15b],
} as const satisfies Record<OperandWidth, readonly Gpr[]>;

/** The same register at another width: `atWidth(rax, 32)` is eax. */
export function atWidth<W extends OperandWidth>(register: Gpr, width: W): Gpr<W> {
  const found = GPRS[width][register.number];
  if (found === undefined) throw new RangeError(`there is no general-purpose register number ${register.number}`);
  return found as Gpr<W>;
}
