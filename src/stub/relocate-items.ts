/**
 * Applies the 64-bit list of the compact table: items, each a bitmap or a run, in four walks that take turns (relocs/tables/compact-items.ts).
 * Four registers hold the walks' positions. They are passed on after each item, so that the one whose turn it is is always the first.
 *
 * Each item prefetches the lines of its walk's next item, four items further on in the table. If there is no such item, the lines prefetched
 * are somewhere in the image or near it, which costs a little and breaks nothing.
 *
 * There are two ways through a bitmap's bits, from below. With POPCNT and BLSR the bits are counted, and a jump leads into 64 times the three
 * instructions that a bit takes, that many from the end. The jump is mispredicted nearly always, as the end of a loop would be. But its target is
 * known early, because it is worked out one item ahead. Without POPCNT and BLSR there is a loop that every processor runs. (SSE and AVX may not be enabled
 * yet; BLSR does not need them.)
 *
 * TZCNT is BSF where there is no BMI1; the source is never 0, so both give the same. BSF, BSR and BTR are microcoded or slow on AMD's processors.
 * What else was tried: docs/performance.md.
 */
import { Assembler } from '../asm/assembler.ts';
import type { Label } from '../asm/assembler.ts';
import { byte, dword, mem, qword } from '../asm/operands.ts';
import type { Gpr } from '../asm/registers.ts';
import { eax, ecx, r10, r11, r13, r14, r8, r9, r9d, rax, rbp, rbx, rcx, rdi, rdx, rsi } from '../asm/registers.ts';
import { ITEM } from '../relocs/tables/compact-items.ts';
import { SCRATCH } from '../segment/layout.ts';

/** One for each walk; the first is the one whose turn it is. */
const CURSORS = [rdi, rbx, r8, r10] as const satisfies readonly Gpr<64>[];
const BITS = 64;
const CACHE_LINE = 64;
/** How far ahead of a run's sixteen words lines are prefetched. */
const RUN_AHEAD = 2048;
/** CPUID feature bits (SDM vol. 2, CPUID). */
const LEAF1_ECX_POPCNT = 23;
const LEAF7_EBX_BMI1 = 3;

/** Continues at `done`. */
export function emitItems(a: Assembler, done: Label): void {
  const item = a.label('item');
  const bit = a.label('next_bit');
  const afterSpecial = a.label('after_run_or_address');
  const special = a.label('run_or_address');
  const run = a.label('run');
  const sixteen = a.label('sixteen_words');
  a.note('items');
  // A cursor here is at the last bitmap, one span below the cursor of the format.
  for (const cursor of CURSORS) a.lea(cursor, mem(r13, -ITEM.span));
  // R9: the end of the 64 bits, or 0 for the loop.
  a.xor(r9d, r9d);
  a.bt(dword(rbp, SCRATCH.cpu_leaf1), LEAF1_ECX_POPCNT);
  a.jnc(item);
  a.bt(dword(rbp, SCRATCH.cpu_leaf7), LEAF7_EBX_BMI1);
  a.jnc(item);
  a.lea(r9, mem(item));
  a.bind(afterSpecial);
  a.test(r9, r9);
  a.jz(item);
  emitTarget(a);
  a.jmp(item);

  for (let left = BITS; left > 0; left--) emitBit(a);
  a.bind(item);
  a.movzx(ecx, byte(rsi));
  a.cmp(ecx, ITEM.run);
  a.jae(special);
  a.lea(rdx, mem(CURSORS[0], rcx, 8, ITEM.span));
  emitPassOn(a);
  a.mov(CURSORS[3], rdx);
  a.movzx(ecx, byte(rsi, CURSORS.length * ITEM.bitmap));
  a.lea(rcx, mem(rdx, rcx, 8, ITEM.span));
  for (let line = 0; line < ITEM.span; line += CACHE_LINE) a.prefetcht1(mem(rcx, line));
  a.mov(rax, qword(rsi, 1));
  a.add(rsi, ITEM.bitmap);
  a.test(r9, r9);
  a.jz(bit);
  a.mov(rcx, r11);
  emitTarget(a);
  a.jmp(rcx);

  a.bind(bit);
  a.tzcnt(rcx, rax);
  a.lea(r11, mem(rax, -1));
  a.add(qword(rdx, rcx, 8), r14);
  a.and(rax, r11);
  a.jnz(bit);
  a.jmp(item);

  a.bind(special);
  a.mov(eax, dword(rsi, 1));
  a.lea(rsi, mem(rsi, 5)); // leaves the comparison's flags
  a.je(run);
  a.lea(CURSORS[0], mem(r13, rax, 1, -ITEM.span));
  a.test(eax, eax);
  a.jnz(afterSpecial);
  a.jmp(done);

  // EAX times sixteen words.
  a.bind(run);
  a.lea(rdx, mem(CURSORS[0], ITEM.span));
  a.bind(sixteen);
  for (let line = 0; line < 8 * ITEM.runUnit; line += CACHE_LINE) a.prefetcht1(mem(rdx, RUN_AHEAD + line));
  for (let k = 0; k < ITEM.runUnit; k++) a.add(qword(rdx, k * 8), r14);
  a.sub(rdx, -8 * ITEM.runUnit); // −128 fits a byte, 128 does not
  a.dec(eax);
  a.jnz(sixteen);
  emitPassOn(a);
  a.lea(CURSORS[3], mem(rdx, -ITEM.span));
  a.jmp(afterSpecial);
}

/** R11: where the bits of the bitmap at RSI begin. For other items it is anything, and not used. */
function emitTarget(a: Assembler): void {
  a.popcnt(r11, qword(rsi, 1));
  a.imul(r11, r11, -lengthOf(emitBit));
  a.add(r11, r9);
}

/** Adds at the lowest bit of RAX, and clears it. */
function emitBit(a: Assembler): void {
  a.tzcnt(rcx, rax);
  a.blsr(rax, rax);
  a.add(qword(rdx, rcx, 8), r14);
}

/** Each cursor becomes the one before it. The last one is for the caller to set. */
function emitPassOn(a: Assembler): void {
  a.mov(CURSORS[0], CURSORS[1]);
  a.mov(CURSORS[1], CURSORS[2]);
  a.mov(CURSORS[2], CURSORS[3]);
}

function lengthOf(emit: (a: Assembler) => void): number {
  const alone = new Assembler();
  emit(alone);
  return alone.assemble().code.length;
}
