/**
 * Every method of the Assembler, with the text that it must mean, written by hand as objdump prints it.
 *
 * Four sources agree on each row: the table, our listing (made from operands), objdump and iced (from bytes). GNU as makes the same
 * bytes from the text, except where `asDiffers` gives the reason.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Assembler, byte, dword, mem, qword, word } from '../../src/asm/assembler.ts';
import {
  al,
  ax,
  bl,
  bp,
  bpl,
  bx,
  cr0,
  cr2,
  cr3,
  cr4,
  cs,
  cx,
  di,
  dil,
  ds,
  dx,
  eax,
  ebp,
  ebx,
  ecx,
  edi,
  edx,
  es,
  esi,
  esp,
  fs,
  gs,
  r10,
  r10d,
  r12,
  r12w,
  r13,
  r14,
  r15,
  r15b,
  r15d,
  r8,
  r8b,
  r8d,
  r9,
  r9d,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  sil,
  spl,
  ss,
} from '../../src/asm/registers.ts';
import { asIced, gnuAs, hexOf, iced, objdump } from './judges.ts';

interface Row {
  readonly text: string;
  readonly write: (a: Assembler) => void;
  /** Why GNU as makes other bytes. */
  readonly asDiffers?: string;
}

const row = (text: string, write: (a: Assembler) => void, asDiffers?: string): Row =>
  asDiffers === undefined ? { text, write } : { text, write, asDiffers };

