/**
 * The assembler: a mnemonic is a method, a register is a value, a label is an object.
 *
 *     const a = new Assembler();
 *     const loop = a.label('loop');
 *     a.bind(loop);
 *     a.lodsq();
 *     a.add(qword(rdi, rax, 8), rbx);
 *     a.dec(ecx);
 *     a.jnz(loop);
 *     const { code, listing } = a.assemble();
 *
 * Operands stand in Intel order, destination first. The shortest encoding is chosen, and GNU as would choose the same; branches to
 * labels are rel8 where that reaches. A mistake throws `AssemblyError`, which says what to write instead. Only instructions that
 * kslide's own code uses, or is near to, are here: the class reads as the table of them. What each one can take is in families.ts
 * and system.ts, how it becomes bytes in encoder.ts.
 */
import { littleEndian } from './encoder.ts';
import * as f from './families.ts';
import { AssemblyError } from './misuse.ts';
import { toSigned } from './operands.ts';
import type { Immediate, Label } from './operands.ts';
import { Program } from './program.ts';
import type { Assembled } from './program.ts';
import type { Bits } from './registers.ts';
import * as s from './system.ts';

export { AssemblyError } from './misuse.ts';
export { byte, dword, mem, qword, word } from './operands.ts';
export type { Label, Memory } from './operands.ts';
export { formatListing } from './listing.ts';
export type { ListingLine } from './listing.ts';
export type { Assembled } from './program.ts';

export interface AssemblerOptions {
  /** What the first instruction is decoded as; 64 by default. */
  readonly bits?: Bits;
  /** The address at which the first byte runs. Without it labels count from the first byte, and absolute references throw. */
  readonly origin?: number;
}

export class Assembler {
  /** Before the methods: each of them writes into it. */
  readonly #out = new Program();

