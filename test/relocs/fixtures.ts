/**
 * Small kernels, linked by GNU ld with --emit-relocs as the real ones are.
 *
 * Nothing here comes from a kernel: sources and linker scripts are below, with the names that the kernel's relocs tool has rules about.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cString, viewOf } from '../../src/base/bytes.ts';
import { readElf, sectionName } from '../../src/elf/read.ts';
import type { Section } from '../../src/elf/read.ts';

export type Bits = 32 | 64;

/** __START_KERNEL_map. */
const MAP = '0xffffffff80000000';

/** Absolute symbols: those with rules of their own, and others that only look like them. */
export const ABSOLUTE_NAMES: readonly string[] = `
  xen_irq_disable_direct_reloc xen_save_fl_direct_reloc VDSO64_PRELINK __kcfi_typeid_f __crc_f
  xen_irq_disable_direct_reloc2 xen_save_fl_direct aVDSO __kcfi_type _crc_f __crc __init_begin __init_end
  __x86_cpu_dev_start __x86_cpu_dev_end __x86_cpu_dev_middle __alt_instructions __alt_instructions_end
  __parainstructions __iommu_table __iommu_table_end __apicdrivers __apicdrivers_end __smp_locks __smp_locks_end
  __smp_locks_start __start_pci_ __end_pci_fixups_resume __stop_pci_fixups __start_builtin_fw __end_builtin_fw
  __start___ksymtab __stop___ksymtab_gpl __start___ksymtab_gpl_future __start___kcrctab __stop___kcrctab_gpl
  __start___param __stop___param __start___modver __stop___bug_table __tracedata_start __tracedata_end
  __start_notes __stop_notes __start__notes __end_rodata __end_rodata_aligned __end_rodata_hpage_align
  __end_rodata_ __initramfs_start __initramfs_size jiffies jiffies_64 jiffies_32 init_per_cpu__gdt_page
  init_per_cpu_gdt_page __vvar_page _end _end2 a_end pa_start apa_ real_mode_seg real_mode_segment
  LOAD_PHYSICAL_ADDR xen_elfnote_phys32_entry_offset xen_elfnote__offset xen_elfnote_entry_offsets`
  .trim()
  .split(/\s+/);

const directory = mkdtempSync(join(tmpdir(), 'kslide-relocs-'));
process.on('exit', () => rmSync(directory, { recursive: true }));

export function scratchFile(name: string): string {
  return join(directory, name);
}

/** Assembles and links; gives the linked file. */
export function link(bits: Bits, name: string, source: string, script: string): Uint8Array {
  const [s, o, lds, out] = ['s', 'o', 'lds', 'elf'].map((extension) => scratchFile(`${name}.${extension}`)) as [
    string,
    string,
    string,
    string,
  ];
  writeFileSync(s, source);
  writeFileSync(lds, script);
  execFileSync('as', [`--${bits}`, '-o', o, s], { stdio: 'pipe' });
  const emulation = bits === 64 ? 'elf_x86_64' : 'elf_i386';
  const always = [
    '-m',
    emulation,
    '--emit-relocs',
    '--discard-none',
    '--no-warn-rwx-segments',
    '-z',
    'max-page-size=0x1000',
  ];
  execFileSync('ld', [...always, '-T', lds, '-o', out, o], { stdio: 'pipe' });
  return new Uint8Array(readFileSync(out));
}

const absolutes = ABSOLUTE_NAMES.map((name, index) => `${name} = ${0x1000 + index * 16};`).join('\n');
const references = (directive: string): string => ABSOLUTE_NAMES.map((name) => `${directive} ${name}`).join('\n');

export interface Kernel64Options {
  /**
   * `zero`: as SMP kernels up to 6.14 are linked; `single`: those without SMP; `placed`: newer kernels; `empty`: those without SMP, of whose
   * section only the symbols are left; `none`: not even these.
   */
  readonly perCpu?: 'zero' | 'single' | 'placed' | 'empty' | 'none';
  /** Bytes reserved for the table, in a section by this name. */
  readonly reserved?: { readonly name: string; readonly size: number };
  /** A runtime constant, as kernels since 6.11 have them: its relocation section is named .relaruntime_…, which pattern .rela.* does not match. */
  readonly runtime?: boolean;
}