const CODE_64: Row[] = [
  row('mov    rax,rbx', (a) => a.mov(rax, rbx)),
  row('mov    r15,r8', (a) => a.mov(r15, r8)),
  row('mov    eax,r9d', (a) => a.mov(eax, r9d)),
  row('mov    ax,bx', (a) => a.mov(ax, bx)),
  row('mov    al,sil', (a) => a.mov(al, sil)),
  row('mov    dil,r15b', (a) => a.mov(dil, r15b)),
  row('mov    eax,0x5', (a) => a.mov(eax, 5)),
  row('mov    eax,0x5', (a) => a.mov(rax, 5)),
  row('mov    r15d,0xffffffff', (a) => a.mov(r15, 0xffff_ffff)),
  row('mov    rax,0xfffffffffffffffb', (a) => a.mov(rax, -5)),
  row('mov    rax,0xffffffff80000000', (a) => a.mov(rax, 0xffff_ffff_8000_0000n)),
  row('movabs rax,0x1122334455667788', (a) => a.mov(rax, 0x1122334455667788n)),
  row('movabs r13,0x100000000', (a) => a.mov(r13, 0x1_0000_0000)),
  row('movabs rcx,0xffffffff7fffffff', (a) => a.mov(rcx, -0x8000_0001)),
  row('mov    ax,0xfffe', (a) => a.mov(ax, -2)),
  row('mov    r12w,0x1234', (a) => a.mov(r12w, 0x1234)),
  row('mov    spl,0xff', (a) => a.mov(spl, 255)),
  row('mov    al,0x80', (a) => a.mov(al, -128)),
  row('mov    QWORD PTR [rdi+0x8],rax', (a) => a.mov(qword(rdi, 8), rax)),
  row('mov    DWORD PTR [rsp],r10d', (a) => a.mov(dword(rsp), r10d)),
  row('mov    WORD PTR [rbp+0x0],cx', (a) => a.mov(word(rbp), cx)),
  row('mov    BYTE PTR [r13+0x0],bpl', (a) => a.mov(byte(r13), bpl)),
  row('mov    rbx,QWORD PTR [r12]', (a) => a.mov(rbx, qword(r12))),
  row('mov    al,BYTE PTR [rsi+rcx*1+0x211]', (a) => a.mov(al, byte(rsi, rcx, 1, 0x211))),
  row('mov    r8,QWORD PTR [r13+r14*8-0x80]', (a) => a.mov(r8, qword(r13, r14, 8, -128))),
  row('mov    r8,QWORD PTR [r13+r14*8-0x81]', (a) => a.mov(r8, qword(r13, r14, 8, -129))),
  row('mov    ecx,DWORD PTR [rsp+rbp*2+0x7f]', (a) => a.mov(ecx, dword(rsp, rbp, 2, 127))),
  row('mov    ecx,DWORD PTR [rsp+r12*4+0x80]', (a) => a.mov(ecx, dword(rsp, r12, 4, 128))),
  row('mov    ecx,DWORD PTR [rcx*4+0x0]', (a) => a.mov(ecx, dword(null, rcx, 4))),
  row('mov    ecx,DWORD PTR [r12*8-0x10]', (a) => a.mov(ecx, dword(null, r12, 8, -16))),
  row('mov    rax,QWORD PTR ds:0x10', (a) => a.mov(rax, qword(0x10))),
  row('mov    rax,QWORD PTR ds:0xfffffffffffffff0', (a) => a.mov(rax, qword(-16))),
  row('mov    rax,QWORD PTR [rip+0x0]', (a) => a.mov(rax, qword(a.labelAt('x', 7)))),
  row('mov    QWORD PTR [rip+0x10],0x1', (a) => a.mov(qword(a.labelAt('x', 11), 16), 1)),
  row('mov    BYTE PTR [rip+0xfffffffffffffef9],r8b', (a) => a.mov(byte(a.labelAt('x', -0x100)), r8b)),
  row('lea    rbx,[rip+0x7fffffff]', (a) => a.lea(rbx, mem(a.labelAt('x', 0x8000_0006)))),
  row('mov    eax,DWORD PTR [rbp+0x100]', (a) => a.mov(eax, dword(rbp, a.labelAt('x', 0x100)))),
  row('mov    eax,DWORD PTR [rbp+0x8]', (a) => a.mov(eax, dword(rbp, a.labelAt('x', 0), 8)), 'a label takes disp32'),
  row('add    ebp,0x100', (a) => a.add(ebp, a.labelAt('x', 0x100))),
  row('mov    esi,0x100', (a) => a.mov(esi, a.labelAt('x', 0x100))),
  row('mov    rsi,0x100', (a) => a.mov(rsi, a.labelAt('x', 0x100))),
  row('mov    QWORD PTR [rdi+0x8],0xfffffffffffffffe', (a) => a.mov(qword(rdi, 8), -2)),
  row('mov    DWORD PTR [r9],0x80000000', (a) => a.mov(dword(r9), 0x8000_0000)),
  row('mov    WORD PTR [rax],0x1', (a) => a.mov(word(rax), 1)),
  row('mov    BYTE PTR [rsi+rcx*1+0x211],0x2', (a) => a.mov(byte(rsi, rcx, 1, 0x211), 2)),
  row('mov    cr0,rax', (a) => a.mov(cr0, rax)),
  row('mov    cr3,r15', (a) => a.mov(cr3, r15)),
  row('mov    rdx,cr2', (a) => a.mov(rdx, cr2)),
  row('mov    r8,cr4', (a) => a.mov(r8, cr4)),
  row('mov    ds,eax', (a) => a.mov(ds, eax)),
  row('mov    ss,eax', (a) => a.mov(ss, ax)),
  row('mov    es,r8d', (a) => a.mov(es, r8)),
  row('mov    fs,WORD PTR [rdi]', (a) => a.mov(fs, word(rdi))),
  row('mov    eax,cs', (a) => a.mov(eax, cs)),
  row('mov    eax,gs', (a) => a.mov(rax, gs)),
  row('mov    ax,ds', (a) => a.mov(ax, ds)),
  row('mov    WORD PTR [r10],ss', (a) => a.mov(word(r10), ss)),

  row('movzx  eax,BYTE PTR [rax]', (a) => a.movzx(eax, byte(rax))),
  row('movzx  eax,sil', (a) => a.movzx(eax, sil)),
  row('movzx  r8,r12w', (a) => a.movzx(r8, r12w)),
  row('movzx  ax,bl', (a) => a.movzx(ax, bl)),
  row('lea    rax,[rbx+rcx*8+0x12345]', (a) => a.lea(rax, mem(rbx, rcx, 8, 0x12345))),
  row('lea    r9d,[rsp-0x8]', (a) => a.lea(r9d, mem(rsp, -8))),
  row('push   rax', (a) => a.push(rax)),
  row('push   r12', (a) => a.push(r12)),
  row('push   0x5', (a) => a.push(5)),
  row('push   0x80', (a) => a.push(0x80)),
  row('push   0xffffffffffffff80', (a) => a.push(-0x80)),
  row('push   0xffffffff80000000', (a) => a.push(0xffff_ffff_8000_0000n)),
  row('push   QWORD PTR [rbx+0x10]', (a) => a.push(qword(rbx, 16))),
  row('pop    r13', (a) => a.pop(r13)),
  row('pop    QWORD PTR [r12]', (a) => a.pop(qword(r12))),
  row('pushf', (a) => a.pushfq()),
  row('popf', (a) => a.popfq()),

  row('add    rax,rbx', (a) => a.add(rax, rbx)),
  row('add    rax,0x7f', (a) => a.add(rax, 127)),
  row('add    rax,0x80', (a) => a.add(rax, 128)),
  row('add    rcx,0x80', (a) => a.add(rcx, 128)),
  row('add    al,0xff', (a) => a.add(al, -1)),
  row('add    bl,0x5', (a) => a.add(bl, 5)),
  row('add    ax,0x1234', (a) => a.add(ax, 0x1234)),
  row('add    r12w,0xffff', (a) => a.add(r12w, 0xffff)),
  row('add    QWORD PTR [rdi+rax*8],rbx', (a) => a.add(qword(rdi, rax, 8), rbx)),
  row('add    r8b,BYTE PTR [rsi]', (a) => a.add(r8b, byte(rsi))),
  row('add    DWORD PTR [rdi],0xffffffff', (a) => a.add(dword(rdi), 0xffff_ffff)),
  row('or     r15d,DWORD PTR [r14]', (a) => a.or(r15d, dword(r14))),
  row('or     QWORD PTR [rax],0x12345', (a) => a.or(qword(rax), 0x12345)),
  row('and    eax,0xfffffff0', (a) => a.and(eax, 0xffff_fff0)),
  row('and    rax,0xffffffff80000000', (a) => a.and(rax, 0xffff_ffff_8000_0000n)),
  row('and    rdi,0xffffffffffe00000', (a) => a.and(rdi, -0x20_0000)),
  row('sub    rsp,0x28', (a) => a.sub(rsp, 0x28)),
  row('xor    r9d,r9d', (a) => a.xor(r9d, r9d)),
  row('cmp    WORD PTR [rax],0xffff', (a) => a.cmp(word(rax), -1)),
  row('cmp    BYTE PTR [rsi+rcx*1],0x20', (a) => a.cmp(byte(rsi, rcx, 1), 0x20)),
  row('test   rax,rcx', (a) => a.test(rax, rcx)),
  row('test   BYTE PTR [rdi],sil', (a) => a.test(sil, byte(rdi))),
  row('test   al,0x80', (a) => a.test(al, 0x80)),
  row('test   rax,0xfffffffffffffffb', (a) => a.test(rax, -5)),
  row('test   r8d,0x100', (a) => a.test(r8d, 0x100)),
  row('test   BYTE PTR [rsi+0x211],0x2', (a) => a.test(byte(rsi, 0x211), 2)),
  row('not    rax', (a) => a.not(rax)),
  row('neg    BYTE PTR [r13+0x0]', (a) => a.neg(byte(r13))),
  row('mul    rcx', (a) => a.mul(rcx)),
  row('imul   rax,rbx', (a) => a.imul(rax, rbx)),
  row('imul   r8d,DWORD PTR [r9]', (a) => a.imul(r8d, dword(r9))),
  row('imul   rax,rbx,0x5', (a) => a.imul(rax, rbx, 5)),
  row('imul   rax,rax,0xfffffffffffffe0c', (a) => a.imul(rax, rax, -500)),
  row('imul   ax,WORD PTR [rdi],0x1234', (a) => a.imul(ax, word(rdi), 0x1234)),
  row('inc    eax', (a) => a.inc(eax)),
  row('inc    QWORD PTR [rdi]', (a) => a.inc(qword(rdi))),
  row('dec    r15b', (a) => a.dec(r15b)),
  row('dec    rcx', (a) => a.dec(rcx)),
  row('rol    ax,0x8', (a) => a.rol(ax, 8)),
  row('ror    r8,1', (a) => a.ror(r8, 1)),
  row('shl    rax,0x3f', (a) => a.shl(rax, 63)),
  row('shr    r15,0x15', (a) => a.shr(r15, 21)),

  row('bt     rax,0x3f', (a) => a.bt(rax, 63)),
  row('bt     DWORD PTR [r8],ecx', (a) => a.bt(dword(r8), ecx)),
  row('bts    QWORD PTR [rax],0x5', (a) => a.bts(qword(rax), 5)),
  row('btr    r9,r10', (a) => a.btr(r9, r10)),
  row('bsf    rax,rcx', (a) => a.bsf(rax, rcx)),
  row('bsr    r8d,DWORD PTR [rdi]', (a) => a.bsr(r8d, dword(rdi))),
  row('tzcnt  rcx,rax', (a) => a.tzcnt(rcx, rax)),
  row('popcnt r8d,DWORD PTR [rdi]', (a) => a.popcnt(r8d, dword(rdi))),
  row('blsr   rax,rax', (a) => a.blsr(rax, rax)),
  row('blsr   rdi,rcx', (a) => a.blsr(rdi, rcx)),

  row('jmp    rax', (a) => a.jmp(rax)),
  row('jmp    r15', (a) => a.jmp(r15)),
  row('jmp    QWORD PTR [rip+0x100]', (a) => a.jmp(qword(a.labelAt('x', 0x106)))),
  row('call   r12', (a) => a.call(r12)),
  row('call   QWORD PTR [rbx]', (a) => a.call(qword(rbx))),
  row('ret', (a) => a.ret()),
  row('retf', (a) => a.retf()),
  row('iretq', (a) => a.iretq()),
  row('ud2', (a) => a.ud2()),
];

