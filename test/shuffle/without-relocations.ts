/** A small kernel for `--recover`: one with tables, and one without its relocations. */
import { Writer } from '../../src/base/bytes.ts';
import { SHT_NULL, SHT_RELA } from '../../src/elf/constants.ts';
import { SHDR_SIZE } from '../../src/elf/fields.ts';
import { readElf } from '../../src/elf/read.ts';
import type { SmallKernel } from './make-kernel.ts';

/** One entry of each known table that has a section of its own, code outside .text, and something like an unknown table. */
export const TABLES = `
asm(".text; .p2align 4; .globl copied; .type copied,@function; copied: mov %rdi,%rax; ret; .size copied, .-copied;"
    ".p2align 4; .type copier,@function; copier: mov copied+2(%rip),%eax; ret; .size copier, .-copier;"
    ".p2align 4; .fill 4096,1,0xcc;"
    ".type tabled,@function; tabled: test %edi,%edi; 1: ud2; 2: lock incl counter(%rip); 3: ret; .size tabled, .-tabled;"
    ".p2align 4; .type replaced,@function; replaced: mov $5,%eax; mov $6,%ecx; ret; .size replaced, .-replaced;"
    ".p2align 4; .fill 4096,1,0xcc;"
    ".section __bug_table,\\"aw\\"; .long 1b-.,0; .word 7,0; .long 2b-.,0; .word 8,0;"
    ".section .altinstr_replacement,\\"ax\\"; 4: jmp replaced; 5: call tabled;"
    ".section .altinstructions,\\"a\\"; .long 2b-.,4b-.,0; .byte 5,5; .long 1b-.,5b-.,0; .byte 2,5;"
    ".section .smp_locks,\\"a\\"; .long 2b-.,0;"
    ".section .return_sites,\\"a\\"; .long 3b-.;"
    ".section runtime_ptr_some,\\"a\\"; .long 2b+2-.;"
    ".section __ksymtab,\\"a\\"; .long tabled-.,0,0,counter-.,0,0;"
    ".section .pci_fixup,\\"a\\"; .long 0,0,0,handler_c-.;"
    ".section .exit.text,\\"ax\\"; call tabled; movl $1,counter(%rip); jne handler_a; ret; .text");
KEEP u64 long_one(u64 x) { asm(".fill 2048,1,0x90"); return leaf(x); } /* tail + 0x200, which .data names, is in it */
`;
/** As distributions make it of newer kernels: sections are there by number, relocations are not. */
export function withoutRelocations({ unstripped }: SmallKernel): Uint8Array {
  const changed = unstripped.slice();
  const { sections, header } = readElf(changed);
  for (const { index, type } of sections)
    if (type === SHT_RELA) new Writer(changed).u32(header.shoff + index * SHDR_SIZE[64] + 4, SHT_NULL);
  return changed;
}
