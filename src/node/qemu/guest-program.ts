/**
 * What programs for a guest's /init are made of: system calls, lines of text on the serial port, an initramfs. A program is static, has one segment, and
 * starts at its first instruction. It is assembled here, so nobody needs a compiler, and no binary is in the repository.
 *
 * Registers, throughout: R15 console, R14 end of the line being made, RBX a file.
 */
import { Assembler, byte, mem, qword } from '../../asm/assembler.ts';
import type { Label } from '../../asm/assembler.ts';
import type { Gpr } from '../../asm/registers.ts';
import { eax, ecx, r10, r12, r13, r14, r15, r8, rax, rbp, rbx, rdi, rdx, rsi } from '../../asm/registers.ts';
import { ascii, Reader } from '../../base/bytes.ts';
import { MARKER } from './console.ts';
import { buildElf } from './elf-executable.ts';
import { packInitramfs } from './initramfs.ts';
import type { InitramfsEntry } from './initramfs.ts';
import { emitHexDigits } from './hex-digits.ts';

/** Numbers of arch/x86/entry/syscalls/syscall_64.tbl. */
const SYS = { read: 0, write: 1, open: 2, ioctl: 16, exit: 60, mount: 165 } as const;
const O_RDONLY = 0;
export const O_RDWR_NOCTTY = 0o402;
/** With an argument of 1, waits until the terminal has sent everything: tcdrain. */
const TCSBRK = 0x5409;

const ORIGIN = 0x40_0000;
const LINE = 0x4000;
const BUFFER = 0x5000;
export const BUFFER_SIZE = 1 << 20;
type Argument = number | Gpr<64> | Label;

export class Guest {
  readonly a = new Assembler({ origin: ORIGIN });
  readonly line = this.a.labelAt('line', LINE);
  readonly buffer = this.a.labelAt('buffer', BUFFER);
  readonly endLine = this.a.label('end_line');
  /** Adds RDX to the line, as 16 digits. */
  readonly putHex = this.a.label('put_hex');
  readonly #texts = new Map<string, Label>();

  /** The address of a NUL-terminated text, which stands behind the code. */
  text(text: string): Label {
    const known = this.#texts.get(text) ?? this.a.label(`"${text}"`);
    this.#texts.set(text, known);
    return known;
  }

  /** Result in RAX; RCX and R11 are lost. */
  syscall(number: number, ...args: readonly Argument[]): void {
    const { a } = this;
    args.forEach((argument, i) => {
      const register = [rdi, rsi, rdx, r10, r8][i];
      if (register === undefined) throw new RangeError('a system call of more than five arguments');
      if (typeof argument === 'number') a.mov(register, argument);
      else if (argument.kind === 'label') a.lea(register, mem(argument));
      else a.mov(register, argument);
    });
    a.mov(eax, number);
    a.db([0x0f, 0x05]); // syscall
  }

  open(path: string, flags = O_RDONLY): void {
    this.syscall(SYS.open, this.text(path), flags, 0);
    this.a.mov(rbx, rax);
  }

  put(text: string): void {
    this.a.lea(rsi, mem(this.text(text)));
    this.a.mov(rdi, r14);
    this.a.mov(ecx, text.length);
    this.a.rep.movsb();
    this.a.mov(r14, rdi);
  }

  #emitSubroutines(): void {
    const { a } = this;
    a.bind(this.putHex);
    a.mov(rdi, r14);
    emitHexDigits(a, 16);
    a.mov(r14, rdi);
    a.ret();
    a.bind(this.endLine);
    a.mov(byte(r14), 0x0a);
    a.inc(r14);
    a.lea(rsi, mem(this.line));
    a.mov(rdx, r14);
    a.sub(rdx, rsi);
    a.mov(r14, rsi);
    this.syscall(SYS.write, r15);
    a.ret();
  }

  /** The subroutines, then the texts. */
  finish(): Uint8Array {
    const { a } = this;
    this.#emitSubroutines();
    for (const [text, label] of this.#texts) {
      a.bind(label);
      a.db(ascii(`${text}\0`));
    }
    const { code } = a.assemble();
    if (code.length > LINE) throw new RangeError(`the guest's code takes ${code.length} bytes of ${LINE}`);
    return buildElf({ entry: ORIGIN, segments: [{ address: ORIGIN, bytes: code, memsz: BUFFER + BUFFER_SIZE }] });
  }
}

