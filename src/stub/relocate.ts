/**
 * Applies the slide to every site of the table, whichever format it has. `convert` has checked every site, so the loops check nothing.
 *
 * One program has the loops of all formats: 90 bytes for the kernel's format that most files do not need, against one sequence of bytes to
 * review, to test and to compare with.
 *
 * The compact table (docs/formats.md) is decoded and applied in one pass, forwards through the 32-bit, the inverse and the 64-bit list. RSI
 * points to the next byte to read. Nearly all of the time is spent waiting for the image's cache lines. A core waits for about sixteen lines
 * at once, but its second-level cache for three times as many: so lines are requested there, long before their sites' turn (PREFETCHT1, at
 * whatever address: a prefetch never faults).
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { byte, mem, qword } from '../asm/operands.ts';
import { edx, r14d, r15, r9, rsi } from '../asm/registers.ts';
import { PARAMS, TABLE_FORMAT } from '../segment/layout.ts';
import { emitChains } from './relocate-chains.ts';
import { emitItems } from './relocate-items.ts';
import { emitKernelTable } from './relocate-kernel.ts';

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
  const inverse = a.label('inverse_chains');
  const chains = a.label('chains');
  const items = a.label('items');
  a.mov(rsi, r15);
  a.add(rsi, qword(r15, PARAMS.table));
  a.mov(edx, r14d);
  a.lea(r9, mem(inverse));
  a.jmp(chains);
  a.bind(inverse);
  a.neg(edx);
  a.lea(r9, mem(items));
  emitChains(a, chains);
  a.bind(items);
  emitItems(a, done);
}
