/** Values that our programs put into descriptor tables, page tables and control registers (SDM vol. 3, 3.4.5, 4.5 and 2.5). */
import type { Assembler } from './assembler.ts';
import { cr0, eax, ecx } from './registers.ts';

/** Segment descriptors, accessed bit set so that the CPU writes none: 64-bit ring 0 code, and ring 0 data. */
export const CODE64_DESCRIPTOR = 0x00af_9b00_0000_ffffn;
export const DATA_DESCRIPTOR = 0x00cf_9300_0000_ffffn;

/** Present, writable. */
export const TABLE_ENTRY = 0x03;
/** Present, writable, accessed, dirty, 2 MiB page. */
export const PAGE_ENTRY = 0xe3;
export const PAGE_2M = 0x20_0000;

/** Bits of control registers, by number. */
export const CR4_PAE = 5;
export const CR4_LA57 = 12;
const CR0_PG = 31;
const MSR_EFER = 0xc000_0080;
const EFER_LME = 8;

/** Long mode begins when paging is then turned on. Clobbers EAX, ECX and EDX. */
export function emitEnableLongMode(a: Assembler): void {
  a.mov(ecx, MSR_EFER);
  a.rdmsr();
  a.bts(eax, EFER_LME);
  a.wrmsr();
}

/** Must be followed by a far jump to 64-bit code, and run from identity-mapped memory. Clobbers EAX. */
export function emitEnablePaging(a: Assembler): void {
  a.mov(eax, cr0);
  a.bts(eax, CR0_PG);
  a.mov(cr0, eax);
}
