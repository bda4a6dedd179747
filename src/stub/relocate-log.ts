/**
 * The log of both readers of the 32-bit lists: each site is noted when its line is requested, and the add is done `lag` entries later. It lies in the
 * scratch memory, and RBX points into it.
 */
import type { Assembler } from '../asm/assembler.ts';
import { mem } from '../asm/operands.ts';
import { ecx, r13, rax, rbp, rdi, rsi } from '../asm/registers.ts';
import type { Memory } from '../asm/operands.ts';
import { SCRATCH } from '../segment/layout.ts';

/** Fills its first `lag` entries with a place that is no site, so that the first adds harm nothing. RDI points past them. */
export function emitFillLog(a: Assembler, lag: number): void {
  a.lea(rax, mem(rbp, SCRATCH.no_site));
  a.sub(rax, r13);
  a.lea(rdi, mem(rbp, SCRATCH.log));
  a.mov(ecx, lag);
  a.rep.stosd();
}

/** Moves the `lag` entries from `from` on, whose adds are still to be done, to its start. RDI points past them, and RAX keeps RSI. */
export function emitMoveLog(a: Assembler, lag: number, from: Memory): void {
  a.mov(rax, rsi);
  a.lea(rsi, from);
  a.lea(rdi, mem(rbp, SCRATCH.log));
  a.mov(ecx, lag);
  a.rep.movsd();
}
