/**
 * Whether to randomize at all.
 *
 * Not if KASLR_FLAG is set: then the decompressor, or a host tool, has moved the kernel already. (The parameters can say that this kernel's
 * decompressor moves it only physically; then the flag is ignored.)
 *
 * Not if the command line holds the word `nokaslr`, found as cmdline_find_option_bool() in arch/x86/boot/cmdline.c finds it: any character
 * up to the space ends a word, and quotes mean nothing. As in the decompressor, the search ends after 64 KiB even without a NUL.
 */
import type { Assembler } from '../asm/assembler.ts';
import { byte, dword } from '../asm/operands.ts';
import { al, eax, ecx, esi, r12, r15, r8, r8d, rax, rdx, rsi } from '../asm/registers.ts';
import { BOOT_PARAMS, KASLR_FLAG } from '../base/boot-params.ts';
import { PARAMS, STUB_FLAGS } from '../segment/layout.ts';
import type { StubLabels } from './labels.ts';
import { emitGuard, emitGuardEnd } from './traps.ts';

/** "nokaslr", each character shifted in after the one before. A longer word leaves a character in the byte above. */
const NOKASLR = 0x00_6e6f_6b61_736c_72n;
const LIMIT = 0x1_0000;

export function emitCmdline(a: Assembler, labels: StubLabels): void {
  const nextWord = a.label('next_word');
  const nextChar = a.label('next_char');
  const endOfWord = a.label('end_of_word');
  const absent = a.label('nokaslr_absent');

  const notRandomized = a.label('not_randomized');
  a.note('already randomized?');
  a.test(byte(r12, BOOT_PARAMS.loadflags), KASLR_FLAG);
  a.jz(notRandomized);
  a.test(byte(r15, PARAMS.flags), STUB_FLAGS.despite_kaslr_flag);
  a.jz(labels.leave);
  a.bind(notRandomized);

  a.note('nokaslr?');
  a.mov(eax, dword(r12, BOOT_PARAMS.ext_cmd_line_ptr));
  a.mov(esi, dword(r12, BOOT_PARAMS.cmd_line_ptr));
  a.shl(rax, 32);
  a.or(rsi, rax);
  a.jz(absent);
  emitGuard(a, absent);
  a.mov(rdx, NOKASLR);
  a.mov(ecx, LIMIT);
  a.bind(nextWord);
  a.xor(r8d, r8d);
  a.bind(nextChar);
  a.movzx(eax, byte(rsi));
  a.inc(rsi);
  a.cmp(al, 0x20);
  a.jbe(endOfWord);
  a.shl(r8, 8);
  a.or(r8, rax);
  a.dec(ecx);
  a.jnz(nextChar);
  a.jmp(absent);
  a.bind(endOfWord);
  a.cmp(r8, rdx);
  a.je(labels.leave);
  a.test(al, al);
  a.jz(absent);
  a.dec(ecx);
  a.jnz(nextWord);
  a.bind(absent);
  emitGuardEnd(a);
}
