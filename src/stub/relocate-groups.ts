/**
 * Applies the 32-bit lists of the compact table on AMD's processors: each batch of chains (relocs/tables/compact-chains.ts) in groups of four chains.
 *
 * As in relocate-chains.ts, a site's line is prefetched, the site is noted in a log, and the add is done at the site that was noted LAG sites ago. What
 * differs is the order. Zen keeps some 24 lines on their way, whichever way it asks for them: it gains nothing from 64 places at a time and
 * PREFETCHT1, which on Intel's processors can wait for three times as many. What helps it is an order that its own prefetchers can follow, and a short
 * LAG. So after the first row a batch is read by groups: four chains, a quarter of the batch apart, from their second sites to their last. The
 * chains that make no group (as many as the rest of a division by four) follow one by one. What was measured: docs/performance.md.
 */
import { AssemblyError } from '../asm/assembler.ts';
import type { Assembler, Label } from '../asm/assembler.ts';
import { byte, dword, mem, qword, word } from '../asm/operands.ts';
import type { Gpr } from '../asm/registers.ts';
import {
  eax,
  ecx,
  edi,
  edx,
  r10,
  r10d,
  r11,
  r11d,
  r12,
  r12d,
  r13,
  r8,
  r8d,
  r9,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rsi,
} from '../asm/registers.ts';
import { CHAIN, CHAIN_LENGTHS, chainsInBatch } from '../relocs/tables/compact-chains.ts';
import { SCRATCH } from '../segment/layout.ts';
import { emitFillLog, emitMoveLog } from './relocate-log.ts';

/** Sites between the prefetch of a line and the add. */
const LAG = 64;
const ENTRY = 4;
const TWO_ENTRIES = 8;
const GROUP = 4;
/** A whole batch is in the log: its groups begin where its first row was noted. */
const BATCH_AT_MOST = Math.max(
  ...Object.values(CHAIN_LENGTHS).flatMap((lengths) => lengths.map((length) => length * chainsInBatch(length))),
);
/** With its next entry here or below, the log has room for another batch. */
const LAST_BATCH = SCRATCH.size - BATCH_AT_MOST * ENTRY;

if (SCRATCH.log + 2 * LAG * ENTRY > LAST_BATCH)
  throw new AssemblyError('the log: the entries kept must not overlap their new place');

/** The sites that a group has reached, one of each chain. */
const SITES: readonly (readonly [Gpr<64>, Gpr<32>])[] = [
  [r8, r8d],
  [r10, r10d],
  [r11, r11d],
  [r12, r12d],
];

/**
 * One list: adds EDX at each site. Continues at R9.
 *
 * RBX points to the log's next entry; in a row, to the first entry after the batch's first row or the group, and RCX counts up to 0.
 */
