/** Numbers as text, for programs without a library. */
import type { Assembler } from '../../asm/assembler.ts';
import { al, eax, ecx, edx, rdx } from '../../asm/registers.ts';

/** Writes EDX or RDX, which keeps its value, to where RDI points. Clobbers EAX and ECX. */
export function emitHexDigits(a: Assembler, digits: 8 | 16): void {
  const value = digits === 8 ? edx : rdx;
  const decimal = a.label('decimal');
  a.mov(ecx, digits);
  const digit = a.bind(a.label('digit'));
  a.rol(value, 4);
  a.mov(eax, edx);
  a.and(eax, 15);
  a.add(al, 0x30);
  a.cmp(al, 0x39);
  a.jbe(decimal);
  a.add(al, 0x61 - 0x3a);
  a.bind(decimal);
  a.stosb();
  a.dec(ecx);
  a.jnz(digit);
}
