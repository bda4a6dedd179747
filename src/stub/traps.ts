/**
 * Surviving faults.
 *
 * At startup_64 there is no IDT yet, so any fault is a triple fault. But the program asks for things that may not exist, and in a confidential
 * guest even CPUID faults (#VC under SEV-ES, #VE under TDX). So it runs on an IDT of its own. The IDT's one handler resumes at the address in
 * SCRATCH.resume, which means "this source is absent". A fault where none is expected stops the machine instead of resetting it.
 *
 * Delivering a fault loads CS from the GDT. Loaders need not leave a readable GDT for the selectors that they loaded (the kernel loads its
 * own GDT first), so the program brings one that has a code segment at the selector in CS.
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { CODE64_DESCRIPTOR, DATA_DESCRIPTOR } from '../asm/machine-state.ts';
import { mem, qword, word } from '../asm/operands.ts';
import { cs, dx, eax, ecx, edx, r8, rax, rbp, rcx, rdi, rdx, rsp } from '../asm/registers.ts';
import { GDT_ENTRIES, IDT_VECTORS, SCRATCH } from '../segment/layout.ts';
import type { StubLabels } from './labels.ts';

/** A gate's type and present bits, in position: 64-bit interrupt gate, DPL 0, IST 0 (SDM vol. 3, figure 6-8). */
const INTERRUPT_GATE = 0x8e00n << 32n;
const NMI_VECTOR = 2;

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
  emitDescriptorPointer(a, SCRATCH.idtr, SCRATCH.idt, IDT_VECTORS * 16);
  a.lidt(mem(rbp, SCRATCH.idtr));

  // A selector outside our small table (or in an LDT) keeps the loader's GDT.
  const keepGdt = a.label('keep_gdt');
  a.mov(ecx, cs);
  a.test(ecx, 0xffff_ff07);
  a.jnz(keepGdt);
  a.mov(r8, rcx);
  a.mov(rax, DATA_DESCRIPTOR);
  a.lea(rdi, mem(rbp, SCRATCH.gdt));
  a.mov(ecx, GDT_ENTRIES);
  a.rep.stosq();
  a.mov(rax, CODE64_DESCRIPTOR);
  a.mov(qword(rbp, r8, 1, SCRATCH.gdt), rax);
  emitDescriptorPointer(a, SCRATCH.gdtr, SCRATCH.gdt, GDT_ENTRIES * 8);
  a.lgdt(mem(rbp, SCRATCH.gdtr));
  a.bind(keepGdt);
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

/** Fills a pseudo-descriptor: limit u16, base u64. Clobbers RAX. */
function emitDescriptorPointer(a: Assembler, pointer: number, table: number, size: number): void {
  a.mov(word(rbp, pointer), size - 1);
  a.lea(rax, mem(rbp, table));
  a.mov(qword(rbp, pointer + 2), rax);
}

export function emitTrapHandlers(a: Assembler, labels: StubLabels): void {
  const dead = a.label('dead');
  a.bind(labels.fault);
  a.note('a fault: resume where the step said');
  a.cmp(qword(rbp, SCRATCH.resume), 0);
  a.jz(dead);
  a.lea(rsp, mem(rbp, SCRATCH.stack_top));
  a.jmp(qword(rbp, SCRATCH.resume));
  a.bind(dead);
  a.hlt();
  a.jmp(dead);
  a.bind(labels.nmi);
  a.iretq();
}