/** An x86-64 kernel with each kind of symbol and section that matters. */
export function makeKernel64({ perCpu = 'zero', reserved, runtime = false }: Kernel64Options = {}): Uint8Array {
  const source = `
    .section .head.text, "ax"
    .globl startup_64
startup_64:
    call function
    jmp weak_nowhere
    lea function(%rip), %rax
    movl $object - ${MAP}, %eax
    movq $object + 8, %rax
    movq object(,%rax,8), %rax
    movabs $object, %rax
    movq local_data(%rip), %rax
    movl %gs:per_cpu_object, %eax
    movl %gs:per_cpu_object(%rip), %eax
    lea per_cpu_object + 4(%rip), %rax
    cmpq $VDSO64_PRELINK, %rax
    movl $_end, %eax
    movl $__crc_f, %eax
    .section .text, "ax"
    .globl function
function:
    movq $weak_nowhere, %rax
    movl init_per_cpu__gdt_page(%rip), %eax
    ret
    .section .rodata, "a"
table:
    .rept 40
    .quad function, object + 16, local_data, table
    .endr
    .long function - ${MAP}, object - ${MAP}
    .quad weak_nowhere
    .long function - .
    ${perCpu === 'zero' ? '.long per_cpu_object' : ''}
    .quad function - ., per_cpu_object
    .section .data, "aw"
    .globl object
object:
    .quad table, per_cpu_object
local_data:
    .quad 0, local_data
    .globl tls_like
    .weak weak_nowhere, weak_object
weak_object:
    .quad weak_object
    .section .data..percpu, "aw"
    .globl per_cpu_object
    .quad 0
per_cpu_object:
    .quad object, per_cpu_object, function, 0
    .long object - ${MAP}, per_cpu_object - .
    .section .note.Xen, "a", @note
    .long 4, 8, 18
    .asciz "Xen"
    .quad function
    .section .debug_info, ""
    .quad function, object, per_cpu_object
    .long object - ${MAP}
    .section .empty.text, "ax"
${reserved ? `.section ${reserved.name}, "a", @progbits\n.fill ${reserved.size}, 1, 0xaa` : ''}
${runtime ? '.section runtime_ptr_USER_PTR_MAX, "a"\n.long function - .' : ''}
    .section .init.text, "ax"
    call function
    .section .names, ""
${references('.long')}`;
  const place = {
    zero: `
      __per_cpu_load = .;
      .data..percpu 0 : AT(__per_cpu_load - ${MAP}) {
        __per_cpu_start = .;
        *(.data..percpu)
        __per_cpu_end = .;
      } :percpu
      . = ALIGN(__per_cpu_load + SIZEOF(.data..percpu), 0x1000);
      .init.text : AT(ADDR(.init.text) - ${MAP}) { *(.init.text) } :init`,
    placed:
      '.init.text : { *(.init.text) } .data..percpu : { __per_cpu_start = .; *(.data..percpu) __per_cpu_end = .; }',
    single:
      '.init.text : { *(.init.text) } .data..percpu : { __per_cpu_load = .; __per_cpu_start = .; *(.data..percpu) __per_cpu_end = .; }',
    empty: '.init.text : { __per_cpu_start = .; __per_cpu_end = .; *(.init.text) }',
    none: '.init.text : { *(.init.text) }',
  }[perCpu];
  // References to absolute symbols that the tool refuses stand in a section that is not loaded, until a test moves them.
  const script = `
    ENTRY(phys_startup_64)
    PHDRS { image PT_LOAD FLAGS(7); percpu PT_LOAD FLAGS(6); init PT_LOAD FLAGS(7); }
    SECTIONS {
      . = 0xffffffff81000000;
      phys_startup_64 = ABSOLUTE(startup_64 - ${MAP});
      .text : AT(ADDR(.text) - ${MAP}) { *(.head.text .text .empty.text) } :image
      .rodata : { *(.rodata) }
      .notes : { *(.note.*) }
      ${runtime ? 'runtime_ptr_USER_PTR_MAX . : { *(runtime_ptr_USER_PTR_MAX) }' : ''}
      .data : { *(.data) ${perCpu === 'none' || perCpu === 'empty' ? '*(.data..percpu)' : ''} }
      ${reserved ? `${reserved.name} : { *(${reserved.name}) }` : ''}
      ${place}
      .names 0 : { *(.names) }
      .debug_info 0 : { *(.debug_info) }
      ${absolutes}
    }`;
  return link(64, `kernel64-${perCpu}-${reserved?.name ?? ''}-${runtime}`, source, script);
}

/** An i386 kernel, whose relocations are in .rel sections. */
export function makeKernel32({ reserved }: Pick<Kernel64Options, 'reserved'> = {}): Uint8Array {
  const source = `
    .section .text, "ax"
    .globl startup_32, function
startup_32:
    call function
    jmp weak_nowhere
    movl $object, %eax
    movl $weak_nowhere, %eax
    movl object(,%eax,4), %eax
    movl $VDSO64_PRELINK, %eax
    movl $_end, %eax
function:
    ret
    .section .data, "aw"
    .globl object
    .weak weak_nowhere
object:
    .rept 40
    .long function, object + 4, local_data
    .endr
local_data:
    .long function - ., local_data
    .section .data..percpu, "aw"
    .globl per_cpu_object
per_cpu_object:
    .long per_cpu_object
    .section .note.Xen, "a", @note
    .long 4, 4, 18
    .asciz "Xen"
    .long function
    .section .debug_info, ""
    .long function
${reserved ? `.section ${reserved.name}, "a", @progbits\n.fill ${reserved.size}, 1, 0xaa` : ''}
    .section .names, ""
${references('.long')}`;
  const script = `
    ENTRY(startup_32)
    PHDRS { image PT_LOAD FLAGS(7); }
    SECTIONS {
      . = 0xc1000000;
      .text : { *(.text) } :image
      .notes : { *(.note.*) }
      .data : { *(.data) }
      ${reserved ? `${reserved.name} : { *(${reserved.name}) }` : ''}
      .data..percpu : { *(.data..percpu) }
      .names 0 : { *(.names) }
      .debug_info 0 : { *(.debug_info) }
      ${absolutes}
    }`;
  return link(32, `kernel32-${reserved?.name ?? ''}`, source, script);
}

