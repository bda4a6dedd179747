/**
 * A program that chooses slides in a loop with the stub's own two steps, and prints how often it chose each slot.
 *
 * emitEntropy and emitChooseSlide are called unchanged, so the loop contains exactly the instructions of every converted kernel.
 * There are two ways to run it, which differ in the code around the steps:
 *
 *     guest     entered by the linux64 loader, like a kernel; on the stub's own traps; asks the CPU that QEMU gives it
 *     process   a static Linux executable: no loader, no emulator, so RDSEED, RDRAND and TSC are the hardware's. A signal handler stands in
 *               for the traps, and CPUID's answers are masked: that one instruction is replaced, by a call
 *
 * Registers in the loop are the stub's: R15 parameters, RBP scratch, R12 boot_params, R14 the choice. R13, the physical slide elsewhere, counts.
 */
import { Assembler, dword, mem, qword } from '../../src/asm/assembler.ts';
import type { Label } from '../../src/asm/assembler.ts';
import { emitHexDigits } from '../../src/node/qemu/hex-digits.ts';
import {
  al,
  dx,
  eax,
  ebx,
  ecx,
  edi,
  edx,
  r10d,
  r12,
  r13,
  r14,
  r15,
  r9d,
  rax,
  rbp,
  rbx,
  rdi,
  rdx,
  rsi,
  rsp,
} from '../../src/asm/registers.ts';
import { BOOT_PARAMS, BOOT_PARAMS_SIZE, SETUP_DATA, SETUP_RNG_SEED } from '../../src/base/boot-params.ts';
import { ascii, Writer } from '../../src/base/bytes.ts';
import type { Slots } from '../../src/kaslr/slots.ts';
import { buildElf } from '../../src/node/qemu/elf-executable.ts';
import { emitChooseSlide, emitEntropy } from '../../src/stub/entropy.ts';
import { PARAMS, SCRATCH } from '../../src/segment/layout.ts';
import { emitInstallTraps, emitTrapHandlers } from '../../src/stub/traps.ts';

/** The CPUID bits that a process may see: masks of leaf 1 ECX and EDX, and of leaf 7 EBX. */
export interface CpuidMask {
  readonly leaf1Ecx: number;
  readonly leaf1Edx: number;
  readonly leaf7Ebx: number;
}

export interface DrawProgram {
  readonly slots: Slots;
  /** The number of choices. */
  readonly draws: number;
  /** `guest`, or for a process the CPUID bits that it may see. */
  readonly cpuid: 'guest' | CpuidMask;
  /** Make a new boot loader's seed for each choice. If false, choices to which RDSEED, RDRAND and TSC gave nothing are counted separately. */
  readonly reseed: boolean;
}

export interface DrawCounts {
  /** How often each slot was chosen. */
  readonly counts: Uint32Array;
  /** Choices outside all slots. */
  readonly outside: number;
  /** Choices to which no source gave anything; they are not in `counts`. */
  readonly dry: number;
}

/** The size of a boot loader's seed: 32 bytes, as QEMU and Firecracker pass. */
export const SEED_WORDS = 4;

/** Where the program is linked: its parameters, code and tables, then memory without contents in the file. */
const ADDRESS = 0x100_0000;
const SCRATCH_AT = 0x2000;
const BOOT_PARAMS_AT = SCRATCH_AT + SCRATCH.size;
const SEED_AT = BOOT_PARAMS_AT + BOOT_PARAMS_SIZE;
const COUNTS_AT = SEED_AT + 0x100;

const MARKER = 'kslide-draws:';
const COM1 = 0x3f8;
const LINE_STATUS = COM1 + 5;
const TRANSMITTER_EMPTY = 0x20;

/** Numbers of arch/x86/entry/syscalls/syscall_64.tbl. */
const SYS = { write: 1, rt_sigaction: 13, rt_sigreturn: 15, exit_group: 231 } as const;
const SIGNALS = { SIGILL: 4, SIGSEGV: 11 } as const;
/** struct sigaction as the kernel has it: handler, flags, restorer, mask. */
const SA_SIGINFO_RESTORER_NODEFER = 0x4400_0004;
/** struct ucontext: where its registers are. */
const UCONTEXT = { rbp: 120, rip: 168 } as const;

/** An Assembler that emits a call instead of cpuid. Everything else is emitted as in the stub. */
class MaskedAssembler extends Assembler {
  readonly maskedCpuid = this.label('masked_cpuid');
  override readonly cpuid = (): void => this.call(this.maskedCpuid);
}

