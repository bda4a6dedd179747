/**
 * The compact table (docs/formats.md), decoded and applied in one pass: forwards through the 32-bit, the inverse and the 64-bit list. RSI is at the
 * byte that is read next, CURSORS where the walks are that take turns.
 *
 * Nearly all of the time goes by waiting for the image's cache lines, so the walks are there to wait for several places at once, and in
 * the 64-bit list each item asks for the lines that this walk will come to next (PREFETCHT0, wherever it is: a prefetch never faults).
 *
 * Gaps are unrolled, because moving RSI on and jumping back would be a quarter of the instructions. What is not a gap of one byte is read out of
 * line, moves RSI by what it took more, and goes back to the next place.
 *
 * Bitmaps are taken bit by bit from below, with BSF: TZCNT and BLSR (BMI1) need not be there, SSE may not be switched on yet. One branch a bit, and it is
 * mispredicted once a bitmap, at its end; a jump table of 256 ways takes fewer instructions and more time (docs/performance.md).
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { byte, dword, mem, qword } from '../asm/operands.ts';
import type { Gpr } from '../asm/registers.ts';
import { al, eax, ecx, edx, r10, r13, r14, r14d, r15, r8, r9, rax, rbx, rcx, rdi, rdx, rsi } from '../asm/registers.ts';
import { GAP, ITEM, WALKS } from '../relocs/compact.ts';
import { PARAMS } from './layout.ts';

/** One for each walk. */
const CURSORS: readonly Gpr<64>[] = [rdi, rbx, r8, r10];
/** A multiple of WALKS, so that a place in the unrolled loop has one walk. */
const UNROLLED = 2 * WALKS;
const CACHE_LINE = 64;
/** How far behind a run's sixteen words the lines are that are asked for. */
const RUN_AHEAD = 1024;

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
  const places = Array.from({ length: UNROLLED + 1 }, (_, k) => a.label(`gap_${k}`));
  const others = Array.from({ length: UNROLLED }, (_, k) => a.label(`wide_gap_${k}`));
  a.bind(start);
  a.note('gaps');
  for (const cursor of CURSORS) a.lea(cursor, mem(r13, -4)); // at the site before, its width below the cursor of the format
  for (const [k, wide] of others.entries()) {
    const cursor = CURSORS[k % WALKS]!;
    a.bind(places[k]!);
    a.movzx(eax, byte(rsi, k));
    a.cmp(al, GAP.address);
    a.jae(wide);
    a.lea(cursor, mem(cursor, rax, 1, 4));
    a.add(dword(cursor), edx);
  }
  a.bind(places[UNROLLED]!);
  a.add(rsi, UNROLLED);
  a.jmp(places[0]!);
  for (const [k, wide] of others.entries()) {
    const cursor = CURSORS[k % WALKS]!;
    const address = a.label(`gap_address_${k}`);
    const ended = a.label(`gaps_ended_${k}`);
    a.bind(wide);
    a.je(address);
    a.shl(eax, 8);
    a.mov(al, byte(rsi, k + 1));
    a.inc(rsi);
    a.lea(cursor, mem(cursor, rax, 1, 4 + GAP.address - GAP.firstOfTwo * 256));
    a.add(dword(cursor), edx);
    a.jmp(places[k + 1]!);
    a.bind(address);
    a.mov(eax, dword(rsi, k + 1));
    a.add(rsi, 4);
    a.test(eax, eax);
    a.jz(ended);
    a.lea(cursor, mem(r13, rax, 1));
    a.add(dword(cursor), edx);
    a.jmp(places[k + 1]!);
    a.bind(ended);
    a.add(rsi, k + 1);
    a.jmp(r9);
  }
}

function emitItems(a: Assembler, done: Label): void {
  const turns = CURSORS.map((_, walk) => a.label(`item_${walk}`));
  const specials = CURSORS.map((_, walk) => a.label(`run_or_address_${walk}`));
  const run = a.label('run');
  a.note('items');
  // At the bitmap before, its span below the cursor of the format.
  for (const cursor of CURSORS) a.lea(cursor, mem(r13, -ITEM.span));
  for (const [walk, cursor] of CURSORS.entries()) {
    const bit = a.label(`next_bit_${walk}`);
    a.bind(turns[walk]!);
    a.movzx(ecx, byte(rsi));
    a.cmp(ecx, ITEM.run);
    a.jae(specials[walk]!);
    a.lea(cursor, mem(cursor, rcx, 8, ITEM.span));
    a.mov(rax, qword(rsi, 1));
    a.add(rsi, 9);
    for (let line = 0; line < ITEM.span; line += CACHE_LINE) a.prefetcht0(mem(cursor, ITEM.span + line));
    a.bind(bit);
    a.bsf(rcx, rax);
    a.lea(rdx, mem(rax, -1));
    a.add(qword(cursor, rcx, 8), r14);
    a.and(rax, rdx);
    a.jnz(bit);
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
    a.jmp(turns[(walk + 1) % WALKS]!);
  }
  emitRun(a, run);
}

/** EAX times sixteen words from RDX on, which ends up behind them. Continues at R9. */
function emitRun(a: Assembler, start: Label): void {
  a.bind(start);
  for (let line = 0; line < 8 * ITEM.runUnit; line += CACHE_LINE) a.prefetcht0(mem(rdx, RUN_AHEAD + line));
  for (let k = 0; k < ITEM.runUnit; k++) a.add(qword(rdx, k * 8), r14);
  a.sub(rdx, -8 * ITEM.runUnit); // −128 fits a byte, 128 does not
  a.dec(eax);
  a.jnz(start);
  a.jmp(r9);
}
