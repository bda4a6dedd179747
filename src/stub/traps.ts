/**
 * Surviving faults.
 *
 * At startup_64 there is no IDT yet, so any fault is a triple fault. But the program asks for things that may not exist, and in a confidential
 * guest even CPUID faults (#VC under SEV-ES, #VE under TDX). So it runs on an IDT of its own. The IDT's one handler resumes at the address in
 * SCRATCH.resume, which means "this source is absent". A fault where none is expected stops the machine instead of resetting it.
 *
 * Delivering a fault or an NMI loads CS from the GDT, and the IRETQ that ends an NMI loads SS from it. Loaders need not leave a readable GDT for the
 * selectors that they loaded (the kernel loads its own GDT first), so the program brings one: GDT_ENTRIES data segments, with a code segment at the
 * selector in CS. Its base is set so that this works for whatever selector CS holds. Where SS holds a selector that it does not have, SS becomes the
 * null selector, which IRETQ takes in 64-bit mode (SDM vol. 2, IRET; the kernel loads SS before it uses it). Otherwise an NMI ended in a #GP.
 *
 * What is left as it is without the stub: an NMI before our IDT is loaded and after it is put back meets the loader's IDT, as it does at startup_64.
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { CODE64_DESCRIPTOR, DATA_DESCRIPTOR } from '../asm/machine-state.ts';
import { mem, qword, word } from '../asm/operands.ts';
import { cs, cx, dl, dx, eax, ecx, edx, rax, rbp, rcx, rdi, rdx, rsp, ss } from '../asm/registers.ts';
import { GDT_ENTRIES, IDT_VECTORS, SCRATCH } from '../segment/layout.ts';
import type { StubLabels } from './labels.ts';

/** A gate's type and present bits, in position: 64-bit interrupt gate, DPL 0, IST 0 (SDM vol. 3, figure 6-8). */
const INTERRUPT_GATE = 0x8e00n << 32n;
const NMI_VECTOR = 2;
/** A selector's table indicator: the LDT. */
const SELECTOR_TI = 1 << 2;

/** Until `emitGuardEnd`, a fault continues at `resume`. Clobbers RAX. */
export function emitGuard(a: Assembler, resume: Label): void {
  a.lea(rax, mem(resume));
  a.mov(qword(rbp, SCRATCH.resume), rax);
}

export function emitGuardEnd(a: Assembler): void {
  a.mov(qword(rbp, SCRATCH.resume), 0);
}

export function emitInstallTraps(a: Assembler, labels: StubLabels): void {
  a.note('install traps');
  a.sidt(mem(rbp, SCRATCH.saved_idtr));
  a.sgdt(mem(rbp, SCRATCH.saved_gdtr));
  emitGuardEnd(a);
  // The GDT first: the gates of our IDT need it.
  emitInstallGdt(a);

  const fill = a.label('fill_idt');
  emitGate(a, labels.fault);
  a.lea(rdi, mem(rbp, SCRATCH.idt));
  a.mov(ecx, IDT_VECTORS);
  a.bind(fill);
  a.mov(qword(rdi), rax);
  a.mov(qword(rdi, 8), rdx);
  a.add(rdi, 16);
  a.dec(ecx);
  a.jnz(fill);
  emitGate(a, labels.nmi);
  a.mov(qword(rbp, SCRATCH.idt + NMI_VECTOR * 16), rax);
  a.mov(qword(rbp, SCRATCH.idt + NMI_VECTOR * 16 + 8), rdx);
  a.mov(word(rbp, SCRATCH.idtr), IDT_VECTORS * 16 - 1);
  a.lea(rax, mem(rbp, SCRATCH.idt));
  a.mov(qword(rbp, SCRATCH.idtr + 2), rax);
  a.lidt(mem(rbp, SCRATCH.idtr));
}

/**
 * A GDT that has a code segment at the selector in CS, and data segments at the others that differ from it in the low byte only. Its base lies as far
 * before our descriptors as the first of these selectors is from 0. Nothing before the descriptors is ever read.
 */
function emitInstallGdt(a: Assembler): void {
  const nullStack = a.label('null_ss');
  const loadStack = a.label('load_ss');
  a.note('GDT');
  a.mov(rax, DATA_DESCRIPTOR);
  a.lea(rdi, mem(rbp, SCRATCH.gdt));
  a.mov(ecx, GDT_ENTRIES);
  a.rep.stosq();
  // A selector in an LDT keeps the loader's GDT and LDT.
  a.mov(edx, cs);
  a.test(edx, SELECTOR_TI);
  a.jnz(nullStack);
  a.movzx(ecx, dl);
  a.mov(rax, CODE64_DESCRIPTOR);
  a.mov(qword(rbp, rcx, 1, SCRATCH.gdt), rax);
  a.mov(ecx, edx);
  a.or(ecx, GDT_ENTRIES * 8 - 1);
  a.mov(word(rbp, SCRATCH.gdtr), cx);
  a.lea(rax, mem(rbp, SCRATCH.gdt + GDT_ENTRIES * 8 - 1));
  a.sub(rax, rcx);
  a.mov(qword(rbp, SCRATCH.gdtr + 2), rax);
  a.lgdt(mem(rbp, SCRATCH.gdtr));

  a.note('SS');
  a.mov(eax, ss);
  a.xor(edx, eax);
  a.jz(nullStack);
  a.test(edx, ~(GDT_ENTRIES * 8 - 8));
  a.jz(loadStack);
  a.bind(nullStack);
  a.xor(eax, eax);
  a.bind(loadStack);
  a.mov(ss, eax);
}

/** Makes an interrupt gate to `handler` in RDX:RAX, with the current CS. Clobbers RCX. */
function emitGate(a: Assembler, handler: Label): void {
  a.lea(rdx, mem(handler));
  a.mov(eax, edx);
  a.and(eax, 0xffff_0000);
  a.shl(rax, 32);
  a.movzx(ecx, dx);
  a.or(rax, rcx);
  a.mov(ecx, cs);
  a.shl(rcx, 16);
  a.or(rax, rcx);
  a.mov(rcx, INTERRUPT_GATE);
  a.or(rax, rcx);
  a.shr(rdx, 32);
}

export function emitTrapHandlers(a: Assembler, labels: StubLabels): void {
  const dead = a.label('dead');
  a.bind(labels.fault);
  a.note('a fault: resume where the step said');
  // First the stack: where HLT itself faults (in a TDX guest), the machine comes here again and again.
  a.lea(rsp, mem(rbp, SCRATCH.stack_top));
  a.cmp(qword(rbp, SCRATCH.resume), 0);
  a.jz(dead);
  a.jmp(qword(rbp, SCRATCH.resume));
  a.bind(dead);
  a.hlt();
  a.jmp(dead);
  a.bind(labels.nmi);
  a.iretq();
}
