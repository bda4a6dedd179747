/**
 * The /init of a trial: uses what a wrong relocation table breaks without stopping the boot, and prints what came of it. It decides nothing; report.ts reads it.
 *
 *     kslide-guest: text=<address of _text, from /proc/kallsyms>
 *     kslide-guest: symbols <lines> <sum>     for each GROUP lines of /proc/kallsyms, modules left out
 *     kslide-guest: result <name> <what a system call returned>
 *     kslide-guest: begin <name>              then a file as it is, then
 *     kslide-guest: end <name>
 *     kslide-guest: done
 *
 * /proc/kallsyms is 5 MB, and a serial port is slow: 6.6 s for it under TCG, where reading and summing takes less than one. So sums of groups go out.
 * A line's hash starts with its address less the kernel's first one (an address in the lower half, which is a per-cpu offset, as it is), and
 * takes in the rest of the line.
 */
import { byte, mem } from '../../asm/assembler.ts';
import { al, eax, ebp, r10, r12, r13, r8, r9, rax, rbp, rbx, rdi, rdx, rsi } from '../../asm/registers.ts';
import { MARKER } from '../../node/qemu/console.ts';
import {
  BUFFER_SIZE,
  copyToConsole,
  drainConsole,
  exitInit,
  Guest,
  mount,
  O_RDWR_NOCTTY,
  openConsole,
  packProgram,
  reportText,
  silencePrintk,
} from '../../node/qemu/guest-program.ts';

/** Lines of /proc/kallsyms that have one sum. */
export const GROUP = 512;

/** Numbers of arch/x86/entry/syscalls/syscall_64.tbl. */
const SYS = { read: 0, write: 1, open: 2, close: 3, pipe: 22, nanosleep: 35, uname: 63, gettimeofday: 96 } as const;
const O_WRONLY_TRUNC = 0o1001;
/** Nothing is mapped there. */
const BAD = 0x10;
/** Calls of vfs_read that are traced. */
export const CALLS = 3;

export function packTrialGuest(): Uint8Array {
  const guest = new Guest();
  openConsole(guest);
  mount(guest, 'proc', '/proc');
  silencePrintk(guest);
  reportText(guest);
  sumSymbols(guest);
  badPointers(guest);
  show(guest, 'iomem', '/proc/iomem');
  show(guest, 'stack', '/proc/self/stack');
  show(guest, 'wchan', '/proc/self/wchan');
  trace(guest);
  say(guest, 'done');
  drainConsole(guest);
  exitInit(guest);
  return packProgram(guest.finish(), [{ type: 'directory', path: 'trace' }]);
}

function say(guest: Guest, text: string): void {
  guest.put(`${MARKER}${text}`);
  guest.a.call(guest.endLine);
}

/** RAX as the result of `name`. */
function result(guest: Guest, name: string): void {
  const { a } = guest;
  a.mov(r13, rax);
  guest.put(`${MARKER}result ${name} `);
  a.mov(rdx, r13);
  a.call(guest.putHex);
  a.call(guest.endLine);
}

function show(guest: Guest, name: string, path: string): void {
  say(guest, `begin ${name}`);
  copyToConsole(guest, path, name);
  guest.syscall(SYS.close, rbx);
  say(guest, `end ${name}`);
}

/** Each is caught by an entry of its own in __ex_table. */
function badPointers(guest: Guest): void {
  guest.open('/proc/version');
  guest.syscall(SYS.read, rbx, BAD, 16);
  result(guest, 'efault-read');
  guest.syscall(SYS.close, rbx);
  guest.open('/proc/sys/kernel/printk', O_RDWR_NOCTTY);
  guest.syscall(SYS.write, rbx, BAD, 16);
  result(guest, 'efault-write');
  guest.syscall(SYS.close, rbx);
  guest.syscall(SYS.uname, BAD);
  result(guest, 'efault-uname');
  guest.syscall(SYS.pipe, BAD);
  result(guest, 'efault-pipe');
  guest.syscall(SYS.nanosleep, BAD, 0);
  result(guest, 'efault-nanosleep');
  guest.syscall(SYS.gettimeofday, BAD, 0);
  result(guest, 'efault-gettimeofday');
  guest.syscall(SYS.open, BAD, 0, 0);
  result(guest, 'efault-open');
}

function write(guest: Guest, name: string, path: string, text: string): void {
  guest.open(path, O_WRONLY_TRUNC);
  guest.syscall(SYS.write, rbx, guest.text(text), text.length);
  result(guest, name);
  guest.syscall(SYS.close, rbx);
}

function readSome(guest: Guest): void {
  guest.open('/proc/version');
  for (let call = 0; call < CALLS; call++) guest.syscall(SYS.read, rbx, guest.buffer, 1);
  guest.syscall(SYS.close, rbx);
}