const CMOV_64: Row[] = (['b', 'a'] as const).flatMap((condition) => [
  row(`${`cmov${condition}`.padEnd(6)} rax,r9`, (a) => a[`cmov${condition}`](rax, r9)),
  row(`${`cmov${condition}`.padEnd(6)} ecx,DWORD PTR [rdx]`, (a) => a[`cmov${condition}`](ecx, dword(rdx))),
]);

const MACHINE_64: Row[] = [
  row('stos   BYTE PTR es:[rdi],al', (a) => a.stosb()),
  row('lods   al,BYTE PTR ds:[rsi]', (a) => a.lodsb()),
  row('lods   eax,DWORD PTR ds:[rsi]', (a) => a.lodsd()),
  row('rep movs BYTE PTR es:[rdi],BYTE PTR ds:[rsi]', (a) => a.rep.movsb()),
  row('rep movs DWORD PTR es:[rdi],DWORD PTR ds:[rsi]', (a) => a.rep.movsd()),
  row('rep movs QWORD PTR es:[rdi],QWORD PTR ds:[rsi]', (a) => a.rep.movsq()),
  row('rep stos BYTE PTR es:[rdi],al', (a) => a.rep.stosb()),
  row('rep stos DWORD PTR es:[rdi],eax', (a) => a.rep.stosd()),
  row('rep stos QWORD PTR es:[rdi],rax', (a) => a.rep.stosq()),

  row('pause', (a) => a.pause()),
  row('hlt', (a) => a.hlt()),
  row('cli', (a) => a.cli()),
  row('cld', (a) => a.cld()),
  row('cpuid', (a) => a.cpuid()),
  row('rdtsc', (a) => a.rdtsc()),
  row('rdmsr', (a) => a.rdmsr()),
  row('wrmsr', (a) => a.wrmsr()),
  row('rdrand rax', (a) => a.rdrand(rax)),
  row('rdrand r9d', (a) => a.rdrand(r9d)),
  row('rdrand cx', (a) => a.rdrand(cx)),
  row('rdseed r15', (a) => a.rdseed(r15)),
  row('in     al,0x71', (a) => a.in(al, 0x71)),
  row('in     ax,dx', (a) => a.in(ax, dx)),
  row('in     eax,dx', (a) => a.in(eax, dx)),
  row('out    0x80,al', (a) => a.out(0x80, al)),
  row('out    0xff,eax', (a) => a.out(0xff, eax)),
  row('out    dx,al', (a) => a.out(dx, al)),
  row('out    dx,ax', (a) => a.out(dx, ax)),
  row('sgdt   [rax]', (a) => a.sgdt(mem(rax))),
  row('sidt   [rsp+0x8]', (a) => a.sidt(mem(rsp, 8))),
  row('lgdt   [rip+0x8]', (a) => a.lgdt(mem(a.labelAt('x', 15)))),
  row('lidt   [r12]', (a) => a.lidt(mem(r12))),
  row('prefetcht1 BYTE PTR [r13+r8*1+0x0]', (a) => a.prefetcht1(mem(r13, r8, 1))),
];