/** Real-mode code as in arch/x86/realmode: linked at 0, segments and linear addresses marked by their names. */
export function makeRealMode(): Uint8Array {
  const source = `
    .code16
    .section .text, "ax"
    .globl trampoline
trampoline:
    ljmpw $real_mode_seg, $next
next:
    movw $next, %ax
    movl $pa_next, %eax
    movl $next, %eax
    call next
    jmp next
    .word real_mode_seg
    .section .data, "aw"
    .long pa_next, pa_data, pa_start, next
    .word real_mode_seg
data:
    .section .names, ""
${references('.long')}`;
  const script = `
    PHDRS { image PT_LOAD FLAGS(7); }
    SECTIONS {
      . = 0;
      .text : { *(.text) pa_next = .; } :image
      .data : { *(.data) pa_data = .; }
      .names 0 : { *(.names) }
      ${absolutes}
    }`;
  return link(32, 'realmode', source, script);
}

/** A kernel of more than 66,000 sections: most section numbers of symbols are in .symtab_shndx, the per-cpu section's too. */
export function makeManySections(): Uint8Array {
  const many = Array.from({ length: 66_000 }, (_, index) => `.section s${index},"a"\n.quad 0`).join('\n');
  const source = `
    .globl function
function:
    lea per_cpu_object(%rip), %rax
    .quad last, VDSO64_PRELINK
    ${many}
last:
    .quad last, function, per_cpu_object, VDSO64_PRELINK
    lea per_cpu_object(%rip), %rax
    .section .data..percpu, "aw"
    .globl per_cpu_object
per_cpu_object:
    .quad function, last, per_cpu_object
`;
  const script = `
    SECTIONS {
      . = 0xffffffff81000000;
      .text : AT(ADDR(.text) - ${MAP}) { *(.text) }
      .rodata : { *(.rodata) }
      __per_cpu_load = .;
      VDSO64_PRELINK = 5;
      .data..percpu 0 : AT(0x2000000) { *(.data..percpu) }
    }`;
  return link(64, 'many-sections', source, script);
}

const ENTRY = { 32: { size: 8, symbolSize: 16 }, 64: { size: 24, symbolSize: 24 } } as const;

/** A linked kernel whose relocations can be changed one at a time. */
export class Patchable {
  readonly bytes: Uint8Array;
  readonly #bits: Bits;
  readonly #view: DataView;
  readonly #sections = new Map<string, Section>();

  constructor(kernel: Uint8Array) {
    this.bytes = kernel.slice();
    this.#view = viewOf(this.bytes);
    const elf = readElf(this.bytes);
    this.#bits = elf.header.bits;
    for (const section of elf.sections) this.#sections.set(sectionName(elf, section), section);
  }

  section(name: string): Section {
    const section = this.#sections.get(name);
    if (section === undefined) throw new Error(`no section ${name}`);
    return section;
  }

  symbolCount(): number {
    return this.section('.symtab').size / ENTRY[this.#bits].symbolSize;
  }

  symbol(name: string): number {
    const table = this.section('.symtab');
    const strings = this.section('.strtab');
    for (let symbol = 0; symbol < this.symbolCount(); symbol++) {
      const offset = this.#view.getUint32(table.offset + symbol * ENTRY[this.#bits].symbolSize, true);
      if (cString(this.bytes, strings.offset + offset) === name) return symbol;
    }
    throw new Error(`no symbol ${name}`);
  }

  /** Type and symbol of a relocation of a section. */
  setRelocation(section: string, entry: number, type: number, symbol: number): void {
    const at = this.#entry(section, entry);
    if (this.#bits === 64) {
      this.#view.setUint32(at + 8, type, true);
      this.#view.setUint32(at + 12, symbol, true);
    } else {
      this.#view.setUint32(at + 4, ((symbol << 8) | type) >>> 0, true);
    }
  }

  /** Where it applies; ELF64 only. */
  setOffset(section: string, entry: number, offset: bigint): void {
    this.#view.setBigUint64(this.#entry(section, entry), offset, true);
  }

  #entry(section: string, entry: number): number {
    const { offset } = this.section(this.#bits === 64 ? `.rela${section}` : `.rel${section}`);
    return offset + entry * ENTRY[this.#bits].size;
  }
}
