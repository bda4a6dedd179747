/**
 * Applies the 32-bit lists of the compact table on AMD's processors: each batch of chains (relocs/tables/compact-chains.ts) in groups of four chains,
 * each site at once.
 *
 * Zen keeps 24 lines on their way, whichever way it asks for them: PREFETCHT1 gains nothing there, and the log of relocate-chains.ts is only work.
 * What helps is an order that its own prefetchers can follow. A group is four chains a quarter of the batch apart, and goes through them from
 * start to end. What was measured: docs/performance.md.
 *
 * The batch's first sites are added first, and noted in the memory of the log. The chains that make no group (as many as the rest of a division by
 * four) follow one by one.
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { byte, dword, mem, qword, word } from '../asm/operands.ts';
import type { Gpr } from '../asm/registers.ts';
import {
  eax,
  ebx,
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
import { CHAIN } from '../relocs/tables/compact-chains.ts';
import { SCRATCH } from '../segment/layout.ts';

const ENTRY = 4;
const TWO_ENTRIES = 8;
/** The sites that a group has reached, one of each chain. */
const SITES: readonly (readonly [Gpr<64>, Gpr<32>])[] = [
  [rbx, ebx],
  [r8, r8d],
  [r10, r10d],
  [r11, r11d],
];

/** One list: adds EDX at each site. Continues at R9. */
export function emitGroups(a: Assembler, start: Label): void {
  const batch = a.label('grouped_batch');
  const firsts = a.label('grouped_firsts');
  const group = a.label('group');
  const row = a.label('group_row');
  const rest = a.label('ungrouped');
  const chain = a.label('ungrouped_chain');
  const site = a.label('ungrouped_site');
  const nextBatch = a.label('next_grouped_batch');
  const ended = a.label('groups_ended');
  a.bind(start);
  a.note('chains in groups');
  a.mov(qword(rbp, SCRATCH.kept_r9), r9);
  a.mov(qword(rbp, SCRATCH.kept_r12), r12);

  a.bind(batch);
  a.movzx(ecx, byte(rsi));
  a.test(ecx, ecx);
  a.jz(ended);
  a.movzx(r12d, byte(rsi, 1));
  a.movzx(r8d, word(rsi, 2));
  a.shl(r8d, 16);
  a.lea(rsi, mem(rsi, rcx, 2, CHAIN.header)); // the second row
  a.lea(rdi, mem(rbp, rcx, ENTRY, SCRATCH.log));
  a.mov(r10d, ecx);
  a.neg(rcx);
  a.bind(firsts);
  a.movzx(eax, word(rsi, rcx, 2));
  a.add(r8d, eax);
  a.mov(dword(rdi, rcx, ENTRY), r8d);
  a.add(dword(r13, r8, 1), edx);
  a.inc(rcx);
  a.jnz(firsts);
  a.dec(r12d);
  a.jz(batch);

  // RCX: chains; RDI and R9: groups, once and three times; RSI: the second row, at the group.
  a.mov(ecx, r10d);
  a.mov(edi, ecx);
  a.shr(edi, 2);
  a.lea(r9, mem(rdi, rdi, 2));
  a.imul(r10d, r12d);
  a.mov(qword(rbp, SCRATCH.chains), rcx);
  a.mov(qword(rbp, SCRATCH.rows), r12);
  a.mov(qword(rbp, SCRATCH.row_bytes), r10);
  a.lea(rax, mem(rbp, SCRATCH.log));
  a.lea(r8, mem(rax, rdi, ENTRY));
  a.mov(qword(rbp, SCRATCH.group), rax);
  a.mov(qword(rbp, SCRATCH.groups_end), r8);
  a.test(edi, edi);
  a.jz(rest);

  a.bind(group);
  a.mov(rax, qword(rbp, SCRATCH.group));
  a.mov(ebx, dword(rax));
  a.mov(r8d, dword(rax, rdi, ENTRY));
  a.mov(r10d, dword(rax, rdi, TWO_ENTRIES));
  a.mov(r11d, dword(rax, r9, ENTRY));
  a.mov(r12, qword(rbp, SCRATCH.rows));
  a.bind(row);
  for (const [chainOfGroup, [site64, site32]] of SITES.entries()) {
    const distances = [byte(rsi), byte(rsi, rdi, 1), byte(rsi, rdi, 2), byte(rsi, r9, 1)];
    a.movzx(eax, distances[chainOfGroup]!);
    a.add(site32, eax);
    a.add(dword(r13, site64, 1), edx);
  }
  a.add(rsi, rcx);
  a.dec(r12d);
  a.jnz(row);
  a.sub(rsi, qword(rbp, SCRATCH.row_bytes));
  a.inc(rsi);
  a.mov(rax, qword(rbp, SCRATCH.group));
  a.add(rax, ENTRY);
  a.mov(qword(rbp, SCRATCH.group), rax);
  a.cmp(rax, qword(rbp, SCRATCH.groups_end));
  a.jne(group);

  a.bind(rest);
  a.add(rsi, r9); // past the chains of all groups
  a.mov(r11d, ecx);
  a.and(r11d, SITES.length - 1);
  a.lea(rbx, mem(rbp, rcx, ENTRY, SCRATCH.log));
  a.neg(r11);
  a.jz(nextBatch);
  a.bind(chain);
  a.mov(r8d, dword(rbx, r11, ENTRY));
  a.mov(r12, qword(rbp, SCRATCH.rows));
  a.bind(site);
  a.movzx(eax, byte(rsi));
  a.add(r8d, eax);
  a.add(dword(r13, r8, 1), edx);
  a.add(rsi, rcx);
  a.dec(r12d);
  a.jnz(site);
  a.sub(rsi, qword(rbp, SCRATCH.row_bytes));
  a.inc(rsi);
  a.inc(r11);
  a.jnz(chain);

  a.bind(nextBatch);
  // RSI is past the second row; the batch ends row_bytes after that row's start.
  a.sub(rsi, rcx);
  a.add(rsi, qword(rbp, SCRATCH.row_bytes));
  a.jmp(batch);

  a.bind(ended);
  a.inc(rsi);
  a.mov(r9, qword(rbp, SCRATCH.kept_r9));
  a.mov(r12, qword(rbp, SCRATCH.kept_r12));
  a.jmp(r9);
}
