/**
 * On to the kernel, in the loader's state: CR0, IDT, GDT and stack pointer restored, RSI pointing to boot_params.
 *
 * Nothing random is left. The scratch page with the stack is wiped and every other register is zero, so neither the slide nor the entropy
 * that it was made from stays in memory that the kernel will hand out later. (The page tables stay, because they are in use, and so does
 * the log of link addresses. Neither holds the slide.)
 */
import type { Assembler } from '../asm/assembler.ts';
import { mem, qword } from '../asm/operands.ts';
import {
  cr0,
  eax,
  ebp,
  ebx,
  ecx,
  edi,
  edx,
  r10d,
  r11d,
  r12,
  r12d,
  r13d,
  r14d,
  r15d,
  r8d,
  r9d,
  rax,
  rbp,
  rcx,
  rdi,
  rsi,
  rsp,
} from '../asm/registers.ts';
import { PARAMS, SCRATCH } from '../segment/layout.ts';
import type { StubLabels } from './labels.ts';
import { emitGuardEnd } from './traps.ts';

export function emitLeave(a: Assembler, labels: StubLabels): void {
  a.bind(labels.leave);
  // A step that decides to leave may be under guard. From here on no fault is expected.
  emitGuardEnd(a);
  const keepCr0 = a.label('keep_cr0');
  a.mov(rcx, cr0);
  a.mov(rax, qword(rbp, SCRATCH.saved_cr0));
  a.cmp(rax, rcx);
  a.je(keepCr0);
  a.mov(cr0, rax);
  a.bind(keepCr0);
  a.lidt(mem(rbp, SCRATCH.saved_idtr));
  a.lgdt(mem(rbp, SCRATCH.saved_gdtr));
  a.mov(rsp, qword(rbp, SCRATCH.saved_rsp));
  a.mov(rdi, rbp);
  a.mov(ecx, SCRATCH.wiped / 8);
  a.xor(eax, eax);
  a.rep.stosq();
  a.mov(rsi, r12);
  for (const register of [ebx, ecx, edx, ebp, edi, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d])
    a.xor(register, register);
  a.jmp(qword(labels.params, PARAMS.entry));
}
