/**
 * A "kernel" for tests of the stub alone: at its entry it writes down the state that it was entered in and prints it on the serial port, then
 * resets the machine. It boots in well under a second, and sees what no Linux shows: registers, tables, and what the stub left in memory.
 */
import { START_KERNEL_MAP } from '../../src/base/addresses.ts';
import { Assembler, byte, mem, qword } from '../../src/asm/assembler.ts';
import {
  al,
  cr3,
  cs,
  dx,
  eax,
  ecx,
  r10,
  r11,
  r12,
  r13,
  r14,
  r15,
  r8,
  r9,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  ss,
} from '../../src/asm/registers.ts';
import { BOOT_PARAMS } from '../../src/base/boot-params.ts';
import { Writer } from '../../src/base/bytes.ts';
import { encodeRelocationTable } from '../../src/relocs/tables/kernel-table.ts';

export const LINK = 0x100_0000;
const FILE_AT = 0x1000;
const CODE_SIZE = 0x1000;
const SITES_AT = CODE_SIZE;
/** The image: a page of code, a page of sites. */
const IMAGE_SIZE = 0x2000;
/** After the image: the per-cpu segment, linked at 0, without which a kernel has no inverse sites. */
const PER_CPU_SIZE = 0x10;

/** What a site holds before it is relocated. */
const SITE_VALUES = { abs64: 0xffff_ffff_8100_0123n, inverse32: 0x0123_4567n, abs32: 0x8100_0456n };

const REGISTERS = { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15 } as const;
const FIELDS = [
  ...Object.keys(REGISTERS),
  'cr3',
  'cs',
  'ss',
  'rflags',
  'idtr',
  'gdtr',
  'loadflags',
  'entry',
  'abs64',
  'inverse32',
  'abs32',
  'scratch',
] as const;
export type ProbeField = (typeof FIELDS)[number];
export type ProbeReport = Readonly<Record<string, bigint>>;

/** `scratch`: physical address of the stub's scratch memory; the probe reports its first page, all words or'ed together. */
export function makeProbe(scratch: number): Uint8Array {
  const code = assembleProbe(scratch);
  const file = new Writer(new Uint8Array(FILE_AT + IMAGE_SIZE + PER_CPU_SIZE));
  file.copy(0, Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]));
  file.u16(16, 2);
  file.u16(18, 62);
  file.u32(20, 1);
  file.u64(24, LINK);
  file.u64(32, 64);
  file.u16(52, 64);
  file.u16(54, 56);
  file.u16(56, 2);
  writeLoad(file, 64, { offset: FILE_AT, vaddr: START_KERNEL_MAP + BigInt(LINK), paddr: LINK, size: IMAGE_SIZE });
  const perCpu = { offset: FILE_AT + IMAGE_SIZE, vaddr: 0n, paddr: LINK + IMAGE_SIZE, size: PER_CPU_SIZE };
  writeLoad(file, 64 + 56, perCpu);
  file.copy(FILE_AT, code);
  const site = (index: number): number => LINK + SITES_AT + index * 8 + 0x8000_0000;
  file.u64(FILE_AT + SITES_AT, SITE_VALUES.abs64);
  file.u64(FILE_AT + SITES_AT + 8, SITE_VALUES.inverse32);
  file.u64(FILE_AT + SITES_AT + 16, SITE_VALUES.abs32);
  const one = (index: number): Uint32Array => Uint32Array.from([site(index)]);
  const table = encodeRelocationTable({ abs64: one(0), inverse32: one(1), abs32: one(2), lists: 3 });
  const whole = new Uint8Array(file.bytes.length + table.length);
  whole.set(file.bytes);
  whole.set(table, file.bytes.length);
  return whole;
}

function writeLoad(
  file: Writer,
  at: number,
  load: { readonly offset: number; readonly vaddr: bigint; readonly paddr: number; readonly size: number },
): void {
  file.u32(at, 1);
  file.u32(at + 4, 7);
  file.u64(at + 8, load.offset);
  file.u64(at + 16, load.vaddr);
  file.u64(at + 24, load.paddr);
  file.u64(at + 32, load.size);
  file.u64(at + 40, load.size);
  file.u64(at + 48, 0x20_0000);
}