export function openConsole(guest: Guest): void {
  const { a } = guest;
  a.lea(r14, mem(guest.line));
  guest.open('/dev/ttyS0', O_RDWR_NOCTTY);
  a.mov(r15, rax);
  const opened = a.label('console_opened');
  a.test(rax, rax);
  a.jns(opened);
  a.note('what the kernel gave as standard output');
  a.mov(r15, 1);
  a.bind(opened);
}

/** The initramfs with `init`. The serial port is opened by name, so that what it says comes out also without `console=` on the command line. */
export function packProgram(init: Uint8Array, more: readonly InitramfsEntry[] = []): Uint8Array {
  return packInitramfs([
    { type: 'file', path: 'init', data: init, mode: 0o755 },
    { type: 'character-device', path: 'dev/console', major: 5, minor: 1 },
    { type: 'character-device', path: 'dev/ttyS0', major: 4, minor: 64 },
    { type: 'directory', path: 'proc' },
    ...more,
  ]);
}

export function mount(guest: Guest, type: string, at: string): void {
  guest.syscall(SYS.mount, guest.text(type), guest.text(at), guest.text(type), 0, 0);
}

/** Only emergencies from here on: kernel messages would come between ours. */
export function silencePrintk(guest: Guest): void {
  guest.open('/proc/sys/kernel/printk', O_RDWR_NOCTTY);
  guest.syscall(SYS.write, rbx, guest.text('1'), 1);
}

/**
 * Reads until " T _text\n" is in the buffer: eight bytes, one comparison. Per-cpu symbols may come first, never 1 MiB of them. The
 * address is the 16 digits before.
 */
export function reportText(guest: Guest): void {
  const { a } = guest;
  const read = a.label('kallsyms_read');
  const search = a.label('kallsyms_search');
  const next = a.label('kallsyms_next');
  const done = a.label('kallsyms_done');
  guest.open('/proc/kallsyms');
  a.note('R12: end of what was read; R13: where the search goes on');
  a.lea(r12, mem(guest.buffer));
  a.lea(r13, mem(r12, 16));
  a.mov(rbp, new Reader(ascii(' T _text')).u64(0, 'text'));

  a.bind(read);
  a.lea(rdx, mem(guest.buffer, BUFFER_SIZE));
  a.sub(rdx, r12);
  a.jz(done);
  guest.syscall(SYS.read, rbx, r12);
  a.test(rax, rax);
  a.jle(done);
  a.add(r12, rax);
  a.bind(search);
  a.lea(rax, mem(r13, 9));
  a.cmp(rax, r12);
  a.ja(read);
  a.cmp(qword(r13), rbp);
  a.jne(next);
  a.cmp(byte(r13, 8), 0x0a);
  const found = a.label('kallsyms_found');
  a.je(found);
  a.bind(next);
  a.inc(r13);
  a.jmp(search);

  a.bind(found);
  guest.put(`${MARKER}text=`);
  a.lea(rsi, mem(r13, -16));
  a.mov(rdi, r14);
  a.mov(ecx, 16);
  a.rep.movsb();
  a.mov(r14, rdi);
  a.call(guest.endLine);
  a.bind(done);
}

/** A file as it is: its bytes go to the console. A path that is copied twice needs two names. */
export function copyToConsole(guest: Guest, path: string, name = path): void {
  const { a } = guest;
  const read = a.label(`${name}_read`);
  const done = a.label(`${name}_done`);
  guest.open(path);
  a.bind(read);
  guest.syscall(SYS.read, rbx, guest.buffer, 0x1000);
  a.test(rax, rax);
  a.jle(done);
  a.mov(rdx, rax);
  guest.syscall(SYS.write, r15, guest.buffer);
  a.jmp(read);
  a.bind(done);
}

/** Waits until the serial port has sent everything. */
export function drainConsole(guest: Guest): void {
  guest.syscall(SYS.ioctl, r15, TCSBRK, 1);
}

/** /init exits, which the kernel does not survive: its panic then says what it knows of its slide. */
export function exitInit(guest: Guest): void {
  guest.syscall(SYS.exit, 0);
  guest.a.ud2();
}
