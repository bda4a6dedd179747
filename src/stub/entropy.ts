/**
 * Mixes all the randomness that this machine can give into R14, and makes the slide from it.
 *
 * Every source is used on every boot: boot_params and the boot loader's seed (hashed), RDSEED, RDRAND and the TSC; if none of these last
 * three gave anything, the timer chip. They are combined as in arch/x86/lib/kaslr.c, by xor, so that a source known to an attacker takes
 * nothing from the others, and spread by a circular multiply with that file's constant. CPUID says which instructions exist. Where CPUID
 * itself faults (in a confidential guest before its kernel is up), each instruction is tried under guard; there RDRAND is the only source
 * that the host cannot choose.
 *
 * A change here needs the same one in test/boot/leaks.test.ts (`foretell`), which computes the entropy a second time to look for it in memory.
 */
import type { Assembler } from '../asm/assembler.ts';
import { byte, dword, mem, qword } from '../asm/operands.ts';
import {
  al,
  eax,
  ebx,
  ecx,
  edx,
  r10d,
  r11d,
  r12,
  r14,
  r14b,
  r14d,
  r15,
  r8,
  r8d,
  r9d,
  rax,
  rbp,
  rcx,
  rdi,
  rdx,
  rsi,
} from '../asm/registers.ts';
import { BOOT_PARAMS, BOOT_PARAMS_SIZE, SETUP_DATA, SETUP_RNG_SEED } from '../base/boot-params.ts';
import { PARAMS, SCRATCH } from '../segment/layout.ts';
import { emitGuard, emitGuardEnd } from './traps.ts';

/** CPUID feature bits (SDM vol. 2, CPUID). */
const LEAF1_ECX_RDRAND = 30;
const LEAF1_EDX_TSC = 4;
const LEAF7_EBX_RDSEED = 18;

/** RDSEED runs dry under load and reports it; RDRAND hardly ever does (Intel's guide: 10 tries). */
const RDSEED_TRIES = 64;
const RDRAND_TRIES = 10;
/** A longer setup_data list is taken for a loop. */
const SETUP_DATA_NODES = 64;
const SEED_BYTES_AT_MOST = 4096;
/** arch/x86/lib/kaslr.c, mix_const. */
const MIX = 0x5d60_08cb_f384_8dd3n;

export function emitEntropy(a: Assembler): void {
  emitHashBootParams(a);
  emitHashLoaderSeed(a);
  emitReadFeatures(a);
  a.xor(r9d, r9d); // becomes 1 once RDSEED, RDRAND or the TSC has given something
  emitRandomInstruction(a, 'rdseed');
  emitRandomInstruction(a, 'rdrand');
  emitTsc(a);
  emitTimer(a);
}

/** Into R14, by rotate and xor, as rotate_xor() in boot/compressed/kaslr.c does. */
function emitHashBootParams(a: Assembler): void {
  const word = a.label('hash_boot_params');
  a.note('hash boot_params');
  a.xor(r14d, r14d);
  a.mov(rdi, r12);
  a.mov(ecx, BOOT_PARAMS_SIZE / 8);
  a.bind(word);
  a.ror(r14, 7);
  a.xor(r14, qword(rdi));
  a.add(rdi, 8);
  a.dec(ecx);
  a.jnz(word);
}

function emitHashLoaderSeed(a: Assembler): void {
  const node = a.label('setup_data_node');
  const seedByte = a.label('seed_byte');
  const nextNode = a.label('next_setup_data');
  const done = a.label('setup_data_done');
  a.note("the boot loader's seed");
  emitGuard(a, done);
  a.mov(rdi, qword(r12, BOOT_PARAMS.setup_data));
  a.mov(ecx, SETUP_DATA_NODES);
  a.bind(node);
  a.test(rdi, rdi);
  a.jz(done);
  a.cmp(dword(rdi, SETUP_DATA.type), SETUP_RNG_SEED);
  a.jne(nextNode);
  a.mov(edx, dword(rdi, SETUP_DATA.len));
  a.mov(eax, SEED_BYTES_AT_MOST);
  a.cmp(edx, eax);
  a.cmova(edx, eax);
  a.lea(rsi, mem(rdi, SETUP_DATA.data));
  a.bind(seedByte);
  a.sub(edx, 1);
  a.jc(nextNode);
  a.ror(r14, 7);
  a.xor(r14b, byte(rsi));
  a.inc(rsi);
  a.jmp(seedByte);
  a.bind(nextNode);
  a.mov(rdi, qword(rdi, SETUP_DATA.next));
  a.dec(ecx);
  a.jnz(node);
  a.bind(done);
  emitGuardEnd(a);
}

