/** First step: find ourselves, take a stack, and put the kernel's own bytes back at its entry. */
import type { Assembler } from '../asm/assembler.ts';
import { mem, qword, dword } from '../asm/operands.ts';
import { ebp, r12, r13, r15, rax, rbp, rdi, rsi, rsp } from '../asm/registers.ts';
import { PARAMS, SCRATCH } from './layout.ts';
import type { Stub } from './program.ts';

export function emitEnter(a: Assembler, stub: Stub): void {
  a.note('enter');
  // The protocol promises both; a loader that breaks the promise costs two bytes.
  a.cli();
  a.cld();
  a.lea(r15, mem(stub.params));
  a.mov(ebp, dword(r15, PARAMS.scratch));
  a.add(rbp, r15);
  a.mov(qword(rbp, SCRATCH.saved_rsp), rsp);
  a.lea(rsp, mem(rbp, SCRATCH.stack_top));
  a.mov(r12, rsi);
  a.mov(r13, r15);
  a.sub(r13, qword(r15, PARAMS.link_base));

  a.note('undo the hook');
  a.add(qword(r15, PARAMS.entry), r13);
  a.mov(rdi, qword(r15, PARAMS.entry));
  a.mov(rax, qword(r15, PARAMS.entry_bytes));
  a.mov(qword(rdi), rax);
}