const CODE_32: Row[] = [
  row('mov    eax,0x5', (a) => a.mov(eax, 5)),
  row('mov    ebx,esi', (a) => a.mov(ebx, esi)),
  row('mov    ecx,DWORD PTR [esp]', (a) => a.mov(ecx, dword(esp))),
  row('mov    ecx,DWORD PTR ds:0x10', (a) => a.mov(ecx, dword(0x10))),
  row('mov    DWORD PTR ds:0xfffffff0,edi', (a) => a.mov(dword(0xffff_fff0), edi)),
  row('mov    eax,DWORD PTR ds:0x10', (a) => a.mov(eax, dword(0x10)), 'as has A1 moffs32, one byte shorter'),
  row('mov    BYTE PTR ds:0x1234,0x10', (a) => a.mov(byte(0x1234), 0x10)),
  row('mov    DWORD PTR [ebp-0x4],0xffffffff', (a) => a.mov(dword(ebp, -4), -1)),
  row('mov    DWORD PTR [ebp-0x10],eax', (a) => a.mov(dword(ebp, 0xffff_fff0), eax)),
  row('mov    eax,DWORD PTR [ecx*4+0x10]', (a) => a.mov(eax, dword(null, ecx, 4, 16))),
  row('mov    eax,DWORD PTR [ebp+ebp*2+0x0]', (a) => a.mov(eax, dword(ebp, ebp, 2))),
  row('lea    esi,[ebp+0x100]', (a) => a.lea(esi, mem(ebp, a.labelAt('x', 0x100)))),
  row('mov    cr0,eax', (a) => a.mov(cr0, eax)),
  row('mov    ecx,cr4', (a) => a.mov(ecx, cr4)),
  row('mov    ds,eax', (a) => a.mov(ds, eax)),
  row('push   eax', (a) => a.push(eax)),
  row('push   0xffffffff', (a) => a.push(-1)),
  row('push   0x80000000', (a) => a.push(0x8000_0000)),
  row('push   DWORD PTR [edi]', (a) => a.push(dword(edi))),
  row('pop    edx', (a) => a.pop(edx)),
  row('inc    eax', (a) => a.inc(eax)),
  row('dec    bp', (a) => a.dec(bp)),
  row('dec    bl', (a) => a.dec(bl)),
  row('inc    DWORD PTR [eax]', (a) => a.inc(dword(eax))),
  row('add    esp,0x10', (a) => a.add(esp, 16)),
  row('bts    eax,0x8', (a) => a.bts(eax, 8)),
  row('mov    WORD PTR [eax],0x5', (a) => a.mov(word(eax), 5)),
  row('movzx  eax,di', (a) => a.movzx(eax, di)),
  row('rep movs DWORD PTR es:[edi],DWORD PTR ds:[esi]', (a) => a.rep.movsd()),
  row('rep stos DWORD PTR es:[edi],eax', (a) => a.rep.stosd()),
  row('lgdtd  [ebp+0x10]', (a) => a.lgdt(mem(ebp, 16))),
  row('lidtd  ds:0x10', (a) => a.lidt(mem(0x10))),
  row('jmp    eax', (a) => a.jmp(eax)),
  row('call   DWORD PTR [ebx]', (a) => a.call(dword(ebx))),
  row('jmp    0x10:0x12345678', (a) => a.ljmp(0x10, 0x1234_5678)),
  row('jmp    0x8:0xfffffff0', (a) => a.ljmp(8, 0xffff_fff0)),
  row('retf', (a) => a.retf()),
  row('ret', (a) => a.ret()),
  row('rdmsr', (a) => a.rdmsr()),
];

