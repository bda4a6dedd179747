/**
 * Applies the 64-bit list of the compact table: items, each a bitmap or a run, in four walks that take turns (relocs/tables/compact-items.ts).
 * CURSORS holds their positions.
 *
 * Each item prefetches the lines of its walk's next item, four items further on in the table. If there is no such item, the lines prefetched
 * are somewhere in the image or near it, which costs a little and breaks nothing.
 *
 * Bitmaps are consumed from both ends, one bit from below and one from above, so that each step's wait serves two bits, not one. They use
 * BSF and BSR, because TZCNT and BLSR (BMI1) need not exist and SSE may not be enabled yet. What else was tried: docs/performance.md.
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { byte, dword, mem, qword } from '../asm/operands.ts';
import type { Gpr } from '../asm/registers.ts';
import { eax, ecx, edx, r10, r13, r14, r8, r9, rax, rbx, rcx, rdi, rdx, rsi } from '../asm/registers.ts';
import { ITEM, PIECES } from '../relocs/tables/compact-items.ts';

/** One for each walk. */
const CURSORS: readonly Gpr<64>[] = [rdi, rbx, r8, r10];
const CACHE_LINE = 64;
/** How far ahead of a run's sixteen words lines are prefetched. */
const RUN_AHEAD = 2048;

/** Continues at `done`. */
export function emitItems(a: Assembler, done: Label): void {
  const turns = CURSORS.map((_, walk) => a.label(`item_${walk}`));
  const specials = CURSORS.map((_, walk) => a.label(`run_or_address_${walk}`));
  const run = a.label('run');
  a.note('items');
  // A cursor here is at the last bitmap, one span below the cursor of the format.
  for (const cursor of CURSORS) a.lea(cursor, mem(r13, -ITEM.span));
  for (const [walk, cursor] of CURSORS.entries()) {
    const bits = a.label(`next_bits_${walk}`);
    const bitmapDone = a.label(`bitmap_done_${walk}`);
    a.bind(turns[walk]!);
    a.movzx(ecx, byte(rsi));
    a.cmp(ecx, ITEM.run);
    a.jae(specials[walk]!);
    a.lea(cursor, mem(cursor, rcx, 8, ITEM.span));
    a.movzx(edx, byte(rsi, PIECES * ITEM.bitmap));
    a.lea(rdx, mem(cursor, rdx, 8, ITEM.span));
    for (let line = 0; line < ITEM.span; line += CACHE_LINE) a.prefetcht1(mem(rdx, line));
    a.mov(rax, qword(rsi, 1));
    a.add(rsi, ITEM.bitmap);
    a.bsf(rcx, rax);
    a.bsr(rdx, rax);
    a.bind(bits);
    a.btr(rax, rcx);
    a.add(qword(cursor, rcx, 8), r14);
    a.btr(rax, rdx);
    a.jnc(bitmapDone); // both searches found the same bit
    a.add(qword(cursor, rdx, 8), r14);
    a.bsf(rcx, rax);
    a.bsr(rdx, rax);
    a.jnz(bits);
    a.bind(bitmapDone);
  }
  a.jmp(turns[0]!);
  for (const [walk, cursor] of CURSORS.entries()) {
    const runHere = a.label(`run_${walk}`);
    const runDone = a.label(`run_done_${walk}`);
    a.bind(specials[walk]!);
    a.mov(eax, dword(rsi, 1));
    a.lea(rsi, mem(rsi, 5)); // leaves the comparison's flags
    a.je(runHere);
    a.lea(cursor, mem(r13, rax, 1, -ITEM.span));
    a.test(eax, eax);
    a.jnz(turns[walk]!);
    a.jmp(done);
    a.bind(runHere);
    a.lea(rdx, mem(cursor, ITEM.span));
    a.lea(r9, mem(runDone));
    a.jmp(run);
    a.bind(runDone);
    a.lea(cursor, mem(rdx, -ITEM.span));
    a.jmp(turns[(walk + 1) % PIECES]!);
  }
  emitRun(a, run);
}

/** Adds to EAX times sixteen words, from RDX on. RDX ends up after them. Continues at R9. */
function emitRun(a: Assembler, start: Label): void {
  a.bind(start);
  for (let line = 0; line < 8 * ITEM.runUnit; line += CACHE_LINE) a.prefetcht1(mem(rdx, RUN_AHEAD + line));
  for (let k = 0; k < ITEM.runUnit; k++) a.add(qword(rdx, k * 8), r14);
  a.sub(rdx, -8 * ITEM.runUnit); // −128 fits a byte, 128 does not
  a.dec(eax);
  a.jnz(start);
  a.jmp(r9);
}
