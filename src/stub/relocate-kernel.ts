/**
 * Applies a table in the kernel's own format, as handle_relocations() in boot/compressed/misc.c does: backwards through three lists, each
 * ended by a zero, or through two if the format has no inverse list. The loops are unrolled. LODSD with the direction flag set would take half
 * an instruction per site less, but a tenth more time (docs/performance.md).
 */
import type { Assembler } from '../asm/assembler.ts';
import { byte, dword, mem, qword } from '../asm/operands.ts';
import { eax, r13, r14, r14d, r15, r8, rax, rsi } from '../asm/registers.ts';
import { PARAMS, TABLE_FORMAT } from '../segment/layout.ts';

/** Low half of __START_KERNEL_map: a table entry minus this is a physical link address. */
const START_KERNEL_MAP_LOW = 0x8000_0000;
const UNROLLED = 4;

export function emitKernelTable(a: Assembler): void {
  a.note("a table in the kernel's format");
  a.lea(rsi, mem(r15, -4));
  a.add(rsi, qword(r15, PARAMS.table_end)); // at the last entry
  a.mov(eax, START_KERNEL_MAP_LOW);
  a.mov(r8, r13);
  a.sub(r8, rax);
  emitList(a, 'abs32', () => a.add(dword(rax, r8, 1), r14d));
  const abs64 = a.label('abs64');
  a.cmp(byte(r15, PARAMS.table_format), TABLE_FORMAT.kernel_two_lists);
  a.je(abs64);
  emitList(a, 'inverse32', () => a.sub(dword(rax, r8, 1), r14d));
  a.bind(abs64);
  emitList(a, 'abs64', () => a.add(qword(rax, r8, 1), r14));
}

/** One list, from RSI at its last entry. RSI ends up before the zero that ends the list. */
function emitList(a: Assembler, name: string, apply: () => void): void {
  const next = a.label(`${name}_next`);
  const done = a.label(`${name}_done`);
  const ends = Array.from({ length: UNROLLED }, (_, k) => a.label(`${name}_end_${k}`));
  a.bind(next);
  for (let k = 0; k < UNROLLED; k++) {
    a.mov(eax, dword(rsi, -4 * k));
    a.test(eax, eax);
    a.jz(ends[k]!);
    apply();
  }
  a.sub(rsi, 4 * UNROLLED);
  a.jmp(next);
  for (let k = 0; k < UNROLLED; k++) {
    a.bind(ends[k]!);
    a.sub(rsi, 4 * (k + 1));
    if (k < UNROLLED - 1) a.jmp(done);
  }
  a.bind(done);
}
