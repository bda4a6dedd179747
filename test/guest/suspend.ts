/**
 * A guest that suspends to RAM for two seconds, by the alarm of its real-time clock, and says where it is before and after.
 *
 *     kslide-guest: text=<address of _text, from /proc/kallsyms>
 *     kslide-guest: suspend=<what write() to /sys/power/state returned: 3>
 *     (/proc/modules and /proc/iomem as they are, read after the sleep)
 *     kslide-guest: done
 */
import { r12, rax, rbx, rdx } from '../../src/asm/registers.ts';
import { MARKER } from '../../src/node/qemu/console.ts';
import {
  copyToConsole,
  drainConsole,
  Guest,
  mount,
  O_RDWR_NOCTTY,
  openConsole,
  packProgram,
  reportText,
} from '../../src/node/qemu/guest-program.ts';
import { endMachine, SYS } from './program.ts';

export function packSuspendGuest(): Uint8Array {
  const guest = new Guest();
  const { a } = guest;
  openConsole(guest);
  mount(guest, 'proc', '/proc');
  mount(guest, 'sysfs', '/sys');
  reportText(guest);
  drainConsole(guest);
  const write = (path: string, text: string): void => {
    guest.open(path, O_RDWR_NOCTTY);
    guest.syscall(SYS.write, rbx, guest.text(text), text.length);
    a.mov(r12, rax);
  };
  write('/sys/class/rtc/rtc0/wakealarm', '+2');
  write('/sys/power/state', 'mem');
  guest.put(`${MARKER}suspend=`);
  a.mov(rdx, r12);
  a.call(guest.putHex);
  a.call(guest.endLine);
  copyToConsole(guest, '/proc/modules');
  copyToConsole(guest, '/proc/iomem');
  guest.put(`${MARKER}done`);
  a.call(guest.endLine);
  endMachine(guest, 'restart');
  return packProgram(guest.finish(), [{ type: 'directory', path: 'sys' }]);
}
