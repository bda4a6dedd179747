/**
 * A small program, linked like a kernel by the system's own compiler and linker. It has the ranges, the tables and the kinds of reference that a shuffle must
 * know, and keeps its relocations (--emit-relocs).
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Functions in one file call each other without relocations; `noinline` keeps them functions, `volatile` keeps the calls. */
const C = `
#define KEEP __attribute__((noinline, noclone, used))
typedef unsigned long u64;
extern u64 counter;
extern u64 other(u64);
extern void (*const handlers[])(void);
KEEP static u64 leaf(u64 x) { counter += x; return x * 3 + 1; }
KEEP static u64 middle(u64 x) { u64 y = leaf(x) + 7; return y + leaf(y); }
KEEP u64 outer(u64 x) { u64 y = middle(x) ^ 5; return leaf(y) + other(y) + 1; }
KEEP u64 tail(u64 x) { return outer(x + 1); }
KEEP u64 compare(void *p) { return p == (void *)tail || p == (void *)other; }
KEEP u64 (*pick(u64 x))(u64) { return x & 1 ? tail : outer; }
KEEP void handler_a(void) { counter++; }
KEEP void handler_b(void) { counter += outer(counter); }
KEEP void handler_c(void) { handlers[counter & 1](); counter--; }
KEEP u64 large(u64 x) { for (int i = 0; i < 9; i++) x = leaf(x) + middle(x + i) + outer(x) * 3 + tail(x) + (x >> 3); return x; }
__attribute__((noinline, section(".noinstr.text"))) void fixed_a(void) { handler_a(); counter++; }
__attribute__((noinline, section(".noinstr.text"))) void fixed_b(void) { handler_b(); counter++; }
`;
const OTHER = `
#define KEEP __attribute__((noinline, noclone, used))
typedef unsigned long u64;
u64 counter = 5;
extern u64 tail(u64), large(u64);
extern void handler_a(void), handler_b(void), handler_c(void);
void (*const handlers[])(void) = { handler_a, handler_b, handler_c };
KEEP static u64 inner(u64 x) { counter ^= x; return x + counter; }
KEEP u64 other(u64 x) { return inner(x) + inner(x + 1) + 2; }
KEEP u64 more(u64 x) { return other(x) + large(x) + inner(x) + 4; }
KEEP u64 last(u64 x) { return more(x) - other(x) + tail(x); }
`;
const ASM = `
  .section .head.text, "ax"
  .globl startup_64
startup_64:
  call tail
  jmp startup_64
  .fill 16, 1, 0xcc
  .text
  .p2align 4
  .globl faulting
  .type faulting, @function
faulting:
1: mov (%rdi), %rax
2: ret
3: mov $-14, %eax
  jmp 2b
  .size faulting, . - faulting
  .pushsection __ex_table, "a"
  .long 1b - ., 3b - ., 3
  .popsection
  .p2align 4
  .globl near_a
  .type near_a, @function
near_a:                       # two short branches hold these two together
  test %rdi, %rdi
  jz near_b_inside
  xor %eax, %eax
  ret
  .size near_a, . - near_a
  .p2align 4
  .type near_b, @function
near_b:
  nop
near_b_inside:
  mov $1, %eax
  ret
  .size near_b, . - near_b
  .p2align 4
  .type through_a, @function
through_a:                    # runs into the next
  inc %rdi
  .size through_a, . - through_a
  .type through_b, @function
through_b:
  lea 1(%rdi), %rax
  ret
  .size through_b, . - through_b
  .p2align 4
unsized:                      # no type, no size: stays
  .byte 0xe9                  # jmp near_a, resolved here, and not short
  .long near_a - . - 4
  .p2align 4
  .type second_fault, @function
second_fault:
1: mov (%rsi), %rax
  ret
2: xor %eax, %eax
  ret
  .size second_fault, . - second_fault
  .pushsection __ex_table, "a"
  .long 1b - ., 2b - ., 3
  .popsection
  .section .table, "a"
  .long near_a - ., through_a - ., second_fault - .
  .quad leaf_pointer - .
  .section .data
leaf_pointer: .quad outer, faulting + 3, _text + 0x85, tail + 0x200   # what is there is not what is meant
  .section .init.text, "ax"
  .globl init
init: call near_a
  cmpb $3, counter(%rip)
  jmp tail
`;
const SCRIPT = `
ENTRY(phys_startup)
PHDRS { text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); note PT_NOTE FLAGS(4); }
SECTIONS {
  . = 0xffffffff81000000;
  phys_startup = ABSOLUTE(startup_64 - 0xffffffff80000000);
  .text : AT(ADDR(.text) - 0xffffffff80000000) {
    _text = .; _stext = .;
    *(.head.text) *(.text) *(.text.unlikely) . = ALIGN(8);
    __noinstr_text_start = .; *(.noinstr.text) __noinstr_text_end = .;
    _etext = .;
  } :text =0xcccccccc
  . = ALIGN(4096);
  .rodata : AT(ADDR(.rodata) - 0xffffffff80000000) { *(.rodata .rodata.*) *(.table) } :text
  __ex_table : AT(ADDR(__ex_table) - 0xffffffff80000000) { __start___ex_table = .; KEEP(*(__ex_table)) __stop___ex_table = .; }
  .notes : AT(ADDR(.notes) - 0xffffffff80000000) { *(.note.gnu.build-id) } :text :note
  . = ALIGN(0x200000);
  .data : AT(ADDR(.data) - 0xffffffff80000000) { *(.data) __per_cpu_start = .; } :data
  .init.text : AT(ADDR(.init.text) - 0xffffffff80000000) { *(.init.text) } :data
  mcount : AT(ADDR(mcount) - 0xffffffff80000000) { __start_mcount_loc = .; KEEP(*(__mcount_loc)) __stop_mcount_loc = .; }
  .bss : AT(ADDR(.bss) - 0xffffffff80000000) { *(.bss) _end = .; }
  /DISCARD/ : { *(.comment) *(.eh_frame) *(.note.GNU-stack) *(.note.gnu.property) }
}
`;