  // Moves.
  readonly mov = f.move(this.#out);
  readonly movzx = f.extend(this.#out, 'movzx', 0xb6);
  readonly movsx = f.extend(this.#out, 'movsx', 0xbe);
  readonly movsxd = f.extendDword(this.#out);
  readonly movnti = s.storeNonTemporal(this.#out);
  readonly lea = f.loadAddress(this.#out);
  readonly xchg = f.exchange(this.#out);
  readonly bswap = s.byteSwap(this.#out);
  readonly push = s.push(this.#out);
  readonly pop = s.pop(this.#out);
  readonly pushfq = s.plain(this.#out, 'pushf', [0x9c], {}, 64);
  readonly popfq = s.plain(this.#out, 'popf', [0x9d], {}, 64);
  readonly pushfd = s.plain(this.#out, 'pushf', [0x9c], {}, 32);
  readonly popfd = s.plain(this.#out, 'popf', [0x9d], {}, 32);

  // Arithmetic and logic; the number is the digit of 80 /digit, F6 /digit, FE /digit.
  readonly add = f.arithmetic(this.#out, 'add', 0);
  readonly or = f.arithmetic(this.#out, 'or', 1);
  readonly adc = f.arithmetic(this.#out, 'adc', 2);
  readonly sbb = f.arithmetic(this.#out, 'sbb', 3);
  readonly and = f.arithmetic(this.#out, 'and', 4);
  readonly sub = f.arithmetic(this.#out, 'sub', 5);
  readonly xor = f.arithmetic(this.#out, 'xor', 6);
  readonly cmp = f.arithmetic(this.#out, 'cmp', 7);
  readonly test = f.test(this.#out);
  readonly not = f.unary(this.#out, 'not', 0xf6, 2);
  readonly neg = f.unary(this.#out, 'neg', 0xf6, 3);
  readonly mul = f.unary(this.#out, 'mul', 0xf6, 4);
  readonly imul = f.signedMultiply(this.#out);
  readonly div = f.unary(this.#out, 'div', 0xf6, 6);
  readonly inc = f.unary(this.#out, 'inc', 0xfe, 0);
  readonly dec = f.unary(this.#out, 'dec', 0xfe, 1);
  readonly rol = f.shift(this.#out, 'rol', 0);
  readonly ror = f.shift(this.#out, 'ror', 1);
  readonly shl = f.shift(this.#out, 'shl', 4);
  readonly shr = f.shift(this.#out, 'shr', 5);
  readonly sar = f.shift(this.#out, 'sar', 7);

  // Bits.
  readonly bt = f.bitTest(this.#out, 'bt', 0xa3, 4);
  readonly bts = f.bitTest(this.#out, 'bts', 0xab, 5);
  readonly btr = f.bitTest(this.#out, 'btr', 0xb3, 6);
  readonly btc = f.bitTest(this.#out, 'btc', 0xbb, 7);
  readonly bsf = f.toRegister(this.#out, 'bsf', 0xbc);
  readonly bsr = f.toRegister(this.#out, 'bsr', 0xbd);
  readonly tzcnt = f.toRegister(this.#out, 'tzcnt', 0xbc, 0xf3);
  readonly lzcnt = f.toRegister(this.#out, 'lzcnt', 0xbd, 0xf3);
  readonly popcnt = f.toRegister(this.#out, 'popcnt', 0xb8, 0xf3);
  readonly blsr = s.resetLowestBit(this.#out);

  // Control flow.
  readonly jmp = s.jump(this.#out);
  readonly jmpNear = s.jumpNear(this.#out);
  readonly call = s.call(this.#out);
  readonly ljmp = s.farJump(this.#out);
  readonly ret = s.plain(this.#out, 'ret', [0xc3]);
  readonly retf = s.plain(this.#out, 'retf', [0xcb]);
  readonly retfq = s.plain(this.#out, 'retfq', [0xcb], { width: 64 }, 64);
  readonly iretq = s.plain(this.#out, 'iretq', [0xcf], { width: 64 }, 64);
  readonly int3 = s.plain(this.#out, 'int3', [0xcc]);
  readonly ud2 = s.plain(this.#out, 'ud2', [0x0f, 0x0b]);

  // Conditions (SDM vol. 1, appendix B). Names on one line are one instruction; the listing shows the first, as objdump does.
  readonly jo = s.jumpIf(this.#out, 'jo', 0x0);
  readonly jno = s.jumpIf(this.#out, 'jno', 0x1);
  readonly jb = s.jumpIf(this.#out, 'jb', 0x2);
  readonly jc = this.jb;
  readonly jae = s.jumpIf(this.#out, 'jae', 0x3);
  readonly jnc = this.jae;
  readonly je = s.jumpIf(this.#out, 'je', 0x4);
  readonly jz = this.je;
  readonly jne = s.jumpIf(this.#out, 'jne', 0x5);
  readonly jnz = this.jne;
  readonly jbe = s.jumpIf(this.#out, 'jbe', 0x6);
  readonly ja = s.jumpIf(this.#out, 'ja', 0x7);
  readonly js = s.jumpIf(this.#out, 'js', 0x8);
  readonly jns = s.jumpIf(this.#out, 'jns', 0x9);
  readonly jp = s.jumpIf(this.#out, 'jp', 0xa);
  readonly jnp = s.jumpIf(this.#out, 'jnp', 0xb);
  readonly jl = s.jumpIf(this.#out, 'jl', 0xc);
  readonly jge = s.jumpIf(this.#out, 'jge', 0xd);
  readonly jle = s.jumpIf(this.#out, 'jle', 0xe);
  readonly jg = s.jumpIf(this.#out, 'jg', 0xf);

  readonly seto = s.setIf(this.#out, 'seto', 0x0);
  readonly setno = s.setIf(this.#out, 'setno', 0x1);
  readonly setb = s.setIf(this.#out, 'setb', 0x2);
  readonly setc = this.setb;
  readonly setae = s.setIf(this.#out, 'setae', 0x3);
  readonly setnc = this.setae;
  readonly sete = s.setIf(this.#out, 'sete', 0x4);
  readonly setz = this.sete;
  readonly setne = s.setIf(this.#out, 'setne', 0x5);
  readonly setnz = this.setne;
  readonly setbe = s.setIf(this.#out, 'setbe', 0x6);
  readonly seta = s.setIf(this.#out, 'seta', 0x7);
  readonly sets = s.setIf(this.#out, 'sets', 0x8);
  readonly setns = s.setIf(this.#out, 'setns', 0x9);
  readonly setp = s.setIf(this.#out, 'setp', 0xa);
  readonly setnp = s.setIf(this.#out, 'setnp', 0xb);
  readonly setl = s.setIf(this.#out, 'setl', 0xc);
  readonly setge = s.setIf(this.#out, 'setge', 0xd);
  readonly setle = s.setIf(this.#out, 'setle', 0xe);
  readonly setg = s.setIf(this.#out, 'setg', 0xf);

  readonly cmovo = f.toRegister(this.#out, 'cmovo', 0x40);
  readonly cmovno = f.toRegister(this.#out, 'cmovno', 0x41);
  readonly cmovb = f.toRegister(this.#out, 'cmovb', 0x42);
  readonly cmovc = this.cmovb;
  readonly cmovae = f.toRegister(this.#out, 'cmovae', 0x43);
  readonly cmovnc = this.cmovae;
  readonly cmove = f.toRegister(this.#out, 'cmove', 0x44);
  readonly cmovz = this.cmove;
  readonly cmovne = f.toRegister(this.#out, 'cmovne', 0x45);
  readonly cmovnz = this.cmovne;
  readonly cmovbe = f.toRegister(this.#out, 'cmovbe', 0x46);
  readonly cmova = f.toRegister(this.#out, 'cmova', 0x47);
  readonly cmovs = f.toRegister(this.#out, 'cmovs', 0x48);
  readonly cmovns = f.toRegister(this.#out, 'cmovns', 0x49);
  readonly cmovp = f.toRegister(this.#out, 'cmovp', 0x4a);
  readonly cmovnp = f.toRegister(this.#out, 'cmovnp', 0x4b);
  readonly cmovl = f.toRegister(this.#out, 'cmovl', 0x4c);
  readonly cmovge = f.toRegister(this.#out, 'cmovge', 0x4d);
  readonly cmovle = f.toRegister(this.#out, 'cmovle', 0x4e);
  readonly cmovg = f.toRegister(this.#out, 'cmovg', 0x4f);

  // Strings.
  readonly movsb = s.string(this.#out, 'movs', 0xa4, 8);
  readonly movsd = s.string(this.#out, 'movs', 0xa4, 32);
  readonly movsq = s.string(this.#out, 'movs', 0xa4, 64);
  readonly cmpsb = s.string(this.#out, 'cmps', 0xa6, 8);
  readonly cmpsd = s.string(this.#out, 'cmps', 0xa6, 32);
  readonly cmpsq = s.string(this.#out, 'cmps', 0xa6, 64);
  readonly stosb = s.string(this.#out, 'stos', 0xaa, 8);
  readonly stosd = s.string(this.#out, 'stos', 0xaa, 32);
  readonly stosq = s.string(this.#out, 'stos', 0xaa, 64);
  readonly lodsb = s.string(this.#out, 'lods', 0xac, 8);
  readonly lodsd = s.string(this.#out, 'lods', 0xac, 32);
  readonly lodsq = s.string(this.#out, 'lods', 0xac, 64);
  readonly scasb = s.string(this.#out, 'scas', 0xae, 8);
  readonly scasd = s.string(this.#out, 'scas', 0xae, 32);
  readonly scasq = s.string(this.#out, 'scas', 0xae, 64);
  /** `a.rep.movsq()`: rcx times. */
  readonly rep = {
    movsb: s.string(this.#out, 'movs', 0xa4, 8, 'rep'),
    movsd: s.string(this.#out, 'movs', 0xa4, 32, 'rep'),
    movsq: s.string(this.#out, 'movs', 0xa4, 64, 'rep'),
    stosb: s.string(this.#out, 'stos', 0xaa, 8, 'rep'),
    stosd: s.string(this.#out, 'stos', 0xaa, 32, 'rep'),
    stosq: s.string(this.#out, 'stos', 0xaa, 64, 'rep'),
    lodsb: s.string(this.#out, 'lods', 0xac, 8, 'rep'),
    lodsd: s.string(this.#out, 'lods', 0xac, 32, 'rep'),
    lodsq: s.string(this.#out, 'lods', 0xac, 64, 'rep'),
  };
  /** While equal, at most rcx times. */
  readonly repe = {
    cmpsb: s.string(this.#out, 'cmps', 0xa6, 8, 'repz'),
    cmpsd: s.string(this.#out, 'cmps', 0xa6, 32, 'repz'),
    cmpsq: s.string(this.#out, 'cmps', 0xa6, 64, 'repz'),
    scasb: s.string(this.#out, 'scas', 0xae, 8, 'repz'),
    scasd: s.string(this.#out, 'scas', 0xae, 32, 'repz'),
    scasq: s.string(this.#out, 'scas', 0xae, 64, 'repz'),
  };
  /** While not equal, at most rcx times. */
  readonly repne = {
    cmpsb: s.string(this.#out, 'cmps', 0xa6, 8, 'repnz'),
    cmpsd: s.string(this.#out, 'cmps', 0xa6, 32, 'repnz'),
    cmpsq: s.string(this.#out, 'cmps', 0xa6, 64, 'repnz'),
    scasb: s.string(this.#out, 'scas', 0xae, 8, 'repnz'),
    scasd: s.string(this.#out, 'scas', 0xae, 32, 'repnz'),
    scasq: s.string(this.#out, 'scas', 0xae, 64, 'repnz'),
  };

  // The machine.
  readonly nop = s.plain(this.#out, 'nop', [0x90]);
  readonly hlt = s.plain(this.#out, 'hlt', [0xf4]);
  readonly cli = s.plain(this.#out, 'cli', [0xfa]);
  readonly sti = s.plain(this.#out, 'sti', [0xfb]);
  readonly cld = s.plain(this.#out, 'cld', [0xfc]);
  readonly std = s.plain(this.#out, 'std', [0xfd]);
  readonly pause = s.plain(this.#out, 'pause', [0x90], { prefix: 0xf3 });
  readonly cpuid = s.plain(this.#out, 'cpuid', [0x0f, 0xa2]);
  readonly rdtsc = s.plain(this.#out, 'rdtsc', [0x0f, 0x31]);
  readonly rdmsr = s.plain(this.#out, 'rdmsr', [0x0f, 0x32]);
  readonly wrmsr = s.plain(this.#out, 'wrmsr', [0x0f, 0x30]);
  readonly wbinvd = s.plain(this.#out, 'wbinvd', [0x0f, 0x09]);
  readonly lfence = s.plain(this.#out, 'lfence', [0x0f, 0xae, 0xe8]);
  readonly rdrand = s.random(this.#out, 'rdrand', 6);
  readonly rdseed = s.random(this.#out, 'rdseed', 7);
  readonly in = s.portIn(this.#out);
  readonly out = s.portOut(this.#out);
  readonly sgdt = s.descriptorTable(this.#out, 'sgdt', 0);
  readonly sidt = s.descriptorTable(this.#out, 'sidt', 1);
  readonly lgdt = s.descriptorTable(this.#out, 'lgdt', 2);
  readonly lidt = s.descriptorTable(this.#out, 'lidt', 3);
  readonly ltr = s.loadTask(this.#out);
  readonly invlpg = s.onAddress(this.#out, 'invlpg', [0x0f, 0x01], 7, 8);
  readonly prefetcht0 = s.onAddress(this.#out, 'prefetcht0', [0x0f, 0x18], 1, 8);
  readonly prefetchw = s.onAddress(this.#out, 'prefetchw', [0x0f, 0x0d], 1, 8);

  constructor({ bits = 64, origin }: AssemblerOptions = {}) {
    this.#out.bits = bits;
    this.#out.origin = origin;
  }

  /** What follows is decoded as 32-bit or 64-bit code: for an entry that switches to long mode midway. */
  bits(bits: Bits): void {
    this.#out.bits = bits;
  }

  /** A label that is not bound yet. Names are unique and appear in errors, in the listing and in `labels`. */
  label(name: string): Label {
    return this.#out.label(name);
  }

  /** A label at a fixed offset from the first byte, which may be negative or past the end: data that lies beside the code. */
  labelAt(name: string, offset: number): Label {
    return this.#out.labelAt(name, offset);
  }

  /** The label is here. Returns it, so that a backward label is one line: `const loop = a.bind(a.label('loop'))`. */
  bind(label: Label): Label {
    this.#out.bind(label);
    return label;
  }

  /** A comment on what comes next, for the listing. */
  note(text: string): void {
    this.#out.note(text);
  }

  /** Bytes as they are; an array's elements are checked. A Uint8Array is copied. */
  db(bytes: Uint8Array | readonly number[] | number): void {
    if (bytes instanceof Uint8Array) this.#out.data(bytes.slice());
    else this.#words('db', typeof bytes === 'number' ? [bytes] : bytes, 8);
  }

  dw(...values: Immediate[]): void {
    this.#words('dw', values, 16);
  }

  dd(...values: Immediate[]): void {
    this.#words('dd', values, 32);
  }

  dq(...values: Immediate[]): void {
    this.#words('dq', values, 64);
  }

  zero(length: number): void {
    if (!Number.isSafeInteger(length) || length < 0)
      throw new AssemblyError(`zero: ${length} is not a number of bytes`);
    this.#out.data(new Uint8Array(length));
  }

  /** Up to the next multiple of `alignment`, counted from the first byte. The default fill is nop: right in code, harmless in data. */
  align(alignment: number, fill = 0x90): void {
    this.#out.align(alignment, Number(BigInt.asUintN(8, toSigned(fill, 8, 'align'))));
  }

  /** Where a label lies now; more code before it can still move it. Throws as long as any label in use is unbound. */
  offsetOf(label: Label): number {
    return this.#out.offsetOf(label);
  }

  /** Can be called again after more code. */
  assemble(): Assembled {
    return this.#out.assemble();
  }

  #words(directive: string, values: readonly Immediate[], width: 8 | 16 | 32 | 64): void {
    const bytes = values.flatMap((value) => littleEndian(toSigned(value, width, directive), width / 8));
    this.#out.data(Uint8Array.from(bytes));
  }
}
