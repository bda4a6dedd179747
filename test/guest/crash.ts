/**
 * Two guests for one machine. The first, on the kernel under test, has it load a crash kernel, prints what its vmcoreinfo note says, and dies. The
 * second, on the crash kernel that then takes over, prints the same note as the dead kernel left it.
 *
 *     kslide-guest: text=<address of _text, from /proc/kallsyms>
 *     kslide-guest: kexec=<what kexec_file_load returned>
 *     kslide-guest: notes of /proc/kcore                   and the notes as they are, VMCOREINFO among them
 *     kslide-guest: crash                                  the end of /init, which the kernel does not survive
 *     kslide-guest: notes of /proc/vmcore                  from here on it is the crash kernel
 *     kslide-guest: done
 */
import { mem, qword } from '../../src/asm/assembler.ts';
import { r10, r12, r13, r15, rax, rbx, rdx } from '../../src/asm/registers.ts';
import { MARKER } from '../../src/node/qemu/console.ts';
import {
  Guest,
  mount,
  openConsole,
  packProgram,
  reportText,
  silencePrintk,
} from '../../src/node/qemu/guest-program.ts';
import { endMachine, SYS } from './program.ts';

/** include/uapi/linux/kexec.h: a crash kernel, into the memory that `crashkernel=` keeps for it. */
const KEXEC_FILE_ON_CRASH = 2;
/** Elf64_Ehdr and Elf64_Phdr. /proc/kcore and /proc/vmcore have their PT_NOTE first. */
const ELF = { e_phoff: 32, p_offset: 8, p_filesz: 32 } as const;
const HEADERS = 0x1000;
const KERNEL = 'boot/vmlinuz';
const INITRD = 'boot/initrd';

export interface CrashKernel {
  /** A bzImage: the only kind that kexec_file_load takes. */
  readonly image: Uint8Array;
  readonly commandLine: string;
}

/** The initramfs of the first, with the crash kernel and the initramfs of the second in it. */
export function packCrashGuest({ image, commandLine }: CrashKernel): Uint8Array {
  return packProgram(assembleCrasher(commandLine), [
    { type: 'file', path: KERNEL, data: image },
    { type: 'file', path: INITRD, data: packProgram(assembleWitness()) },
  ]);
}

function assembleCrasher(commandLine: string): Uint8Array {
  const guest = begin();
  reportText(guest);
  const { a } = guest;
  guest.open(`/${KERNEL}`);
  a.mov(r12, rbx);
  guest.open(`/${INITRD}`);
  a.mov(r13, rbx);
  const text = guest.text(commandLine);
  guest.syscall(SYS.kexec_file_load, r12, r13, commandLine.length + 1, text, KEXEC_FILE_ON_CRASH);
  a.mov(r12, rax);
  guest.put(`${MARKER}kexec=`);
  a.mov(rdx, r12);
  a.call(guest.putHex);
  a.call(guest.endLine);
  printNotes(guest, '/proc/kcore');
  guest.put(`${MARKER}crash`);
  a.call(guest.endLine);
  endMachine(guest, 'panic');
  return guest.finish();
}

function assembleWitness(): Uint8Array {
  const guest = begin();
  printNotes(guest, '/proc/vmcore');
  guest.put(`${MARKER}done`);
  guest.a.call(guest.endLine);
  endMachine(guest, 'restart');
  return guest.finish();
}

function begin(): Guest {
  const guest = new Guest();
  openConsole(guest);
  mount(guest, 'proc', '/proc');
  silencePrintk(guest);
  return guest;
}

function printNotes(guest: Guest, path: string): void {
  const { a } = guest;
  const none = a.label(`${path}_none`);
  guest.put(`${MARKER}notes of ${path}`);
  a.call(guest.endLine);
  guest.open(path);
  guest.syscall(SYS.read, rbx, guest.buffer, HEADERS);
  a.test(rax, rax);
  a.jle(none);
  a.lea(r12, mem(guest.buffer));
  a.add(r12, qword(r12, ELF.e_phoff));
  a.mov(rdx, qword(r12, ELF.p_filesz));
  a.mov(r10, qword(r12, ELF.p_offset));
  guest.syscall(SYS.pread64, rbx, guest.buffer);
  a.test(rax, rax);
  a.jle(none);
  a.mov(rdx, rax);
  guest.syscall(SYS.write, r15, guest.buffer);
  a.bind(none);
}
