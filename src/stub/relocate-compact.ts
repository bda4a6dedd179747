/**
 * The compact table (docs/formats.md), decoded and applied in one pass: forwards through the 32-bit, the inverse and the 64-bit list. RSI is at the
 * byte that is read next.
 *
 * Nearly all of the time goes by waiting for the image's cache lines. A core waits for no more than some sixteen at once, but its second-level cache
 * for three times as many: so lines are asked for there, long before their sites' turn (PREFETCHT1, wherever it is: a prefetch never faults).
 */
import type { Assembler, Label } from '../asm/assembler.ts';
import { mem, qword } from '../asm/operands.ts';
import { edx, r14d, r15, r9, rsi } from '../asm/registers.ts';
import { PARAMS } from '../segment/layout.ts';
import { emitChains } from './relocate-chains.ts';
import { emitItems } from './relocate-items.ts';

/** Continues at `done`. */
export function emitCompactTable(a: Assembler, done: Label): void {
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
