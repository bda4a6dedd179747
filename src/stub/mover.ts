/**
 * The protected-mode code of a bzImage without compression: what runs instead of a decompressor (boot.rst, "32-bit boot protocol", "64-bit
 * boot protocol"). ESI or RSI points to boot_params, interrupts are off; where it was loaded it finds out by itself.
 *
 *     0x000   32-bit entry: an identity map of 4 GiB, long mode
 *     0x200   64-bit entry: the segments to where they run, then startup_64
 *     0x400   data: what the two need to know of this kernel (MOVER)
 *     0x1000  page tables and stack of the 32-bit entry
 *     ...     the ELF file, at an offset that brings its first segment to a multiple of kernel_alignment
 *
 * Where the boot loader kept to kernel_alignment and pref_address, the first segment lies where it can run, and only what is elsewhere in the
 * file than in memory is moved: per-cpu data, init, what we added. Below pref_address everything moves up to it, as boot.rst says of
 * relocatable kernels; at an address that is not aligned, up to the next one that is.
 */
import type { PhysAddr } from '../base/addresses.ts';
import { Assembler, dword, mem, qword } from '../asm/assembler.ts';
import type { Assembled } from '../asm/assembler.ts';
import {
  CODE64_DESCRIPTOR,
  CR4_PAE,
  DATA_DESCRIPTOR,
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
import { Writer } from '../base/bytes.ts';

export const ENTRY_32 = 0x000;
export const ENTRY_64 = 0x200;

/** Offsets in the protected-mode code. */
export const MOVER = {
  /** Descriptors, and the 6-byte pointer to them, whose base the 32-bit entry fills in. */
  gdt: 0x400,
  gdt_pointer: 0x420,
  /** u64: where the first segment lies, from the start of the protected-mode code. */
  first: 0x430,
  /** u64: its physical link address, and that of startup_64. */
  link: 0x438,
  entry: 0x440,
  /** u64: CONFIG_PHYSICAL_ALIGN - 1. */
  align_mask: 0x448,
  /** u64: how far above its place in memory a segment lies in the file at most, both counted from the first segment. */
  lead: 0x450,
  /** u32: how many moves follow. */
  count: 0x458,
  /** u32: 1 where no segment lies lower in the file than in memory, and so the kernel can run where the first lies; else 0. */
  in_place: 0x45c,
  moves: 0x460,
  pml4: 0x1000,
  pdpt: 0x2000,
  pd: 0x3000,
  stack_top: 0x8000,
  /** The ELF file comes behind. */
  size: 0x8000,
} as const;

/** A segment to put in place; fields are u64. */
const MOVE = { from: 0, to: 8, filesz: 16, memsz: 24, size: 32 } as const;
export const MOST_MOVES = Math.floor((MOVER.pml4 - MOVER.moves) / MOVE.size);

/** __BOOT_CS and __BOOT_DS, as boot.rst wants them: the first with long mode on. */
const BOOT_CS = 0x10;
const BOOT_DS = 0x18;

/** boot_params.scratch: four bytes that the 32-bit entry may use as its stack. */
const SCRATCH = 0x1e4;

/** Of a segment: where it lies from the first one's first byte, in the file and in memory. */
export interface Move {
  readonly file: number;
  readonly memory: number;
  readonly filesz: number;
  readonly memsz: number;
}

export interface MoverPlan {
  /** Of the first segment, from the start of the protected-mode code. */
  readonly first: number;
  /** Its physical link address. */
  readonly link: PhysAddr;
  /** startup_64's. */
  readonly entry: PhysAddr;
  readonly align: number;
  /** By rising addresses, in the file as in memory; at most MOST_MOVES. */
  readonly moves: readonly Move[];
}

/** MOVER.size bytes. */
export function buildMover({ first, link, entry, align, moves }: MoverPlan): Uint8Array {
  if (moves.length > MOST_MOVES) throw new RangeError(`${moves.length} segments to move, at most ${MOST_MOVES}`);
  const image = new Writer(new Uint8Array(MOVER.size));
  image.copy(0, assembleMover().code);
  image.u64(MOVER.gdt + BOOT_CS, CODE64_DESCRIPTOR);
  image.u64(MOVER.gdt + BOOT_DS, DATA_DESCRIPTOR);
  image.u16(MOVER.gdt_pointer, BOOT_DS + 7);
  image.u64(MOVER.first, first);
  image.u64(MOVER.link, link);
  image.u64(MOVER.entry, entry);
  image.u64(MOVER.align_mask, align - 1);
  image.u64(MOVER.lead, leadOf(moves));
  image.u32(MOVER.count, moves.length);
  image.u32(MOVER.in_place, moves.every(({ file, memory }) => file >= memory) ? 1 : 0);
  for (const [index, { file, memory, filesz, memsz }] of moves.entries()) {
    const at = MOVER.moves + index * MOVE.size;
    image.u64(at + MOVE.from, file);
    image.u64(at + MOVE.to, memory);
    image.u64(at + MOVE.filesz, filesz);
    image.u64(at + MOVE.memsz, memsz);
  }
  return image.bytes;
}

export function leadOf(moves: readonly Move[]): number {
  return Math.max(0, ...moves.map(({ file, memory }) => file - memory));
}

/** The code; the same bytes in every image. */
export function assembleMover(): Assembled {
  const a = new Assembler({ bits: 32 });
  const entry64 = a.labelAt('entry_64', ENTRY_64);
  emitEntry32(a);
  const long = a.label('long_mode');
  // The far return above comes here, at a fixed place.
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
  if (assembled.code.length > MOVER.gdt) throw new RangeError('the mover has grown into its data');
  return assembled;
}

const LONG_MODE = 0x180;

function padTo(a: Assembler, offset: number): void {
  const here = a.bind(a.label(`padding to ${offset}`));
  const length = offset - a.offsetOf(here);
  if (length < 0) throw new RangeError(`the mover has grown past ${offset}`);
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
  a.lea(esp, mem(ebp, MOVER.stack_top));

  a.note('identity map of 4 GiB');
  a.lea(edi, mem(ebp, MOVER.pd));
  a.mov(eax, PAGE_ENTRY);
  a.mov(ecx, 2048);
  a.bind(page);
  a.mov(dword(edi), eax);
  a.mov(dword(edi, 4), 0);
  a.add(edi, 8);
  a.add(eax, PAGE_2M);
  a.dec(ecx);
  a.jnz(page);
  a.lea(eax, mem(ebp, MOVER.pd + TABLE_ENTRY));
  for (let gigabyte = 0; gigabyte < 4; gigabyte++) {
    a.mov(dword(ebp, MOVER.pdpt + gigabyte * 8), eax);
    a.add(eax, 0x1000);
  }
  a.lea(eax, mem(ebp, MOVER.pdpt + TABLE_ENTRY));
  a.mov(dword(ebp, MOVER.pml4), eax);

  a.note('long mode');
  a.lea(eax, mem(ebp, MOVER.gdt));
  a.mov(dword(ebp, MOVER.gdt_pointer + 2), eax);
  a.lgdt(mem(ebp, MOVER.gdt_pointer));
  a.mov(eax, cr4);
  a.bts(eax, CR4_PAE);
  a.mov(cr4, eax);
  a.lea(eax, mem(ebp, MOVER.pml4));
  a.mov(cr3, eax);
  emitEnableLongMode(a);
  a.push(BOOT_CS);
  a.lea(eax, mem(ebp, LONG_MODE));
  a.push(eax);
  emitEnablePaging(a);
  a.retf();
  if (a.offsetOf(here) !== HERE) throw new RangeError(`HERE is ${a.offsetOf(here)}`);
}

/** Where the call of the 32-bit entry returns to. */
const HERE = 13;

/**
 * RBX: where the protected-mode code is; R8: where the first segment lies; R9: where it will run; RDX: the table of moves.
 *
 * In place, segments move down, the lowest first; otherwise each moves up, or stays, the highest first: either way nothing lands on what
 * is still to be moved.
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
  a.mov(r8, qword(rbx, MOVER.first));
  a.add(r8, rbx);
  a.lea(rdx, mem(rbx, MOVER.moves));
  a.mov(r10, MOVE.size);
  a.mov(r9, r8);
  a.cmp(dword(rbx, MOVER.in_place), 0);
  a.je(up);
  a.test(r8, qword(rbx, MOVER.align_mask));
  a.jnz(up);
  a.cmp(r8, qword(rbx, MOVER.link));
  a.jae(choose);

  a.note('no: move it up, from its end');
  a.bind(up);
  a.mov(rax, qword(rbx, MOVER.align_mask));
  a.add(r9, qword(rbx, MOVER.lead));
  a.add(r9, rax);
  a.not(rax);
  a.and(r9, rax);
  a.mov(rax, qword(rbx, MOVER.link));
  a.cmp(r9, rax);
  a.cmovb(r9, rax);
  a.mov(eax, dword(rbx, MOVER.count));
  a.dec(eax);
  a.imul(eax, eax, MOVE.size);
  a.add(rdx, rax);
  a.neg(r10);

  a.bind(choose);
  a.mov(ebx, dword(rbx, MOVER.count));
  a.note('one segment');
  a.bind(move);
  a.mov(rsi, qword(rdx, MOVE.from));
  a.add(rsi, r8);
  a.mov(rdi, qword(rdx, MOVE.to));
  a.add(rdi, r9);
  a.mov(r11, qword(rdx, MOVE.filesz));
  // How much can be copied at once, ascending, without running over what is still to be read: upwards the distance, else all of it.
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
  // The last of what is left.
  emitCopy(a);
  a.jmp(copy);
  a.bind(copied);

  a.note('zeros behind it');
  a.mov(rdi, qword(rdx, MOVE.to));
  a.add(rdi, r9);
  a.add(rdi, qword(rdx, MOVE.filesz));
  a.mov(rcx, qword(rdx, MOVE.memsz));
  a.sub(rcx, qword(rdx, MOVE.filesz));
  a.xor(eax, eax);
  a.rep.stosb();
  a.add(rdx, r10);
  a.dec(ebx);
  a.jnz(move);

  a.note('to startup_64');
  a.lea(rbx, mem(start));
  a.mov(rax, qword(rbx, MOVER.entry));
  a.sub(rax, qword(rbx, MOVER.link));
  a.add(rax, r9);
  a.mov(rsi, r12);
  a.jmp(rax);
}

/** RCX bytes at R11 from the segment's start. Clobbers RAX, RCX. */
function emitCopy(a: Assembler): void {
  a.mov(rsi, qword(rdx, MOVE.from));
  a.add(rsi, r8);
  a.add(rsi, r11);
  a.mov(rdi, qword(rdx, MOVE.to));
  a.add(rdi, r9);
  a.add(rdi, r11);
  a.mov(rax, rcx);
  a.shr(rcx, 3);
  a.rep.movsq();
  a.mov(rcx, rax);
  a.and(ecx, 7);
  a.rep.movsb();
}