export interface SmallKernel {
  /** With symbols and .rela sections. */
  readonly unstripped: Uint8Array;
  readonly stripped: Uint8Array;
  /** What ld -Map wrote. */
  readonly map: Uint8Array;
}

/** `extra` is C code that goes into the first file: another build. `flags` are for gcc. `together`: sections .text.… become one. */
export function makeKernel(extra = '', flags: readonly string[] = [], together = false): SmallKernel {
  const folder = mkdtempSync(join(tmpdir(), 'kslide-shuffle-'));
  const run = (program: string, ...args: string[]): void => {
    execFileSync(program, args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  };
  try {
    writeFileSync(join(folder, 'a.c'), C + extra);
    writeFileSync(join(folder, 'b.c'), OTHER);
    writeFileSync(join(folder, 'c.s'), ASM);
    writeFileSync(join(folder, 'k.lds'), together ? SCRIPT.replace('*(.text)', '*(.text .text.*)') : SCRIPT);
    const cflags = [
      '-c',
      '-O2',
      '-mcmodel=kernel',
      '-ffreestanding',
      '-fno-pic',
      '-fcf-protection=none',
      '-fno-asynchronous-unwind-tables',
      ...flags,
    ];
    run('gcc', ...cflags, 'a.c', '-o', 'a.o');
    run('gcc', ...cflags, 'b.c', '-o', 'b.o');
    run('as', 'c.s', '-o', 'c.o');
    run(
      'ld',
      '--emit-relocs',
      '--build-id=sha1',
      '-z',
      'noexecstack',
      '--no-warn-rwx-segments',
      '-Map=map',
      '-T',
      'k.lds',
      'a.o',
      'c.o',
      'b.o',
      '-o',
      'vmlinux',
    );
    run('objcopy', '-S', 'vmlinux', 'stripped');
    return {
      unstripped: new Uint8Array(readFileSync(join(folder, 'vmlinux'))),
      stripped: new Uint8Array(readFileSync(join(folder, 'stripped'))),
      map: new Uint8Array(readFileSync(join(folder, 'map'))),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
