/**
 * What the guest programs of tests add to those of kslide itself (src/node/qemu/guest-program.ts): more system calls, numbers as text, and other ends than
 * a panic.
 */
import { r14, r15, rax, rbx, rdi, rdx } from '../../src/asm/registers.ts';
import { drainConsole, exitInit, Guest } from '../../src/node/qemu/guest-program.ts';
import { emitHexDigits } from './hex-digits.ts';

/** Numbers of arch/x86/entry/syscalls/syscall_64.tbl. */
export const SYS = {
  read: 0,
  write: 1,
  pread64: 17,
  reboot: 169,
  sched_getaffinity: 204,
  finit_module: 313,
  kexec_file_load: 320,
} as const;
const LINUX_REBOOT_MAGIC1 = 0xfee1_dead;
const LINUX_REBOOT_MAGIC2 = 0x2812_1969;
const LINUX_REBOOT_CMD_RESTART = 0x0123_4567;
const LINUX_REBOOT_CMD_KEXEC = 0x4558_4543;

/** A program that can print numbers. */
export class TestGuest extends Guest {
  readonly putHex = this.a.label('put_hex');

  protected override emitSubroutines(): void {
    const { a } = this;
    a.bind(this.putHex);
    a.note('RDX as 16 digits');
    a.mov(rdi, r14);
    emitHexDigits(a, 16);
    a.mov(r14, rdi);
    a.ret();
    super.emitSubroutines();
  }
}

/**
 * How the guest ends. `restart`: QEMU has -no-reboot, and a machine without ACPI cannot be switched off. `panic`: /init exits, and the kernel then says its
 * slide in its own words. `kexec`: into the kernel that was loaded.
 */
export type GuestEnd = 'restart' | 'panic' | 'kexec';

export function copyToConsole(guest: Guest, path: string): void {
  const { a } = guest;
  const read = a.label(`${path}_read`);
  const done = a.label(`${path}_done`);
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

export function endMachine(guest: Guest, end: GuestEnd): void {
  drainConsole(guest);
  if (end !== 'panic') {
    const command = end === 'kexec' ? LINUX_REBOOT_CMD_KEXEC : LINUX_REBOOT_CMD_RESTART;
    guest.syscall(SYS.reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command);
  }
  exitInit(guest);
}