function assembleProbe(scratch: number): Uint8Array {
  const a = new Assembler();
  const block = a.label('block');
  const start = a.label('start');
  const sites = a.labelAt('sites', SITES_AT);
  const slot = (name: ProbeField): ReturnType<typeof qword> => qword(block, FIELDS.indexOf(name) * 8);
  a.bind(start);
  for (const [name, register] of Object.entries(REGISTERS)) a.mov(slot(name), register);
  a.lea(rsp, mem(sites, 0x1000));
  a.pushfq();
  a.pop(rax);
  a.mov(slot('rflags'), rax);
  a.mov(rax, cr3);
  a.mov(slot('cr3'), rax);
  for (const [name, register] of Object.entries({ cs, ss } as const)) {
    a.mov(eax, register);
    a.mov(slot(name as ProbeField), rax);
  }
  // Limit in the low 16 bits, the low 48 bits of the base above.
  a.sidt(mem(block, FIELDS.indexOf('idtr') * 8));
  a.sgdt(mem(block, FIELDS.indexOf('gdtr') * 8));
  a.movzx(eax, byte(rsi, BOOT_PARAMS.loadflags));
  a.mov(slot('loadflags'), rax);
  a.mov(rax, qword(start));
  a.mov(slot('entry'), rax);
  for (const [index, name] of (['abs64', 'inverse32', 'abs32'] as const).entries()) {
    a.mov(rax, qword(sites, index * 8));
    a.mov(slot(name), rax);
  }
  // Where the image runs minus where it is linked, so that a physical slide finds the scratch memory too.
  const or = a.label('or');
  a.lea(rdi, mem(start));
  a.add(rdi, scratch - LINK);
  a.mov(ecx, 512);
  a.mov(rax, 0);
  a.bind(or);
  a.or(rax, qword(rdi));
  a.add(rdi, 8);
  a.dec(ecx);
  a.jnz(or);
  a.mov(slot('scratch'), rax);
  emitPrint(a, block);
  a.mov(al, 0xfe);
  a.out(0x64, al);
  const dead = a.label('dead');
  a.bind(dead);
  a.hlt();
  a.jmp(dead);
  a.align(8);
  a.bind(block);
  a.zero(FIELDS.length * 8 + 8);
  const { code } = a.assemble();
  if (code.length > CODE_SIZE) throw new RangeError('the probe outgrew its page');
  return code;
}

/** `probe:` and FIELDS.length words of 16 hex digits, on COM1. */
function emitPrint(a: Assembler, block: ReturnType<Assembler['label']>): void {
  const word = a.label('word');
  const digit = a.label('digit');
  const decimal = a.label('decimal');
  let sends = 0;
  const send = (): void => {
    const wait = a.label(`wait${sends++}`);
    a.mov(r9, rax);
    a.mov(dx, 0x3fd);
    a.bind(wait);
    a.in(al, dx);
    a.test(al, 0x20);
    a.jz(wait);
    a.mov(rax, r9);
    a.mov(dx, 0x3f8);
    a.out(dx, al);
  };
  for (const character of 'probe:') {
    a.mov(eax, character.codePointAt(0)!);
    send();
  }
  a.lea(rsi, mem(block));
  a.mov(r10, FIELDS.length);
  a.bind(word);
  a.mov(rbx, qword(rsi));
  a.add(rsi, 8);
  a.mov(r11, 16);
  a.bind(digit);
  a.rol(rbx, 4);
  a.mov(rax, rbx);
  a.and(eax, 15);
  a.add(eax, 0x30);
  a.cmp(eax, 0x3a);
  a.jb(decimal);
  a.add(eax, 0x27);
  a.bind(decimal);
  send();
  a.dec(r11);
  a.jnz(digit);
  a.dec(r10);
  a.jnz(word);
  a.mov(eax, 0x0a);
  send();
}

/** Undefined when the probe never spoke. */
export function readProbe(console: string): ProbeReport | undefined {
  const digits = new RegExp(`probe:([0-9a-f]{${FIELDS.length * 16}})`).exec(console)?.[1];
  if (digits === undefined) return undefined;
  return Object.fromEntries(
    FIELDS.map((name, index) => [name, BigInt(`0x${digits.slice(index * 16, index * 16 + 16)}`)]),
  );
}

/** By how much each site was moved; undefined unless all three agree. */
export function slideOf(report: ProbeReport): bigint | undefined {
  const slide = report['abs64']! - SITE_VALUES.abs64;
  const agree =
    report['inverse32'] === BigInt.asUintN(32, SITE_VALUES.inverse32 - slide) &&
    report['abs32'] === BigInt.asUintN(32, SITE_VALUES.abs32 + slide);
  return agree ? BigInt.asUintN(64, slide) : undefined;
}
