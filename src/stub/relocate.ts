/**
 * The slide applied to every site of the table, in whichever format that is. `convert` has checked every site, so the loops check nothing. Last,
 * KASLR_FLAG tells the kernel that its image was randomized; by it the kernel randomizes its direct map, vmalloc and vmemmap areas
 * and module base too.
 *
 * One program has the loops of all formats: 90 bytes of the kernel's that most files do not need, against one sequence of bytes to review,
 * to test and to compare with.
 */
import type { Assembler } from '../asm/assembler.ts';
import { byte } from '../asm/operands.ts';
import { r12, r15 } from '../asm/registers.ts';
import { BOOT_PARAMS, KASLR_FLAG } from '../base/boot-params.ts';
import { PARAMS, TABLE_FORMAT } from '../segment/layout.ts';
import { emitCompactTable } from './relocate-compact.ts';
import { emitKernelTable } from './relocate-kernel.ts';

export function emitRelocate(a: Assembler): void {
  const compact = a.label('compact_table');
  const done = a.label('relocated');
  a.note('relocate');
  a.cmp(byte(r15, PARAMS.table_format), TABLE_FORMAT.compact);
  a.je(compact);
  emitKernelTable(a);
  a.jmp(done);
  a.bind(compact);
  emitCompactTable(a, done);
  a.bind(done);
  a.note('say so');
  a.or(byte(r12, BOOT_PARAMS.loadflags), KASLR_FLAG);
}
