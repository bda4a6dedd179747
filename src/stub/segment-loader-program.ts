/**
 * The instructions of the segment loader (segment-loader.ts has its layout and data). ESI or RSI points to boot_params, interrupts are off;
 * the code finds out by itself where it was loaded.
 *
 * What kslide writes into a bzImage are the bytes in assembled.ts, generated from here; a test holds the two equal.
 */
import { Assembler, dword, mem, qword } from '../asm/assembler.ts';
import type { Assembled } from '../asm/assembler.ts';
import {
  CR4_PAE,
  emitEnableLongMode,
  emitEnablePaging,
  PAGE_2M,
  PAGE_ENTRY,
  TABLE_ENTRY,
} from '../asm/machine-state.ts';
import {
  cr3,
  cr4,
  ds,
  eax,
  ebp,
  ebx,
  ecx,
  edi,
  es,
  esi,
  esp,
  r10,
  r11,
  r12,
  r13,
  r8,
  r9,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  ss,
} from '../asm/registers.ts';
import { BOOT_CS, BOOT_DS, COPY, ENTRY_64, SEGMENT_LOADER } from './segment-loader.ts';

/** boot_params.scratch: four bytes that the 32-bit entry may use as its stack. */
const SCRATCH = 0x1e4;
/** Where the 32-bit entry goes on in long mode. */
const LONG_MODE = 0x180;
/** Where the call of the 32-bit entry returns to. */
const HERE = 13;

/** The same bytes in every image. */
export function assembleSegmentLoader(): Assembled {
  const a = new Assembler({ bits: 32 });
  const entry64 = a.labelAt('entry_64', ENTRY_64);
  emitEntry32(a);
  const long = a.label('long_mode');
  // The far return of the 32-bit entry comes here.
  padTo(a, LONG_MODE);
  a.bits(64);
  a.bind(long);
  a.note('in long mode');
  a.mov(eax, BOOT_DS);
  for (const segment of [ds, es, ss]) a.mov(segment, eax);
  // The switch leaves the upper halves undefined.
  a.mov(esi, esi);
  a.jmp(entry64);
  padTo(a, ENTRY_64);
  emitEntry64(a);
  const assembled = a.assemble();
  if (assembled.code.length > SEGMENT_LOADER.gdt) throw new RangeError('the segment loader has grown into its data');
  return assembled;
}

function padTo(a: Assembler, offset: number): void {
  const here = a.bind(a.label(`padding to ${offset}`));
  const length = offset - a.offsetOf(here);
  if (length < 0) throw new RangeError(`the segment loader has grown past ${offset}`);
  a.zero(length);
}

/** EBP: where the protected-mode code is. */
function emitEntry32(a: Assembler): void {
  const here = a.label('here');
  const page = a.label('identity_page');
  a.note('32-bit entry: where are we?');
  a.cli();
  a.cld();
  a.lea(esp, mem(esi, SCRATCH + 4));
  a.call(here);
  a.bind(here);
  a.pop(ebp);
  a.sub(ebp, HERE);
  a.lea(esp, mem(ebp, SEGMENT_LOADER.stack_top));

  a.note('identity map of 4 GiB');
  a.lea(edi, mem(ebp, SEGMENT_LOADER.pd));
  a.mov(eax, PAGE_ENTRY);
  a.mov(ecx, 2048);
  a.bind(page);
  a.mov(dword(edi), eax);
  a.mov(dword(edi, 4), 0);
  a.add(edi, 8);
  a.add(eax, PAGE_2M);
  a.dec(ecx);
  a.jnz(page);
  a.lea(eax, mem(ebp, SEGMENT_LOADER.pd + TABLE_ENTRY));
  for (let gigabyte = 0; gigabyte < 4; gigabyte++) {
    a.mov(dword(ebp, SEGMENT_LOADER.pdpt + gigabyte * 8), eax);
    a.add(eax, 0x1000);
  }
  a.lea(eax, mem(ebp, SEGMENT_LOADER.pdpt + TABLE_ENTRY));
  a.mov(dword(ebp, SEGMENT_LOADER.pml4), eax);

  a.note('long mode');
  a.lea(eax, mem(ebp, SEGMENT_LOADER.gdt));
  a.mov(dword(ebp, SEGMENT_LOADER.gdt_pointer + 2), eax);
  a.lgdt(mem(ebp, SEGMENT_LOADER.gdt_pointer));
  a.mov(eax, cr4);
  a.bts(eax, CR4_PAE);
  a.mov(cr4, eax);
  a.lea(eax, mem(ebp, SEGMENT_LOADER.pml4));
  a.mov(cr3, eax);
  emitEnableLongMode(a);
  a.push(BOOT_CS);
  a.lea(eax, mem(ebp, LONG_MODE));
  a.push(eax);
  emitEnablePaging(a);
  a.retf();
  if (a.offsetOf(here) !== HERE) throw new RangeError(`HERE is ${a.offsetOf(here)}`);
}

