/**
 * What the guest programs of tests add to those of kslide itself (src/node/qemu/guest-program.ts): more system calls, and other ends than a panic.
 */
import { drainConsole, exitInit } from '../../src/node/qemu/guest-program.ts';
import type { Guest } from '../../src/node/qemu/guest-program.ts';

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

/**
 * How the guest ends. `restart`: QEMU has -no-reboot, and a machine without ACPI cannot be switched off. `panic`: /init exits, and the kernel then says its
 * slide in its own words. `kexec`: into the kernel that was loaded.
 */
export type GuestEnd = 'restart' | 'panic' | 'kexec';

export function endMachine(guest: Guest, end: GuestEnd): void {
  drainConsole(guest);
  if (end !== 'panic') {
    const command = end === 'kexec' ? LINUX_REBOOT_CMD_KEXEC : LINUX_REBOOT_CMD_RESTART;
    guest.syscall(SYS.reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command);
  }
  exitInit(guest);
}
