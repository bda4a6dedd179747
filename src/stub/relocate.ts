/**
 * Applies the slide to every site of the table, whichever format it has. `convert` has checked every site, so the loops check nothing.
 *
 * One program has the loops of all formats: 90 bytes for the kernel's format that most files do not need, against one sequence of bytes to
 * review, to test and to compare with.
 *
 * The compact table (docs/formats.md) is decoded and applied in one pass, forwards through the 32-bit, the inverse and the 64-bit list. RSI
 * points to the next byte to read. Nearly all of the time is spent waiting for the image's cache lines. A core of Intel's waits for about sixteen
 * lines at once, but its second-level cache for three times as many: so lines are requested there, long before their sites' turn (PREFETCHT1, at
 * whatever address: a prefetch never faults). AMD's have no such second queue, so there are two readers of the 32-bit lists. What CPUID said was
 * noted by the entropy step; where it faults, the loops are taken that every processor runs.
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { byte, dword, mem, qword } from '../asm/operands.ts';
import { edx, r14d, r15, r8, r9, rbp, rsi } from '../asm/registers.ts';
import { PARAMS, SCRATCH, TABLE_FORMAT } from '../segment/layout.ts';
import { emitChains } from './relocate-chains.ts';
import { emitGroups } from './relocate-groups.ts';
import { emitItems } from './relocate-items.ts';
import { emitKernelTable } from './relocate-kernel.ts';

/** CPUID leaf 0 ECX: the last four letters of "AuthenticAMD". */
const VENDOR_AMD = 0x444d_4163;

/** Label of the first instruction after the step. */
export const RELOCATED = 'relocated';

export function emitRelocate(a: Assembler): void {
  const compact = a.label('compact_table');
  const done = a.label(RELOCATED);
  a.cmp(byte(r15, PARAMS.table_format), TABLE_FORMAT.compact);
  a.je(compact);
  emitKernelTable(a);
  a.jmp(done);
  a.bind(compact);
  emitCompactTable(a, done);
  a.bind(done);
}

/** Continues at `done`. */
function emitCompactTable(a: Assembler, done: Label): void {
  const lists = a.label('two_lists');
  const inverse = a.label('inverse_list');
  const chains = a.label('chains');
  const groups = a.label('groups');
  const items = a.label('items');
  a.mov(rsi, r15);
  a.add(rsi, qword(r15, PARAMS.table));
  a.lea(r8, mem(groups));
  a.cmp(dword(rbp, SCRATCH.cpu_vendor), VENDOR_AMD);
  a.je(lists);
  a.lea(r8, mem(chains));
  a.bind(lists);
  a.mov(qword(rbp, SCRATCH.chain_reader), r8);
  a.mov(edx, r14d);
  a.lea(r9, mem(inverse));
  a.jmp(r8);
  a.bind(inverse);
  a.neg(edx);
  a.lea(r9, mem(items));
  a.jmp(qword(rbp, SCRATCH.chain_reader));
  emitChains(a, chains);
  emitGroups(a, groups);
  a.bind(items);
  emitItems(a, done);
}
