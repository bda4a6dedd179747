/**
 * Applies the 32-bit lists of the compact table: batches of chains (relocs/tables/compact-chains.ts), row by row.
 *
 * For each site the loop decodes its address, prefetches its cache line and appends the address to the log. It then adds the slide at the
 * site that was decoded LAG sites ago, whose line has arrived by now. A row also finds the sites of the row before in the log. The log starts
 * with LAG entries of a dummy site, and when it is full its last LAG entries are moved to its start. Entries are link addresses: a u32 each,
 * without the slide.
 *
 * The loops are unrolled. A row whose length is not a multiple of UNROLLED enters a loop in the middle. All pointers of a row point to its
 * end, and RDI counts up to 0.
 */
import { Assembler, AssemblyError } from '../asm/assembler.ts';
import type { Label } from '../asm/assembler.ts';
import { byte, dword, mem, qword, word } from '../asm/operands.ts';
import { eax, ecx, edx, r10d, r11, r11d, r13, r8, r8d, r9, rax, rbp, rbx, rcx, rdi, rsi } from '../asm/registers.ts';

import { CHAIN } from '../relocs/tables/compact-chains.ts';
import { SCRATCH } from '../segment/layout.ts';
import { emitFillLog, emitMoveLog } from './relocate-log.ts';

const UNROLLED = 8;
/** Sites between the prefetch of a line and the add: far more than the lines that a core waits for at once. At least the length of a row. */
const LAG = 512;
const ENTRY = 4;
const ROW_AT_MOST = 255;
/** With its last entry here or below, the log has room for another row. */
const LAST_ENTRY = SCRATCH.size - (ROW_AT_MOST + 1) * ENTRY;

if (LAG < ROW_AT_MOST || SCRATCH.log + 2 * LAG * ENTRY > LAST_ENTRY)
  throw new AssemblyError(
    'the log: a row must find the row before, and the entries kept must not overlap their new place',
  );

/** Pointers are one place short of a row's end, so that no displacement is 0 and all places of a loop have the same length. */
const bytesRow = (place: number) => byte(rsi, rdi, 1, place + 1);
const wordsRow = (place: number) => word(rsi, rdi, 2, 2 * (place + 1));
const newRow = (place: number, ago = 0) => dword(rbx, rdi, ENTRY, ENTRY * (place + 1 - ago));
const rowBefore = (place: number) => dword(r8, rdi, ENTRY, ENTRY * (place + 1));

/** One list: adds EDX at each site. Continues at R9. */
export function emitChains(a: Assembler, start: Label): void {
  const batch = a.label('batch');
  const row = a.label('row');
  const rowsLeft = a.label('rows_left');
  const nextBatch = a.label('next_batch');
  const moveLog = a.label('move_log');
  const ended = a.label('chains_ended');
  const firsts = a.label('first_sites');
  const others = a.label('other_sites');
  a.bind(start);
  a.note('chains');
  emitFillLog(a, LAG);
  a.lea(rbx, mem(rdi, -ENTRY));

  a.bind(batch);
  a.movzx(ecx, byte(rsi));
  a.test(ecx, ecx);
  a.jz(ended);
  a.movzx(r10d, byte(rsi, 1));
  a.movzx(r8d, word(rsi, 2));
  a.shl(r8d, 16);
  a.lea(rsi, mem(rsi, rcx, 2, CHAIN.header - 2));
  a.lea(rbx, mem(rbx, rcx, ENTRY));
  a.mov(qword(rbp, SCRATCH.chains), rcx);
  // R11: minus the number of chains, rounded down to a multiple of UNROLLED. The loop is entered past the places that this adds.
  a.mov(r11, rcx);
  a.neg(r11);
  a.mov(eax, r11d);
  a.and(eax, UNROLLED - 1);
  a.and(r11, -UNROLLED);
  a.imul(ecx, eax, lengthOf(emitFirst));
  a.lea(rdi, mem(firsts));
  a.add(rcx, rdi);
  a.imul(eax, eax, lengthOf(emitOther));
  a.lea(rdi, mem(others));
  a.add(rax, rdi);
  a.mov(qword(rbp, SCRATCH.row_entry), rax);
  a.mov(rdi, r11);
  a.jmp(rcx);

  emitRow(a, firsts, emitFirst);
  a.inc(rsi); // was a word short of the end, for bytes it is a byte short

  a.bind(row);
  a.lea(rax, mem(rbp, LAST_ENTRY));
  a.cmp(rbx, rax);
  a.ja(moveLog);
  a.bind(rowsLeft);
  a.dec(r10d);
  a.jz(nextBatch);
  a.mov(rax, qword(rbp, SCRATCH.chains));
  a.add(rsi, rax);
  a.mov(r8, rbx);
  a.lea(rbx, mem(rbx, rax, ENTRY));
  a.mov(rdi, r11);
  a.jmp(qword(rbp, SCRATCH.row_entry));
  emitRow(a, others, emitOther);
  a.jmp(row);

  a.bind(nextBatch);
  a.inc(rsi);
  a.jmp(batch);

  a.bind(moveLog);
  emitMoveLog(a, LAG, mem(rbx, ENTRY - LAG * ENTRY));
  a.lea(rbx, mem(rdi, -ENTRY));
  a.mov(rsi, rax);
  a.jmp(rowsLeft);

  a.bind(ended);
  const rest = a.label('rest_of_log');
  a.inc(rsi);
  a.mov(rdi, -LAG);
  a.bind(rest);
  a.mov(ecx, newRow(0));
  a.add(dword(r13, rcx, 1), edx);
  a.inc(rdi);
  a.jnz(rest);
  a.jmp(r9);
}

type Place = (a: Assembler, place: number) => void;

function emitRow(a: Assembler, start: Label, emitPlace: Place): void {
  a.bind(start);
  for (let place = 0; place < UNROLLED; place++) emitPlace(a, place);
  a.add(rdi, UNROLLED);
  a.jnz(start);
}

/** A chain's first site: R8 is the first site of the chain before. */
function emitFirst(a: Assembler, place: number): void {
  a.movzx(eax, wordsRow(place));
  a.add(r8d, eax);
  a.prefetcht1(mem(r13, r8, 1));
  a.mov(newRow(place), r8d);
  emitAdd(a, place);
}

/** Any other site: R8 points to the row before. */
function emitOther(a: Assembler, place: number): void {
  a.movzx(eax, bytesRow(place));
  a.add(eax, rowBefore(place));
  a.prefetcht1(mem(r13, rax, 1));
  a.mov(newRow(place), eax);
  emitAdd(a, place);
}

function emitAdd(a: Assembler, place: number): void {
  a.mov(ecx, newRow(place, LAG));
  a.add(dword(r13, rcx, 1), edx);
}

/** Bytes of one place, which must be the same for all. */
function lengthOf(emitPlace: Place): number {
  const lengths = Array.from({ length: UNROLLED }, (_, place) => {
    const alone = new Assembler();
    emitPlace(alone, place);
    return alone.assemble().code.length;
  });
  if (new Set(lengths).size !== 1) throw new AssemblyError(`places of different lengths: ${lengths.join(', ')}`);
  return lengths[0]!;
}