function judge(rows: readonly Row[], bits: 32 | 64): void {
  const lines: { offset: number; bytes: Uint8Array; text: string }[] = [];
  let offset = 0;
  for (const { text, write } of rows) {
    const a = new Assembler({ bits });
    write(a);
    const { code, listing } = a.assemble();
    assert.deepEqual(
      listing.map((line) => line.text),
      [text],
    );
    lines.push({ offset, bytes: code, text });
    offset += code.length;
  }
  const code = Uint8Array.from(lines.flatMap(({ bytes }) => [...bytes]));
  assert.deepEqual(objdump(code, bits), lines);
  assert.deepEqual(
    iced(code, bits),
    lines.map((line) => ({ ...line, text: asIced(line.text) })),
  );
  for (const [i, theirs] of gnuAs(lines, bits).entries()) {
    const { text, bytes } = lines[i] ?? assert.fail();
    const why = rows[i]?.asDiffers;
    if (why === undefined) assert.equal(hexOf(bytes), hexOf(theirs), text);
    else assert.notEqual(hexOf(bytes), hexOf(theirs), `${text}: as makes the same bytes after all; not "${why}"`);
  }
}

test('64-bit code', () => judge(CODE_64, 64));
test('64-bit conditional moves', () => judge(CMOV_64, 64));
test('64-bit strings and machine', () => judge(MACHINE_64, 64));
test('32-bit code', () => judge(CODE_32, 32));

test('every method has a row', () => {
  const sources = [...CODE_64, ...CMOV_64, ...MACHINE_64, ...CODE_32].map(({ write }) => write.toString()).join('\n');
  // Branches to labels: branches.test.ts. Conditional moves: made by name above.
  const elsewhere = /^(j[a-z]{1,2}|cmov[a-z]{1,2}|rep)$/;
  const methods = Object.keys(new Assembler()).filter((name) => !elsewhere.test(name));
  assert.deepEqual(
    methods.filter((name) => !sources.includes(`a.${name}(`)),
    [],
  );
});
