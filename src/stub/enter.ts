/**
 * First steps: find the segment and take a stack; then, once faults are survivable, put the kernel's own bytes back at its entry.
 *
 * Firmware may have write-protected the kernel's text: since 6.6 the EFI stub asks for that (efi_adjust_memory_range_protection) and enters
 * the kernel on the firmware's page tables. So supervisor write protection is off until `leave`. On some machines CR0 cannot be written
 * (CR4.CET forbids clearing WP); there the pages have to be writable already.
 */
import type { Assembler } from '../asm/assembler.ts';
import { mem, qword, dword } from '../asm/operands.ts';
import { cr0, ebp, ecx, r12, r13, r15, rax, rbp, rcx, rdi, rsi, rsp } from '../asm/registers.ts';
import { PARAMS, SCRATCH } from '../segment/layout.ts';
import type { StubLabels } from './labels.ts';
import { emitGuard, emitGuardEnd } from './traps.ts';

const CR0_WP = 1 << 16;

export function emitEnter(a: Assembler, labels: StubLabels): void {
  // The boot protocol promises both already; two bytes guard against a loader that does not keep it.
  a.cli();
  a.cld();
  a.lea(r15, mem(labels.params));
  a.mov(ebp, dword(r15, PARAMS.scratch));
  a.add(rbp, r15);
  a.mov(qword(rbp, SCRATCH.saved_rsp), rsp);
  a.lea(rsp, mem(rbp, SCRATCH.stack_top));
  a.mov(r12, rsi);
  a.mov(r13, r15);
  a.sub(r13, qword(r15, PARAMS.link_base));
}

export function emitUndoHook(a: Assembler): void {
  const keepProtection = a.label('keep_write_protection');
  a.note('write protection off');
  a.mov(rcx, cr0);
  a.mov(qword(rbp, SCRATCH.saved_cr0), rcx);
  emitGuard(a, keepProtection);
  a.and(ecx, ~CR0_WP);
  a.mov(cr0, rcx);
  a.bind(keepProtection);
  emitGuardEnd(a);

  a.note('undo the hook');
  a.add(qword(r15, PARAMS.entry), r13);
  a.mov(rdi, qword(r15, PARAMS.entry));
  a.mov(rax, qword(r15, PARAMS.entry_bytes));
  a.mov(qword(rdi), rax);
}