/** The ELF file: for the linux64 loader, or for Linux. */
export function assembleDrawProgram({ slots, draws, cpuid, reseed }: DrawProgram): Uint8Array {
  const masked = cpuid === 'guest' ? undefined : new MaskedAssembler();
  const a: Assembler = masked ?? new Assembler();
  const at = (name: string, offset: number): Label => a.labelAt(name, offset - PARAMS.size);
  const stub = { params: at('params', 0), fault: a.label('fault'), nmi: a.label('nmi'), leave: a.label('leave') };
  const counts = at('counts', COUNTS_AT);
  const dry = (slots.count + 1) * 4;

  a.lea(r15, mem(stub.params));
  a.lea(rbp, mem(at('scratch', SCRATCH_AT)));
  if (cpuid === 'guest') {
    a.mov(r12, rsi);
    a.lea(rsp, mem(rbp, SCRATCH.stack_top));
    emitInstallTraps(a, stub);
  } else {
    emitBootParams(a, at('boot_params', BOOT_PARAMS_AT), reseed ? at('seed', SEED_AT) : undefined);
    emitInstallSignals(a, stub.fault, at('sigaction', COUNTS_AT));
  }

  a.mov(r13, draws);
  const draw = a.bind(a.label('draw'));
  const isDry = a.label('dry');
  const next = a.label('next_draw');
  if (reseed) emitReseed(a);
  emitEntropy(a);
  if (!reseed) {
    a.test(r9d, r9d);
    a.jz(isDry);
  }
  emitChooseSlide(a);
  // Choices outside all slots are counted after the last slot, and dry ones after those.
  a.shr(r14, Math.log2(slots.align));
  a.mov(eax, slots.count);
  a.cmp(r14, rax);
  a.cmova(r14, rax);
  a.lea(rax, mem(counts));
  a.inc(dword(rax, r14, 4));
  a.bind(next);
  a.dec(r13);
  a.jnz(draw);

  const text = at('text', COUNTS_AT + dry + 4);
  const length = emitText(a, counts, slots.count + 2, text);
  if (cpuid === 'guest') emitSayAndReset(a, text, length);
  else emitWriteAndExit(a, text, length);

  a.bind(isDry);
  a.lea(rax, mem(counts, dry));
  a.inc(dword(rax));
  a.jmp(next);
  if (cpuid === 'guest') emitTrapHandlers(a, stub);
  else emitSignalHandler(a, stub.fault);
  if (masked !== undefined && cpuid !== 'guest') emitMaskedCpuid(masked, cpuid);
  // Nothing jumps to `leave` here, but the trap code refers to it, so the label must be bound.
  a.bind(stub.leave);

  const { code } = a.assemble();
  const image = new Writer(new Uint8Array(SCRATCH_AT));
  image.u64(PARAMS.slot_count, slots.count);
  image.u64(PARAMS.slot_align, slots.align);
  image.copy(PARAMS.size, code);
  const memsz = COUNTS_AT + dry + 4 + length;
  return buildElf({ entry: ADDRESS + PARAMS.size, segments: [{ address: ADDRESS, bytes: image.bytes, memsz }] });
}

/** Reads the counts that the program printed; undefined if it did not finish. */
export function readDrawCounts(output: string, slots: number): DrawCounts | undefined {
  const digits = new RegExp(`${MARKER}([0-9a-f]{${(slots + 2) * 8}})`).exec(output)?.[1];
  if (digits === undefined) return undefined;
  const words = Uint32Array.from({ length: slots + 2 }, (_, i) => Number.parseInt(digits.slice(i * 8, i * 8 + 8), 16));
  return { counts: words.subarray(0, slots), outside: words[slots]!, dry: words[slots + 1]! };
}

/** R12: boot_params, all zero but for the seed. */
function emitBootParams(a: Assembler, bootParams: Label, seed: Label | undefined): void {
  a.lea(r12, mem(bootParams));
  if (seed === undefined) return;
  a.lea(rax, mem(seed));
  a.mov(qword(r12, BOOT_PARAMS.setup_data), rax);
  a.mov(dword(rax, SETUP_DATA.type), SETUP_RNG_SEED);
  a.mov(dword(rax, SETUP_DATA.len), SEED_WORDS * 8);
  // xorshift must not start from 0.
  a.mov(qword(rax, SETUP_DATA.data + (SEED_WORDS - 1) * 8), 1);
}

/** Puts a new seed into the loader's setup_data: xorshift64 (Marsaglia 2003) from the last word of the old seed. */
function emitReseed(a: Assembler): void {
  a.note('a new seed');
  a.mov(rdi, qword(r12, BOOT_PARAMS.setup_data));
  a.mov(rbx, qword(rdi, SETUP_DATA.data + (SEED_WORDS - 1) * 8));
  for (let word = 0; word < SEED_WORDS; word++) {
    for (const [shift, by] of [
      ['shl', 13],
      ['shr', 7],
      ['shl', 17],
    ] as const) {
      a.mov(rax, rbx);
      a[shift](rax, by);
      a.xor(rbx, rax);
    }
    a.mov(qword(rdi, SETUP_DATA.data + word * 8), rbx);
  }
}

