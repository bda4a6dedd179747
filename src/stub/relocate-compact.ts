/**
 * The compact table (docs/formats.md), decoded and applied in one pass: forwards through the 32-bit, the inverse and the 64-bit list. RSI is at the
 * byte that is read next, RDI where the cursor is.
 *
 * Gaps are unrolled, because moving RSI on and jumping back would be a quarter of the instructions. What is not a gap of one byte leaves the
 * unrolled part, puts RSI right, and enters it again at its start.
 *
 * Bitmaps are taken bit by bit from below, with BSF: TZCNT and BLSR (BMI1) need not be there, SSE may not be switched on yet. One branch a bit, and it is
 * mispredicted once a bitmap, at its end; a jump table of 256 ways takes fewer instructions and more time (docs/performance.md).
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { byte, dword, mem, qword } from '../asm/operands.ts';
import { al, eax, ecx, edx, r13, r14, r14d, r15, r9, rax, rcx, rdi, rdx, rsi } from '../asm/registers.ts';
import { GAP, ITEM } from '../relocs/compact.ts';
import { PARAMS } from './layout.ts';

const UNROLLED = 8;

/** Continues at `done`. */
export function emitCompactTable(a: Assembler, done: Label): void {
  const inverse = a.label('inverse_gaps');
  const gaps = a.label('gaps');
  const items = a.label('items');
  a.mov(rsi, r15);
  a.add(rsi, qword(r15, PARAMS.table));
  a.mov(edx, r14d);
  a.lea(r9, mem(inverse));
  a.jmp(gaps);
  a.bind(inverse);
  a.neg(edx);
  a.lea(r9, mem(items));
  emitGaps(a, gaps);
  a.bind(items);
  emitItems(a, done);
}

/** One list of gaps: EDX is added at each site. Continues at R9. */
function emitGaps(a: Assembler, start: Label): void {
  const next = a.label('next_gaps');
  const address = a.label('gap_address');
  const ended = a.label('gaps_ended');
  const wide = Array.from({ length: UNROLLED }, (_, k) => a.label(`wide_gap_${k}`));
  a.bind(start);
  a.note('gaps');
  a.lea(rdi, mem(r13, -4)); // RDI is the site before, its width below the cursor
  a.bind(next);
  for (let k = 0; k < UNROLLED; k++) {
    a.movzx(eax, byte(rsi, k));
    a.cmp(al, GAP.address);
    a.jae(wide[k]!);
    a.lea(rdi, mem(rdi, rax, 1, 4));
    a.add(dword(rdi), edx);
  }
  a.add(rsi, UNROLLED);
  a.jmp(next);
  for (let k = 0; k < UNROLLED; k++) {
    const addressHere = a.label(`gap_address_${k}`);
    a.bind(wide[k]!);
    a.je(addressHere);
    a.shl(eax, 8);
    a.mov(al, byte(rsi, k + 1));
    a.add(rsi, k + 2);
    a.lea(rdi, mem(rdi, rax, 1, 4 + GAP.address - GAP.firstOfTwo * 256));
    a.add(dword(rdi), edx);
    a.jmp(next);
    a.bind(addressHere);
    a.add(rsi, k + 1);
    if (k < UNROLLED - 1) a.jmp(address);
  }
  a.bind(address);
  a.mov(eax, dword(rsi));
  a.add(rsi, 4);
  a.test(eax, eax);
  a.jz(ended);
  a.lea(rdi, mem(r13, rax, 1));
  a.add(dword(rdi), edx);
  a.jmp(next);
  a.bind(ended);
  a.jmp(r9);
}

function emitItems(a: Assembler, done: Label): void {
  const next = a.label('next_item');
  const bit = a.label('next_bit');
  const special = a.label('run_or_address');
  const run = a.label('run');
  a.note('items');
  a.mov(rdi, r13);
  a.jmp(next);
  a.bind(bit);
  a.bsf(rcx, rax);
  a.lea(rdx, mem(rax, -1));
  a.add(qword(rdi, rcx, 8), r14);
  a.and(rax, rdx);
  a.jnz(bit);
  a.add(rdi, ITEM.span);
  a.bind(next);
  a.movzx(ecx, byte(rsi));
  a.cmp(ecx, ITEM.run);
  a.jae(special);
  a.lea(rdi, mem(rdi, rcx, 8));
  a.mov(rax, qword(rsi, 1));
  a.add(rsi, 9);
  a.jmp(bit);
  a.bind(special);
  a.mov(eax, dword(rsi, 1));
  a.lea(rsi, mem(rsi, 5)); // leaves the comparison's flags
  a.je(run);
  a.lea(rdi, mem(r13, rax, 1));
  a.test(eax, eax);
  a.jnz(next);
  a.jmp(done);
  a.bind(run);
  for (let k = 0; k < ITEM.runUnit; k++) a.add(qword(rdi, k * 8), r14);
  a.sub(rdi, -8 * ITEM.runUnit); // −128 fits a byte, 128 does not
  a.dec(eax);
  a.jnz(run);
  a.jmp(next);
}
