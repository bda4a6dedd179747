/**
 * The guest's /init: prints what the host wants to know about the kernel that it runs on, then ends.
 *
 * Assembled here, with kslide's own assembler, rather than compiled: the demo and the tests then need no compiler and no binary in the
 * repository, and the program is a few system calls and two loops. It decides nothing: numbers go out as they are, 16 hex digits each, and
 * the console parser (src/node/qemu/console.ts) makes sense of them.
 *
 *     kslide-guest: text=<address of _text, from /proc/kallsyms>
 *     kslide-guest: kcore <p_vaddr> <p_memsz>              for each PT_LOAD of /proc/kcore
 *     kslide-guest: cpus=<affinity mask>
 *     kslide-guest: module=<what finit_module returned>    for each module
 *     (/proc/modules and /proc/iomem as they are)
 *     kslide-guest: done
 */
import { dword, mem, qword, word } from '../../src/asm/assembler.ts';
import { ecx, r12, rax, rbp, rbx, rcx, rdx } from '../../src/asm/registers.ts';
import { PT_LOAD } from '../../src/elf/constants.ts';
import { PHDR_SIZE } from '../../src/elf/fields.ts';
import { MARKER } from '../../src/node/qemu/console.ts';
import {
  copyToConsole,
  Guest,
  mount,
  openConsole,
  packProgram,
  reportText,
  silencePrintk,
} from '../../src/node/qemu/guest-program.ts';
import { endMachine, SYS } from './program.ts';
import type { GuestEnd } from './program.ts';

export interface GuestModule {
  /** File name: the ending says whether the kernel has to decompress it. */
  readonly name: string;
  readonly data: Uint8Array;
}

const MODULE_INIT_COMPRESSED_FILE = 4;
/** Elf64_Ehdr and Elf64_Phdr, as /proc/kcore begins with them. */
const ELF = { e_phoff: 32, e_phnum: 56, p_vaddr: 16, p_memsz: 40 } as const;

/** The static ELF executable; `modules` are paths in the initramfs. */
export function assembleInit(modules: readonly string[], end: GuestEnd): Uint8Array {
  const guest = new Guest();
  openConsole(guest);
  mount(guest, 'proc', '/proc');
  silencePrintk(guest);
  reportText(guest);
  reportKcore(guest);
  reportCpus(guest);
  for (const path of modules) loadModule(guest, path);
  copyToConsole(guest, '/proc/modules');
  copyToConsole(guest, '/proc/iomem');
  guest.put(`${MARKER}done`);
  guest.a.call(guest.endLine);
  endMachine(guest, end);
  return guest.finish();
}

/** The whole initramfs. */
export function packGuest(modules: readonly GuestModule[] = [], end: GuestEnd = 'restart'): Uint8Array {
  const paths = modules.map(({ name }) => `lib/${name}`);
  const init = assembleInit(
    paths.map((path) => `/${path}`),
    end,
  );
  return packProgram(
    init,
    modules.map(({ data }, i) => ({ type: 'file', path: paths[i] ?? '', data })),
  );
}

function reportKcore(guest: Guest): void {
  const { a } = guest;
  const loop = a.label('kcore_header');
  const next = a.label('kcore_next');
  const done = a.label('kcore_done');
  guest.open('/proc/kcore');
  guest.syscall(SYS.read, rbx, guest.buffer, 0x1000);
  a.test(rax, rax);
  a.jle(done);
  a.note('R12: program header; EBP: how many more');
  a.lea(r12, mem(guest.buffer));
  a.movzx(ecx, word(r12, ELF.e_phnum));
  a.mov(rbp, rcx);
  a.add(r12, qword(r12, ELF.e_phoff));
  a.bind(loop);
  a.dec(rbp);
  a.js(done);
  a.note('not PT_LOAD: the notes');
  a.cmp(dword(r12), PT_LOAD);
  a.jne(next);
  guest.put(`${MARKER}kcore `);
  a.mov(rdx, qword(r12, ELF.p_vaddr));
  a.call(guest.putHex);
  guest.put(' ');
  a.mov(rdx, qword(r12, ELF.p_memsz));
  a.call(guest.putHex);
  a.call(guest.endLine);
  a.bind(next);
  a.add(r12, PHDR_SIZE[64]);
  a.jmp(loop);
  a.bind(done);
}

function reportCpus(guest: Guest): void {
  const { a } = guest;
  guest.syscall(SYS.sched_getaffinity, 0, 0x400, guest.buffer);
  guest.put(`${MARKER}cpus=`);
  a.mov(rdx, qword(guest.buffer));
  a.call(guest.putHex);
  a.call(guest.endLine);
}

function loadModule(guest: Guest, path: string): void {
  const { a } = guest;
  guest.open(path);
  guest.syscall(SYS.finit_module, rbx, guest.text(''), path.endsWith('.ko') ? 0 : MODULE_INIT_COMPRESSED_FILE);
  a.mov(r12, rax);
  guest.put(`${MARKER}module=`);
  a.mov(rdx, r12);
  a.call(guest.putHex);
  a.call(guest.endLine);
}