/** MARKER, then `words` u32 as 8 hex digits each, and a newline. Returns the text's length. */
function emitText(a: Assembler, from: Label, words: number, to: Label): number {
  a.note('the counts as text');
  a.lea(rsi, mem(from));
  a.lea(rdi, mem(to));
  for (const character of ascii(MARKER)) {
    a.mov(al, character);
    a.stosb();
  }
  a.mov(r13, words);
  const word = a.bind(a.label('word'));
  a.lodsd();
  a.mov(edx, eax);
  emitHexDigits(a, 8);
  a.dec(r13);
  a.jnz(word);
  a.mov(al, 0x0a);
  a.stosb();
  return MARKER.length + words * 8 + 1;
}

function emitSayAndReset(a: Assembler, text: Label, length: number): void {
  a.lea(rsi, mem(text));
  a.mov(ebx, length);
  const wait = a.bind(a.label('wait'));
  a.mov(dx, LINE_STATUS);
  a.in(al, dx);
  a.test(al, TRANSMITTER_EMPTY);
  a.jz(wait);
  a.mov(dx, COM1);
  a.lodsb();
  a.out(dx, al);
  a.dec(ebx);
  a.jnz(wait);
  a.note('reset by triple fault: no IDT, and an invalid instruction');
  a.mov(qword(rbp), 0);
  a.mov(qword(rbp, 8), 0);
  a.lidt(mem(rbp));
  a.ud2();
}

function emitSyscall(a: Assembler, number: number): void {
  a.mov(eax, number);
  a.db([0x0f, 0x05]); // syscall
}

function emitWriteAndExit(a: Assembler, text: Label, length: number): void {
  a.lea(rsi, mem(text));
  a.mov(edx, length);
  a.mov(edi, 1);
  emitSyscall(a, SYS.write);
  a.xor(edi, edi);
  emitSyscall(a, SYS.exit_group);
}

/** `memory`: space for a struct sigaction, zeroed again before the counts use it. */
function emitInstallSignals(a: Assembler, handler: Label, memory: Label): void {
  const restorer = a.label('restorer');
  const installed = a.label('signals_installed');
  a.note('what a fault is to a process');
  a.lea(rsi, mem(memory));
  a.lea(rax, mem(handler));
  a.mov(qword(rsi), rax);
  a.mov(qword(rsi, 8), SA_SIGINFO_RESTORER_NODEFER);
  a.lea(rax, mem(restorer));
  a.mov(qword(rsi, 16), rax);
  for (const signal of Object.values(SIGNALS)) {
    a.mov(edi, signal);
    a.xor(edx, edx);
    a.mov(r10d, 8);
    emitSyscall(a, SYS.rt_sigaction);
  }
  a.xor(eax, eax);
  for (const offset of [0, 8, 16]) a.mov(qword(rsi, offset), rax);
  a.jmp(installed);
  a.bind(restorer);
  emitSyscall(a, SYS.rt_sigreturn);
  a.bind(installed);
}

/** As in traps.ts: resumes where the step asked to, and ends the program if it did not ask. RDX: struct ucontext. */
function emitSignalHandler(a: Assembler, handler: Label): void {
  const resume = a.label('resume');
  a.bind(handler);
  a.mov(rax, qword(rdx, UCONTEXT.rbp));
  a.mov(rax, qword(rax, SCRATCH.resume));
  a.test(rax, rax);
  a.jnz(resume);
  a.mov(edi, 1);
  emitSyscall(a, SYS.exit_group);
  a.bind(resume);
  a.mov(qword(rdx, UCONTEXT.rip), rax);
  a.ret();
}

function emitMaskedCpuid(a: MaskedAssembler, { leaf1Ecx, leaf1Edx, leaf7Ebx }: CpuidMask): void {
  const real = (): void => a.db([0x0f, 0xa2]);
  const leaf1 = a.label('cpuid_leaf_1');
  const leaf7 = a.label('cpuid_leaf_7');
  a.bind(a.maskedCpuid);
  a.cmp(eax, 1);
  a.je(leaf1);
  a.cmp(eax, 7);
  a.je(leaf7);
  real();
  a.ret();
  a.bind(leaf1);
  real();
  a.and(ecx, leaf1Ecx);
  a.and(edx, leaf1Edx);
  a.ret();
  a.bind(leaf7);
  real();
  a.and(ebx, leaf7Ebx);
  a.ret();
}
