/** Everything around instructions: data, labels, listing, 32-bit code that becomes 64-bit code. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Assembler, byte, dword, formatListing, mem, qword } from '../../src/asm/assembler.ts';
import { cr0, eax, ebp, ecx, rax, rbp, rcx, rsi } from '../../src/asm/registers.ts';
import { assertDisassembles, hexOf } from './judges.ts';

test('data is little-endian, signed or unsigned', () => {
  const a = new Assembler();
  a.db(0xff);
  a.db([1, -1]);
  a.db(Uint8Array.of(7, 8));
  a.dq(0x1122_3344_5566_7788n, -1);
  assert.equal(hexOf(a.assemble().code), 'ff01ff07088877665544332211ffffffffffffffff');
});

test('db copies', () => {
  const a = new Assembler();
  const bytes = Uint8Array.of(1);
  a.db(bytes);
  bytes[0] = 2;
  assert.equal(hexOf(a.assemble().code), '01');
});

test('align fills up to a multiple of its alignment', () => {
  const a = new Assembler();
  a.align(8);
  a.db(1);
  a.align(4);
  a.align(4);
  a.db(2);
  a.align(3, 0xcc);
  assert.equal(hexOf(a.assemble().code), '0190909002cc');
});

test('labels lie in the code, before it and after it', () => {
  const a = new Assembler();
  const before = a.labelAt('before', -16);
  const after = a.labelAt('after', 0x1000);
  a.label('never used');
  const inside = a.label('inside');
  a.mov(qword(before), rax);
  a.lea(rax, mem(inside, 1));
  a.cmp(byte(after), 0);
  a.bind(inside);
  a.dq(0);
  const { code, labels } = a.assemble();
  assert.deepEqual(Object.fromEntries(labels), { before: -16, after: 0x1000, inside: 21 });
  assert.equal(a.offsetOf(inside), 21);
  assert.equal(hexOf(code), '488905e9ffffff488d0508000000803deb0f0000000000000000000000');
});

test('a label with a base register, or as immediate, is its origin plus its offset', () => {
  for (const [a, expected] of [
    [new Assembler({ bits: 32 }), 'e800000000816d00050000008b8509000000'],
    [new Assembler({ bits: 32, origin: 0xc010_0000 }), 'e800000000816d00050010c08b85090010c0'],
  ] as const) {
    const here = a.label('here');
    a.call(here);
    a.bind(here);
    a.sub(dword(ebp), here);
    a.mov(eax, dword(ebp, here, 4));
    assert.equal(hexOf(a.assemble().code), expected);
  }
});

test('assemble again after more code', () => {
  const a = new Assembler();
  const end = a.label('end');
  a.jmp(end);
  a.bind(end);
  assert.equal(hexOf(a.assemble().code), 'eb00');
  a.hlt();
  assert.equal(hexOf(a.assemble().code), 'eb00f4');
});

/** An entry such as PVH has: 32-bit code that turns on paging and goes on in 64-bit code. */
function entry(): Assembler {
  const a = new Assembler({ bits: 32, origin: 0x10_0000 });
  const long = a.label('long');
  const table = a.label('table');
  a.note('CR0.PG');
  a.mov(eax, cr0);
  a.bts(eax, 31);
  a.mov(cr0, eax);
  a.mov(ecx, dword(table));
  a.note('CS.L');
  a.ljmp(0x10, long);
  a.align(16);
  a.bind(table);
  a.dq(0x2_0000_0001);
  a.bind(long);
  a.bits(64);
  a.note('again');
  a.note('and again');
  a.mov(rcx, qword(table));
  a.lea(rsi, mem(rbp, table));
  a.jnz(long);
  a.zero(40);
  return a;
}

test('a listing reads like objdump, with labels and notes', () => {
  const { listing } = entry().assemble();
  assertDisassembles(listing);
  assert.equal(formatListing(listing), EXPECTED_LISTING);
  const kinds = listing.map(({ bits, data }) => `${bits}${data ? ' data' : ''}`);
  assert.equal(kinds.join(), '32,32,32,32,32,32 data,32 data,64,64,64,64 data');
});

test('a step is data of the line at which it begins, apart from notes', () => {
  const a = new Assembler();
  const loop = a.label('loop');
  a.cli();
  a.step('wait');
  a.note('for an interrupt');
  a.bind(loop);
  a.hlt();
  a.jmp(loop);
  const { listing } = a.assemble();
  assert.deepEqual(
    listing.map(({ step, note }) => [step, note]),
    [
      [undefined, undefined],
      ['wait', 'for an interrupt'],
      [undefined, undefined],
    ],
  );
  assert.match(formatListing(listing), /hlt +# step: wait; for an interrupt\n/);
});

const EXPECTED_LISTING = `\
     0:  0f 20 c0                        mov    eax,cr0                           # CR0.PG
     3:  0f ba e8 1f                     bts    eax,0x1f
     7:  0f 22 c0                        mov    cr0,eax
     a:  8b 0d 20 00 10 00               mov    ecx,DWORD PTR ds:0x100020         # → table
    10:  ea 28 00 10 00 10 00            jmp    0x10:0x100028                     # → long; CS.L
    17:  90 90 90 90 90 90 90 90 90      .fill  9,1,0x90
table:
    20:  01 00 00 00 02 00 00 00         .byte  0x1,0x0,0x0,0x0,0x2,0x0,0x0,0x0
long:
    28:  48 8b 0d f1 ff ff ff            mov    rcx,QWORD PTR [rip+0xfffffffffffffff1]  # → table; again; and again
    2f:  48 8d b5 20 00 10 00            lea    rsi,[rbp+0x100020]                # → table
    36:  75 f0                           jne    0x28                              # → long
    38:  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 …  .fill  40,1,0x0
`;