/**
 * R8D, R10D, R11D: CPUID leaf 1 ECX and EDX, leaf 7 EBX; all ones if CPUID faults, so that each source is tried. In the scratch memory for the
 * relocation step, which tries nothing, 0 for what is not known.
 */
function emitReadFeatures(a: Assembler): void {
  const noCpuid = a.label('no_cpuid');
  const known = a.label('features_known');
  a.note('what the CPU has');
  a.xor(eax, eax);
  a.mov(qword(rbp, SCRATCH.cpu_vendor), rax);
  a.mov(dword(rbp, SCRATCH.cpu_leaf7), eax);
  emitGuard(a, noCpuid);
  a.xor(eax, eax);
  a.cpuid();
  a.mov(r9d, eax);
  a.mov(dword(rbp, SCRATCH.cpu_vendor), ecx);
  a.mov(eax, 1);
  a.cpuid();
  a.mov(dword(rbp, SCRATCH.cpu_leaf1), ecx);
  a.mov(r8d, ecx);
  a.mov(r10d, edx);
  a.xor(r11d, r11d);
  a.cmp(r9d, 7);
  a.jb(known);
  a.mov(eax, 7);
  a.xor(ecx, ecx);
  a.cpuid();
  a.mov(dword(rbp, SCRATCH.cpu_leaf7), ebx);
  a.mov(r11d, ebx);
  a.jmp(known);
  a.bind(noCpuid);
  a.mov(r8d, -1);
  a.mov(r10d, r8d);
  a.mov(r11d, r8d);
  a.bind(known);
  emitGuardEnd(a);
}

function emitRandomInstruction(a: Assembler, name: 'rdseed' | 'rdrand'): void {
  const again = a.label(`${name}_again`);
  const got = a.label(`${name}_got`);
  const done = a.label(`${name}_done`);
  a.note(name);
  if (name === 'rdseed') a.bt(r11d, LEAF7_EBX_RDSEED);
  else a.bt(r8d, LEAF1_ECX_RDRAND);
  a.jnc(done);
  emitGuard(a, done);
  a.mov(ecx, name === 'rdseed' ? RDSEED_TRIES : RDRAND_TRIES);
  a.bind(again);
  a[name](rax);
  a.jc(got);
  a.pause();
  a.dec(ecx);
  a.jnz(again);
  a.jmp(done);
  a.bind(got);
  a.xor(r14, rax);
  a.mov(r9d, 1);
  a.bind(done);
  emitGuardEnd(a);
}

function emitTsc(a: Assembler): void {
  const done = a.label('tsc_done');
  a.note('TSC');
  a.bt(r10d, LEAF1_EDX_TSC);
  a.jnc(done);
  emitGuard(a, done);
  a.rdtsc();
  a.shl(rdx, 32);
  a.or(rax, rdx);
  a.xor(r14, rax);
  a.mov(r9d, 1);
  a.bind(done);
  emitGuardEnd(a);
}

/** Last resort: the count of timer 0, as kaslr.c's i8254() reads it. Bounded, because a machine without one reads all ones forever. */
function emitTimer(a: Assembler): void {
  const PORT_CONTROL = 0x43;
  const PORT_COUNTER0 = 0x40;
  const READBACK_COUNTER0 = 0xc2;
  const STATUS_NOTREADY = 0x40;
  const TRIES = 256;
  const again = a.label('timer_again');
  const done = a.label('timer_done');
  a.note('the timer chip, when all else is missing');
  a.test(r9d, r9d);
  a.jnz(done);
  emitGuard(a, done);
  a.mov(ecx, TRIES);
  a.bind(again);
  a.mov(al, READBACK_COUNTER0);
  a.out(PORT_CONTROL, al);
  a.in(al, PORT_COUNTER0);
  a.mov(edx, eax);
  a.in(al, PORT_COUNTER0);
  a.movzx(r8d, al);
  a.in(al, PORT_COUNTER0);
  a.movzx(eax, al);
  a.shl(eax, 8);
  a.or(r8d, eax);
  a.dec(ecx);
  a.jz(done);
  a.test(edx, STATUS_NOTREADY);
  a.jnz(again);
  a.xor(r14, r8);
  a.bind(done);
  emitGuardEnd(a);
}

/** R14: a slide. All slots are equally likely (taking the high half of a 64-bit product has a bias below 2^-54). */
export function emitChooseSlide(a: Assembler): void {
  a.note('choose a slide');
  a.mov(rax, r14);
  a.mov(rcx, MIX);
  a.mul(rcx);
  a.add(rax, rdx);
  a.mul(qword(r15, PARAMS.slot_count));
  a.mov(r14, rdx);
  a.imul(r14, qword(r15, PARAMS.slot_align));
}