export function emitGroups(a: Assembler, start: Label): void {
  const batch = a.label('grouped_batch');
  const hasRoom = a.label('grouped_log_has_room');
  const moveLog = a.label('grouped_move_log');
  const firsts = a.label('grouped_first_sites');
  const second = a.label('grouped_second_place');
  const group = a.label('group');
  const row = a.label('group_row');
  const rest = a.label('ungrouped');
  const chain = a.label('ungrouped_chain');
  const site = a.label('ungrouped_site');
  const nextBatch = a.label('grouped_next_batch');
  const ended = a.label('groups_ended');
  a.bind(start);
  a.note('chains in groups');
  a.mov(qword(rbp, SCRATCH.kept_r9), r9);
  a.mov(qword(rbp, SCRATCH.kept_r12), r12);
  emitFillLog(a, LAG);
  a.mov(rbx, rdi);

  a.bind(batch);
  a.lea(rax, mem(rbp, LAST_BATCH));
  a.cmp(rbx, rax);
  a.ja(moveLog);
  a.bind(hasRoom);
  a.movzx(ecx, byte(rsi));
  a.test(ecx, ecx);
  a.jz(ended);
  a.movzx(r12d, byte(rsi, 1));
  a.movzx(r8d, word(rsi, 2));
  a.shl(r8d, 16);
  a.mov(qword(rbp, SCRATCH.chains), rcx);
  a.mov(edi, ecx);
  a.mov(qword(rbp, SCRATCH.group), rbx);
  a.lea(rsi, mem(rsi, rcx, 2, CHAIN.header)); // the second row
  a.lea(rbx, mem(rbx, rcx, ENTRY));
  a.neg(rcx);
  a.test(ecx, 1);
  a.jz(firsts);
  a.dec(rcx);
  a.jmp(second); // an odd number: the loop's first place is left out once
  a.bind(firsts);
  for (const place of [0, 1]) {
    if (place === 1) a.bind(second);
    a.movzx(eax, word(rsi, rcx, 2, 2 * place));
    a.add(r8d, eax);
    a.prefetcht1(mem(r13, r8, 1));
    a.mov(dword(rbx, rcx, ENTRY, place * ENTRY), r8d);
    a.mov(eax, dword(rbx, rcx, ENTRY, (place - LAG) * ENTRY));
    a.add(dword(r13, rax, 1), edx);
  }
  a.add(rcx, 2);
  a.jnz(firsts);
  a.dec(r12d);
  a.jz(batch);

  // RDI and R9: the number of groups, once and three times. A chain's rows, as minus the bytes of a group's entries in the log.
  a.mov(eax, edi);
  a.imul(eax, r12d);
  a.mov(qword(rbp, SCRATCH.row_bytes), rax);
  a.shl(r12d, 4);
  a.neg(r12);
  a.mov(qword(rbp, SCRATCH.rows), r12);
  a.shr(edi, 2);
  a.lea(r9, mem(rdi, rdi, 2));
  a.mov(qword(rbp, SCRATCH.groups_left), rdi);
  a.jz(rest); // LEA and MOV leave the shift's flags

  a.bind(group);
  a.mov(rax, qword(rbp, SCRATCH.group));
  a.mov(r8d, dword(rax));
  a.mov(r10d, dword(rax, rdi, ENTRY));
  a.mov(r11d, dword(rax, rdi, TWO_ENTRIES));
  a.mov(r12d, dword(rax, r9, ENTRY));
  a.mov(rcx, qword(rbp, SCRATCH.rows));
  a.sub(rbx, rcx);
  a.bind(row);
  for (const [place, [site64, site32]] of SITES.entries()) {
    const distances = [byte(rsi), byte(rsi, rdi, 1), byte(rsi, rdi, 2), byte(rsi, r9, 1)];
    a.movzx(eax, distances[place]!);
    a.add(site32, eax);
    a.prefetcht1(mem(r13, site64, 1));
    a.mov(dword(rbx, rcx, 1, place * ENTRY), site32);
    a.mov(eax, dword(rbx, rcx, 1, (place - LAG) * ENTRY));
    a.add(dword(r13, rax, 1), edx);
  }
  a.add(rsi, qword(rbp, SCRATCH.chains));
  a.add(rcx, GROUP * ENTRY);
  a.jnz(row);
  a.sub(rsi, qword(rbp, SCRATCH.row_bytes));
  a.inc(rsi);
  a.add(qword(rbp, SCRATCH.group), ENTRY);
  a.dec(qword(rbp, SCRATCH.groups_left));
  a.jnz(group);

  a.bind(rest);
  // Past the chains of the groups, in the table and in the log.
  a.add(rsi, r9);
  a.mov(rdi, qword(rbp, SCRATCH.group));
  a.lea(rdi, mem(rdi, r9, ENTRY));
  a.mov(r10, qword(rbp, SCRATCH.chains));
  a.mov(r11d, r10d);
  a.and(r11d, GROUP - 1);
  a.jz(nextBatch);
  a.bind(chain);
  a.mov(r8d, dword(rdi));
  a.add(rdi, ENTRY);
  a.mov(rcx, qword(rbp, SCRATCH.rows));
  a.bind(site);
  a.movzx(eax, byte(rsi));
  a.add(r8d, eax);
  a.prefetcht1(mem(r13, r8, 1));
  a.mov(dword(rbx), r8d);
  a.mov(eax, dword(rbx, -LAG * ENTRY));
  a.add(dword(r13, rax, 1), edx);
  a.add(rbx, ENTRY);
  a.add(rsi, r10);
  a.add(rcx, GROUP * ENTRY);
  a.jnz(site);
  a.sub(rsi, qword(rbp, SCRATCH.row_bytes));
  a.inc(rsi);
  a.dec(r11d);
  a.jnz(chain);

  a.bind(nextBatch);
  // RSI is past the second row; the batch ends row_bytes after that row's start.
  a.sub(rsi, r10);
  a.add(rsi, qword(rbp, SCRATCH.row_bytes));
  a.jmp(batch);

  a.bind(moveLog);
  emitMoveLog(a, LAG, mem(rbx, -LAG * ENTRY));
  a.mov(rbx, rdi);
  a.mov(rsi, rax);
  a.jmp(hasRoom);

  a.bind(ended);
  const waiting = a.label('groups_rest_of_log');
  a.inc(rsi);
  a.mov(rcx, -LAG);
  a.bind(waiting);
  a.mov(eax, dword(rbx, rcx, ENTRY));
  a.add(dword(r13, rax, 1), edx);
  a.inc(rcx);
  a.jnz(waiting);
  a.mov(r9, qword(rbp, SCRATCH.kept_r9));
  a.mov(r12, qword(rbp, SCRATCH.kept_r12));
  a.jmp(r9);
}
