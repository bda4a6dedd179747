/**
 * A guest that boots into another kernel: it loads a bzImage with kexec_file_load, says what that returned, and goes. What the second kernel's
 * initramfs is, is for the caller to say.
 *
 *     kslide-guest: kexec=<what kexec_file_load returned>
 */
import { r12, r13, rax, rbx, rdx } from '../../src/asm/registers.ts';
import { MARKER } from '../../src/node/qemu/console.ts';
import { Guest, mount, openConsole, packProgram, silencePrintk } from '../../src/node/qemu/guest-program.ts';
import { endMachine, SYS } from './program.ts';

const KERNEL = 'boot/vmlinuz';
const INITRD = 'boot/initrd';

export interface NextKernel {
  readonly image: Uint8Array;
  readonly initrd: Uint8Array;
  readonly commandLine: string;
}

/** The initramfs of the first kernel, with the second and its initramfs in it. */
export function packKexecGuest({ image, initrd, commandLine }: NextKernel): Uint8Array {
  const guest = new Guest();
  const { a } = guest;
  openConsole(guest);
  mount(guest, 'proc', '/proc');
  silencePrintk(guest);
  guest.open(`/${KERNEL}`);
  a.mov(r12, rbx);
  guest.open(`/${INITRD}`);
  a.mov(r13, rbx);
  guest.syscall(SYS.kexec_file_load, r12, r13, commandLine.length + 1, guest.text(commandLine), 0);
  a.mov(r12, rax);
  guest.put(`${MARKER}kexec=`);
  a.mov(rdx, r12);
  a.call(guest.putHex);
  a.call(guest.endLine);
  endMachine(guest, 'kexec');
  return packProgram(guest.finish(), [
    { type: 'file', path: KERNEL, data: image },
    { type: 'file', path: INITRD, data: initrd },
  ]);
}
