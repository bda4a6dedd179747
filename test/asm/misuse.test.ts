/** Every mistake that the assembler detects, with its whole message. What the types refuse as well is marked `@ts-expect-error`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Assembler, AssemblyError, byte, dword, mem, qword, word } from '../../src/asm/assembler.ts';
import type { Scale } from '../../src/asm/operands.ts';
import {
  al,
  ax,
  bl,
  cr0,
  ds,
  dx,
  eax,
  ebp,
  ebx,
  ecx,
  r12,
  r8d,
  rax,
  rbx,
  rcx,
  rsi,
  rsp,
  sil,
  spl,
} from '../../src/asm/registers.ts';

function refuses(write: (a: Assembler) => void, message: string, bits: 32 | 64 = 64): void {
  const a = new Assembler({ bits });
  assert.throws(
    () => {
      write(a);
      a.assemble();
    },
    (error) => {
      assert(error instanceof AssemblyError, String(error));
      assert.equal(error.message, message);
      return true;
    },
  );
}

test('operands of different width', () => {
  refuses(
    // @ts-expect-error: 64 and 32 bits
    (a) => a.mov(rax, ebx),
    'mov: rax (64 bits) and ebx (32 bits) differ in width; take the register of the same width, or movzx first',
  );
  refuses(
    (a) => a.add(qword(rax), ebx),
    'add: memory (64 bits) and ebx (32 bits) differ in width; take the register of the same width, or movzx first',
  );
  refuses(
    // @ts-expect-error: 8 and 64 bits
    (a) => a.test(al, rbx),
    'test: al (8 bits) and rbx (64 bits) differ in width; take the register of the same width, or movzx first',
  );
  refuses(
    (a) => a.inc(mem(rax)),
    'inc: mem(…) is an address without a size; use byte(…), word(…), dword(…) or qword(…)',
  );
  refuses(
    (a) => a.mov(rax, mem(rbx)),
    'mov: mem(…) is an address without a size; use byte(…), word(…), dword(…) or qword(…)',
  );
});

test('forms that an instruction does not have', () => {
  refuses((a) => a.mov(qword(rax), qword(rbx)), 'mov: two memory operands; load one into a register first');
  refuses((a) => a.xor(qword(rax), qword(rbx)), 'xor: two memory operands; load one into a register first');
  refuses((a) => a.test(qword(rax), qword(rbx)), 'test: two memory operands; load one into a register first');
  refuses((a) => a.imul(al, bl), 'imul: has no 8-bit form; use the 32-bit register');
  refuses((a) => a.imul(qword(rax) as never, rbx), 'imul: the destination of two or three operands is a register');
  refuses((a) => a.bsf(al, bl), 'bsf: has no 8-bit form; use the 32-bit register');
  refuses((a) => a.blsr(r12, rax), 'blsr: only in 64-bit code and between registers below r8, not r12, rax');
  refuses((a) => a.bt(al, 3), 'bt: has no 8-bit form; use the 32-bit register');
  refuses((a) => a.lea(rax, qword(rbx)), 'lea: reads no memory, so its operand has no size; write mem(…)');
  refuses((a) => a.lgdt(qword(rbx)), 'lgdt: knows the size of its operand itself; write mem(…)');
  refuses(
    // @ts-expect-error: a 64-bit source is already whole
    (a) => a.movzx(rax, ecx),
    'movzx: the source is 8 or 16 bits; for 32 use mov to a 32-bit register, which clears the upper half',
  );
  refuses((a) => a.movzx(ax, word(rcx)), 'movzx: ax is not wider than the source; use mov');
  refuses((a) => a.out(0x3f8, al), 'out: port 0x3f8 does not fit 8 bits; mov it to dx');
  refuses((a) => a.out(ax, al), 'out: the port is dx or a number, not ax');
  refuses((a) => a.in(bl, dx), 'in: the data is in al, ax or eax, not bl');
  refuses((a) => a.push(dword(rax)), 'push: in 64-bit code the operand is a 64-bit register or qword(…)');
  refuses(
    // @ts-expect-error: 16 bits
    (a) => a.pop(ax),
    'pop: in 64-bit code the operand is a 64-bit register or qword(…)',
  );
  refuses((a) => a.jmp(eax), 'jmp: in 64-bit code the target is a label, a 64-bit register or qword(…)');
  refuses((a) => a.call(dword(rax)), 'call: in 64-bit code the target is a label, a 64-bit register or qword(…)');
});

test('control and segment registers', () => {
  refuses((a) => a.mov(cr0, eax), 'mov: in 64-bit code cr0 is moved to and from a 64-bit register');
  refuses(
    // @ts-expect-error: no immediate
    (a) => a.mov(cr0, 1),
    'mov: cr0 takes no immediate; mov it to a general-purpose register first',
  );
  refuses(
    // @ts-expect-error: no immediate
    (a) => a.mov(ds, 0x18),
    'mov: ds takes no immediate; mov it to a general-purpose register first',
  );
  refuses((a) => a.mov(ds, qword(rax)), 'mov: ds is moved to and from word(…) or a register of 16, 32 or 64 bits');
  refuses(
    // @ts-expect-error: 8 bits
    (a) => a.mov(al, ds),
    'mov: ds is moved to and from word(…) or a register of 16, 32 or 64 bits',
  );
});

test('immediates that do not fit', () => {
  refuses((a) => a.mov(al, 256), 'mov: 0x100 does not fit 8 bits');
  refuses((a) => a.mov(al, -129), 'mov: -0x81 does not fit 8 bits');
  refuses((a) => a.mov(rax, 2n ** 64n), 'mov: 0x10000000000000000 does not fit 64 bits');
  refuses((a) => a.mov(rax, 2 ** 53), 'mov: 9007199254740992 is not an exact integer; write large values as bigint');
  refuses((a) => a.mov(eax, 0.5), 'mov: 0.5 is not an exact integer; write large values as bigint');
  refuses(
    (a) => a.mov(qword(rax), 0x8000_0000),
    'mov: 0x80000000 is not a sign-extended 32-bit immediate; mov it to a register first',
  );
  refuses(
    (a) => a.and(rax, 0xffff_ffff),
    'and: 0xffffffff is not a sign-extended 32-bit immediate; mov it to a register first',
  );
  refuses(
    (a) => a.push(0xffff_ffff),
    'push: 0xffffffff is not a sign-extended 32-bit immediate; mov it to a register first',
  );
  refuses((a) => a.shl(eax, 32), 'shl: 32 is not between 0 and 31');
  refuses((a) => a.bts(eax, -1), 'bts: -1 is not between 0 and 31');
  refuses((a) => a.add(ax, a.labelAt('here', 0)), "add: the address of label 'here' does not fit 16 bits");
});

test('addresses', () => {
  refuses(
    (a) => a.mov(rax, qword(rbx, rsp, 1)),
    'rsp cannot be an index (SIB.index 100b means none); make it the base and index the other one',
  );
  refuses((a) => a.mov(rax, qword(rbx, rcx, 3 as Scale)), 'scale 3: an index is scaled by 1, 2, 4 or 8');
  refuses(
    // @ts-expect-error: two widths
    (a) => a.mov(rax, qword(bl)),
    'an address is made of 64-bit or 32-bit registers, not bl',
  );
  refuses((a) => a.mov(rax, qword(rbx, ecx, 1)), 'rbx and ecx in one address: base and index have the same width');
  refuses((a) => a.mov(eax, dword(ebx)), 'mov: 64-bit code has 64-bit addresses, so ebx cannot be in one');
  refuses(
    (a) => a.mov(rax, qword(rbx, 2 ** 32)),
    'displacement 0x100000000 does not fit 32 bits; add it to a register first',
  );
  refuses(
    (a) => a.mov(rax, qword(rbx, 0x8000_0000)),
    'mov: displacement 0x80000000 would be sign-extended to 64 bits; it ends at 0x7fffffff',
  );
  refuses(
    (a) => a.mov(rax, qword(null as never)),
    'no base and no index: write an absolute address as one number, dword(0x1000)',
  );
});

test('what 32-bit code does not have', () => {
  refuses((a) => a.mov(eax, r8d), 'mov: r8d exists in 64-bit mode only, and this code is 32-bit', 32);
  refuses((a) => a.mov(rax, rbx), 'mov: rbx exists in 64-bit mode only, and this code is 32-bit', 32);
  refuses((a) => a.mov(al, sil), 'mov: sil exists in 64-bit mode only, and this code is 32-bit', 32);
  refuses((a) => a.mov(byte(ebp), spl), 'mov: spl exists in 64-bit mode only, and this code is 32-bit', 32);
  refuses((a) => a.mov(eax, dword(rsi)), 'mov: 32-bit code has 32-bit addresses, so rsi cannot be in one', 32);
  refuses((a) => a.mov(qword(ebp), 1), 'mov: 64-bit operands exist in 64-bit mode only', 32);
  refuses((a) => a.rep.movsq(), 'rep movs: 64-bit operands exist in 64-bit mode only', 32);
  refuses((a) => a.iretq(), 'iretq: this form exists in 64-bit code only, and this code is 32-bit', 32);
  refuses(
    (a) => a.mov(eax, dword(a.labelAt('data', 8))),
    "mov: the absolute address of label 'data' is not known; give the Assembler an origin, or address it from a register that holds the first byte, dword(ebp, label)",
    32,
  );
  refuses(
    (a) => a.ljmp(0x10, a.labelAt('long', 8)),
    "jmp: the absolute address of label 'long' is not known; give the Assembler an origin, or address it from a register that holds the first byte, dword(ebp, label)",
    32,
  );
  refuses((a) => a.ljmp(0x1_0000, 0), 'ljmp: selector 0x10000 does not fit 16 bits', 32);
  refuses((a) => a.ljmp(0x10, 0), 'ljmp: 64-bit mode has no jmp ptr16:32; push the frame that iretq pops, then iretq');
});

test('labels', () => {
  refuses((a) => {
    a.zero(16);
    a.jmp(a.label('nowhere'));
  }, "label 'nowhere' was never bound, but used at offset 0x10; call bind(label) where it belongs");
  refuses((a) => {
    a.zero(3);
    a.mov(rax, qword(a.label('nowhere')));
  }, "label 'nowhere' was never bound, but used at offset 0x3; call bind(label) where it belongs");
  refuses((a) => a.offsetOf(a.label('nowhere')), "label 'nowhere' was never bound; call bind(label) where it belongs");
  refuses((a) => {
    const twice = a.bind(a.label('twice'));
    a.bind(twice);
  }, "label 'twice' is bound already; a second place needs a second label");
  refuses((a) => a.bind(a.labelAt('fixed', 8)), "label 'fixed' is bound already; a second place needs a second label");
  refuses((a) => {
    a.label('same');
    a.label('same');
  }, "label 'same' exists already; names are unique in a program");
  refuses(
    (a) => a.jmp(new Assembler().label('foreign')),
    "label 'foreign' is from another Assembler; make it with this one's label()",
  );
  refuses(
    (a) => a.lea(rax, mem(new Assembler().label('foreign'))),
    "label 'foreign' is from another Assembler; make it with this one's label()",
  );
  refuses((a) => a.labelAt('half', 0.5), "label 'half': offset 0.5 is not an integer");
  refuses((a) => {
    a.cli();
    a.jmp(a.labelAt('far', 2 ** 31 + 6));
  }, "jmp at offset 0x1: reaching label 'far' takes 0x80000000, which does not fit 32 bits");
  refuses(
    (a) => a.lea(rax, mem(a.labelAt('far', -(2 ** 31)))),
    "lea at offset 0x0: reaching label 'far' takes -0x80000007, which does not fit 32 bits",
  );
});

test('steps', () => {
  refuses((a) => {
    a.step('first');
    a.step('second');
  }, "step 'second': step 'first' has no instruction yet");
  refuses((a) => {
    a.step('same');
    a.cli();
    a.step('same');
  }, "step 'same' exists already; names are unique in a program");
  refuses((a) => {
    a.cli();
    a.step('last');
  }, "step 'last' has no instruction yet; no code follows it");
});

test('data', () => {
  refuses((a) => a.db([0, 256]), 'db: 0x100 does not fit 8 bits');
  refuses((a) => a.dq(-(2n ** 63n) - 1n), 'dq: -0x8000000000000001 does not fit 64 bits');
  refuses((a) => a.zero(-1), 'zero: -1 is not a number of bytes');
  refuses((a) => a.align(0), 'align: 0 is not a positive integer');
  refuses((a) => a.align(16, 256), 'align: 0x100 does not fit 8 bits');
});