/**
 * RBX: where the protected-mode code is; R8: where the first segment lies; R9: where it will run; RDX: the table of copies.
 *
 * In place, segments are copied down, the lowest first. Otherwise each is copied up, or stays, the highest first. Either way no copy
 * overwrites bytes that are still to be copied.
 */
function emitEntry64(a: Assembler): void {
  const start = a.labelAt('start', 0);
  const up = a.label('move_up');
  const choose = a.label('chosen');
  const move = a.label('move');
  const copy = a.label('copy');
  const copied = a.label('copied');
  a.note('64-bit entry: can the kernel run where it lies?');
  a.cli();
  a.cld();
  a.mov(r12, rsi);
  a.lea(rbx, mem(start));
  a.mov(r8, qword(rbx, SEGMENT_LOADER.first));
  a.add(r8, rbx);
  a.lea(rdx, mem(rbx, SEGMENT_LOADER.copies));
  a.mov(r10, COPY.size);
  a.mov(r9, r8);
  a.cmp(dword(rbx, SEGMENT_LOADER.in_place), 0);
  a.je(up);
  a.test(r8, qword(rbx, SEGMENT_LOADER.align_mask));
  a.jnz(up);
  a.cmp(r8, qword(rbx, SEGMENT_LOADER.link));
  a.jae(choose);

  a.note('no: copy it up, from its end');
  a.bind(up);
  a.mov(rax, qword(rbx, SEGMENT_LOADER.align_mask));
  a.add(r9, qword(rbx, SEGMENT_LOADER.lead));
  a.add(r9, rax);
  a.not(rax);
  a.and(r9, rax);
  a.mov(rax, qword(rbx, SEGMENT_LOADER.link));
  a.cmp(r9, rax);
  a.cmovb(r9, rax);
  a.mov(eax, dword(rbx, SEGMENT_LOADER.count));
  a.dec(eax);
  a.imul(eax, eax, COPY.size);
  a.add(rdx, rax);
  a.neg(r10);

  a.bind(choose);
  a.mov(ebx, dword(rbx, SEGMENT_LOADER.count));
  a.note('one segment');
  a.bind(move);
  a.mov(rsi, qword(rdx, COPY.from));
  a.add(rsi, r8);
  a.mov(rdi, qword(rdx, COPY.to));
  a.add(rdi, r9);
  a.mov(r11, qword(rdx, COPY.filesz));
  // R13: how much one ascending copy can take without overwriting what is still to be read: upwards the distance, else everything.
  a.mov(r13, rdi);
  a.sub(r13, rsi);
  a.jz(copied);
  a.ja(copy);
  a.mov(r13, r11);
  a.bind(copy);
  a.test(r11, r11);
  a.jz(copied);
  a.mov(rcx, r13);
  a.cmp(rcx, r11);
  a.cmova(rcx, r11);
  a.sub(r11, rcx);
  // The end of what is left.
  emitCopy(a);
  a.jmp(copy);
  a.bind(copied);

  a.note('zeros after it');
  a.mov(rdi, qword(rdx, COPY.to));
  a.add(rdi, r9);
  a.add(rdi, qword(rdx, COPY.filesz));
  a.mov(rcx, qword(rdx, COPY.memsz));
  a.sub(rcx, qword(rdx, COPY.filesz));
  a.xor(eax, eax);
  a.rep.stosb();
  a.add(rdx, r10);
  a.dec(ebx);
  a.jnz(move);

  a.note('to startup_64');
  a.lea(rbx, mem(start));
  a.mov(rax, qword(rbx, SEGMENT_LOADER.entry));
  a.sub(rax, qword(rbx, SEGMENT_LOADER.link));
  a.add(rax, r9);
  a.mov(rsi, r12);
  a.jmp(rax);
}

/** Copies RCX bytes at offset R11 of the segment. Clobbers RAX, RCX, RSI and RDI. */
function emitCopy(a: Assembler): void {
  a.mov(rsi, qword(rdx, COPY.from));
  a.add(rsi, r8);
  a.add(rsi, r11);
  a.mov(rdi, qword(rdx, COPY.to));
  a.add(rdi, r9);
  a.add(rdi, r11);
  a.mov(rax, rcx);
  a.shr(rcx, 3);
  a.rep.movsq();
  a.mov(rcx, rax);
  a.and(ecx, 7);
  a.rep.movsb();
}