/** The function tracer and a kprobe find code by address, and patch it; an event switches static keys and static calls. */
function trace(guest: Guest): void {
  mount(guest, 'tracefs', '/trace');
  result(guest, 'tracefs');
  write(guest, 'ftrace-filter', '/trace/set_ftrace_filter', 'vfs_read');
  write(guest, 'ftrace-on', '/trace/current_tracer', 'function');
  readSome(guest);
  write(guest, 'trace-stop', '/trace/tracing_on', '0');
  show(guest, 'ftrace', '/trace/trace');
  write(guest, 'ftrace-off', '/trace/current_tracer', 'nop');
  write(guest, 'trace-start', '/trace/tracing_on', '1');
  write(guest, 'kprobe-add', '/trace/kprobe_events', 'p:kslide vfs_read');
  write(guest, 'kprobe-on', '/trace/events/kprobes/kslide/enable', '1');
  readSome(guest);
  write(guest, 'kprobe-off', '/trace/events/kprobes/kslide/enable', '0');
  show(guest, 'kprobe', '/trace/trace');
  write(guest, 'event-on', '/trace/events/sched/sched_switch/enable', '1');
  write(guest, 'event-off', '/trace/events/sched/sched_switch/enable', '0');
}

/**
 * RSI and RDI: what is left of the buffer. RBP: column, up to 16. R13: the address, then the hash. R12: the first address of the kernel, or 0. R8: sum of the
 * group; R9: lines in it. R10: whether the line has a tab, which is before a module's name.
 */
function sumSymbols(guest: Guest): void {
  const { a } = guest;
  const refill = a.label('symbols_refill');
  const next = a.label('symbols_next');
  const rest = a.label('symbols_rest');
  const skip = a.label('symbols_skip');
  const decimal = a.label('symbols_decimal');
  const known = a.label('symbols_known');
  const low = a.label('symbols_low');
  const lineEnd = a.label('symbols_line_end');
  const flushed = a.label('symbols_flushed');
  const flush = a.label('symbols_flush');
  const done = a.label('symbols_done');
  guest.open('/proc/kallsyms');
  for (const register of [r8, r9, r10, r12, r13, rbp]) a.mov(register, 0);

  a.bind(refill);
  guest.syscall(SYS.read, rbx, guest.buffer, BUFFER_SIZE);
  a.test(rax, rax);
  a.jle(done);
  a.lea(rsi, mem(guest.buffer));
  a.lea(rdi, mem(rsi, rax, 1));

  a.bind(next);
  a.cmp(rsi, rdi);
  a.jae(refill);
  a.movzx(eax, byte(rsi));
  a.inc(rsi);
  a.cmp(ebp, 16);
  a.jae(rest);
  a.note('a digit of the address');
  a.sub(eax, 0x30);
  a.cmp(eax, 10);
  a.jb(decimal);
  a.sub(eax, 0x61 - 0x3a);
  a.bind(decimal);
  a.shl(r13, 4);
  a.add(r13, rax);
  a.inc(ebp);
  a.cmp(ebp, 16);
  a.jne(next);
  a.test(r13, r13);
  a.jns(low);
  a.test(r12, r12);
  a.jnz(known);
  a.mov(r12, r13);
  a.bind(known);
  a.sub(r13, r12);
  a.bind(low);
  a.jmp(next);

  a.bind(rest);
  a.cmp(al, 0x0a);
  a.je(lineEnd);
  a.cmp(al, 0x09);
  a.jne(skip);
  a.mov(r10, 1);
  a.bind(skip);
  a.lea(r13, mem(r13, r13, 8));
  a.add(r13, rax);
  a.rol(r13, 5);
  a.jmp(next);

  a.bind(lineEnd);
  const module = a.label('symbols_module');
  a.test(r10, r10);
  a.jnz(module);
  a.add(r8, r13);
  a.inc(r9);
  a.bind(module);
  for (const register of [r10, r13, rbp]) a.mov(register, 0);
  a.cmp(r9, GROUP);
  a.jb(next);
  a.push(rsi);
  a.push(rdi);
  a.call(flush);
  a.pop(rdi);
  a.pop(rsi);
  a.jmp(next);

  a.bind(flush);
  guest.put(`${MARKER}symbols `);
  a.mov(rdx, r9);
  a.call(guest.putHex);
  guest.put(' ');
  a.mov(rdx, r8);
  a.call(guest.putHex);
  a.call(guest.endLine);
  a.mov(r8, 0);
  a.mov(r9, 0);
  a.ret();

  a.bind(done);
  a.test(r9, r9);
  a.jz(flushed);
  a.call(flush);
  a.bind(flushed);
  guest.syscall(SYS.close, rbx);
}
