/**
 * An initramfs whose /init only prints that it runs. Boots are measured to its first instruction.
 *
 * It is assembled here, so that no compiler is needed. Under TCG the guest is stopped at that instruction and goes no further. Under KVM it prints
 * a line and waits to be killed.
 */
import { Assembler, mem } from '../../asm/assembler.ts';
import { eax, edi, edx, rsi } from '../../asm/registers.ts';
import { ascii } from '../../base/bytes.ts';
import { MARKER } from '../../node/qemu/console.ts';
import { buildElf } from '../../node/qemu/elf-executable.ts';
import { packInitramfs } from '../../node/qemu/initramfs.ts';

/** The address of /init's first instruction: the same in every boot, because /init is a static executable. */
export const INIT_ENTRY = 0x40_0000;
/** The line that /init prints; node/qemu/console.ts defines the marker. */
export const INIT_SAYS = `${MARKER}done`;

/** Numbers of arch/x86/entry/syscalls/syscall_64.tbl. */
const SYS = { write: 1, pause: 34 } as const;
const STDOUT = 1;

export function packBenchInit(): Uint8Array {
  return packInitramfs([
    { type: 'file', path: 'init', data: assembleBenchInit(), mode: 0o755 },
    { type: 'character-device', path: 'dev/console', major: 5, minor: 1 },
  ]);
}

function assembleBenchInit(): Uint8Array {
  const a = new Assembler({ origin: INIT_ENTRY });
  const line = a.label('line');
  const says = ascii(`${INIT_SAYS}\n`);
  const syscall = (number: number): void => {
    a.mov(eax, number);
    a.db([0x0f, 0x05]);
  };
  a.mov(edi, STDOUT);
  a.lea(rsi, mem(line));
  a.mov(edx, says.length);
  syscall(SYS.write);
  const wait = a.bind(a.label('wait'));
  syscall(SYS.pause);
  a.jmp(wait);
  a.bind(line);
  a.db(says);
  const { code } = a.assemble();
  return buildElf({ entry: INIT_ENTRY, segments: [{ address: INIT_ENTRY, bytes: code, memsz: code.length }] });
}
