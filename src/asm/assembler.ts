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
 * kslide's own code uses, or is near to, are here: the class reads as the table of them. What each can take is in families/,
 * how it becomes bytes in encoder.ts.
 */
import { littleEndian } from './encoder.ts';
import {
  arithmetic,
  bitTest,
  increment,
  intoRegister,
  resetLowestBit,
  shift,
  signedMultiply,
  testBits,
  unary,
} from './families/arithmetic.ts';
import { call, jump, jumpFar, jumpIf, jumpNear, setIf } from './families/control.ts';
import {
  comparisons,
  descriptorTable,
  loadTask,
  onAddress,
  plain,
  portIn,
  portOut,
  random,
  strings,
} from './families/machine.ts';
import {
  byteSwap,
  exchange,
  extend,
  extendDword,
  loadAddress,
  move,
  pop,
  push,
  storeNonTemporal,
} from './families/moves.ts';
import { AssemblyError } from './misuse.ts';
import { toSigned } from './operands.ts';
import type { Immediate, Label } from './operands.ts';
import { Program } from './program.ts';
import type { Assembled } from './program.ts';
import type { Bits } from './registers.ts';

export { formatListing } from './listing.ts';
export type { ListingLine } from './listing.ts';
export { AssemblyError } from './misuse.ts';
export { byte, dword, mem, qword, word } from './operands.ts';
export type { Label, Memory } from './operands.ts';
export type { Assembled } from './program.ts';

export interface AssemblerOptions {
  /** What the first instruction is decoded as; 64 by default. */
  readonly bits?: Bits;
  /** The address at which the first byte runs. Without it labels count from the first byte, and absolute references throw. Below 2^53. */
  readonly origin?: number;
}

export class Assembler {
  /** Before the methods: they write into it. */
  readonly #out = new Program();
  readonly #strings = strings(this.#out);
  readonly #comparisons = comparisons(this.#out);

  // Moves.
  readonly mov = move(this.#out);
  readonly movzx = extend(this.#out, 'movzx', 0xb6);
  readonly movsx = extend(this.#out, 'movsx', 0xbe);
  readonly movsxd = extendDword(this.#out);
  readonly movnti = storeNonTemporal(this.#out);
  readonly lea = loadAddress(this.#out);
  readonly xchg = exchange(this.#out);
  readonly bswap = byteSwap(this.#out);
  readonly push = push(this.#out);
  readonly pop = pop(this.#out);
  readonly pushfq = plain(this.#out, 'pushf', [0x9c], { only: 64 });
  readonly popfq = plain(this.#out, 'popf', [0x9d], { only: 64 });
  readonly pushfd = plain(this.#out, 'pushf', [0x9c], { only: 32 });
  readonly popfd = plain(this.#out, 'popf', [0x9d], { only: 32 });

  // Arithmetic and logic. The number is the digit of "/digit".
  readonly add = arithmetic(this.#out, 'add', 0);
  readonly or = arithmetic(this.#out, 'or', 1);
  readonly adc = arithmetic(this.#out, 'adc', 2);
  readonly sbb = arithmetic(this.#out, 'sbb', 3);
  readonly and = arithmetic(this.#out, 'and', 4);
  readonly sub = arithmetic(this.#out, 'sub', 5);
  readonly xor = arithmetic(this.#out, 'xor', 6);
  readonly cmp = arithmetic(this.#out, 'cmp', 7);
  readonly test = testBits(this.#out);
  readonly not = unary(this.#out, 'not', 2);
  readonly neg = unary(this.#out, 'neg', 3);
  readonly mul = unary(this.#out, 'mul', 4);
  readonly imul = signedMultiply(this.#out);
  readonly div = unary(this.#out, 'div', 6);
  readonly inc = increment(this.#out, 'inc', 0);
  readonly dec = increment(this.#out, 'dec', 1);
  readonly rol = shift(this.#out, 'rol', 0);
  readonly ror = shift(this.#out, 'ror', 1);
  readonly shl = shift(this.#out, 'shl', 4);
  readonly shr = shift(this.#out, 'shr', 5);
  readonly sar = shift(this.#out, 'sar', 7);

  // Bits.
  readonly bt = bitTest(this.#out, 'bt', 0xa3, 4);
  readonly bts = bitTest(this.#out, 'bts', 0xab, 5);
  readonly btr = bitTest(this.#out, 'btr', 0xb3, 6);
  readonly btc = bitTest(this.#out, 'btc', 0xbb, 7);
  readonly bsf = intoRegister(this.#out, 'bsf', 0xbc);
  readonly bsr = intoRegister(this.#out, 'bsr', 0xbd);
  readonly tzcnt = intoRegister(this.#out, 'tzcnt', 0xbc, 0xf3);
  readonly lzcnt = intoRegister(this.#out, 'lzcnt', 0xbd, 0xf3);
  readonly popcnt = intoRegister(this.#out, 'popcnt', 0xb8, 0xf3);
  readonly blsr = resetLowestBit(this.#out);

  // Control flow.
  readonly jmp = jump(this.#out);
  readonly jmpNear = jumpNear(this.#out);
  readonly ljmp = jumpFar(this.#out);
  readonly call = call(this.#out);
  readonly ret = plain(this.#out, 'ret', [0xc3]);
  readonly retf = plain(this.#out, 'retf', [0xcb]);
  readonly retfq = plain(this.#out, 'retfq', [0xcb], { width: 64, only: 64 });
  readonly iretq = plain(this.#out, 'iretq', [0xcf], { width: 64, only: 64 });
  readonly int3 = plain(this.#out, 'int3', [0xcc]);
  readonly ud2 = plain(this.#out, 'ud2', [0x0f, 0x0b]);

  // Conditions, by their code (SDM vol. 1, appendix B). A second name is the same instruction; a listing shows the first, as objdump.
  readonly jo = jumpIf(this.#out, 'jo', 0x0);
  readonly jno = jumpIf(this.#out, 'jno', 0x1);
  readonly jb = jumpIf(this.#out, 'jb', 0x2);
  readonly jc = this.jb;
  readonly jae = jumpIf(this.#out, 'jae', 0x3);
  readonly jnc = this.jae;
  readonly je = jumpIf(this.#out, 'je', 0x4);
  readonly jz = this.je;
  readonly jne = jumpIf(this.#out, 'jne', 0x5);
  readonly jnz = this.jne;
  readonly jbe = jumpIf(this.#out, 'jbe', 0x6);
  readonly ja = jumpIf(this.#out, 'ja', 0x7);
  readonly js = jumpIf(this.#out, 'js', 0x8);
  readonly jns = jumpIf(this.#out, 'jns', 0x9);
  readonly jp = jumpIf(this.#out, 'jp', 0xa);
  readonly jnp = jumpIf(this.#out, 'jnp', 0xb);
  readonly jl = jumpIf(this.#out, 'jl', 0xc);
  readonly jge = jumpIf(this.#out, 'jge', 0xd);
  readonly jle = jumpIf(this.#out, 'jle', 0xe);
  readonly jg = jumpIf(this.#out, 'jg', 0xf);

  readonly seto = setIf(this.#out, 'seto', 0x0);
  readonly setno = setIf(this.#out, 'setno', 0x1);
  readonly setb = setIf(this.#out, 'setb', 0x2);
  readonly setc = this.setb;
  readonly setae = setIf(this.#out, 'setae', 0x3);
  readonly setnc = this.setae;
  readonly sete = setIf(this.#out, 'sete', 0x4);
  readonly setz = this.sete;
  readonly setne = setIf(this.#out, 'setne', 0x5);
  readonly setnz = this.setne;
  readonly setbe = setIf(this.#out, 'setbe', 0x6);
  readonly seta = setIf(this.#out, 'seta', 0x7);
  readonly sets = setIf(this.#out, 'sets', 0x8);
  readonly setns = setIf(this.#out, 'setns', 0x9);
  readonly setp = setIf(this.#out, 'setp', 0xa);
  readonly setnp = setIf(this.#out, 'setnp', 0xb);
  readonly setl = setIf(this.#out, 'setl', 0xc);
  readonly setge = setIf(this.#out, 'setge', 0xd);
  readonly setle = setIf(this.#out, 'setle', 0xe);
  readonly setg = setIf(this.#out, 'setg', 0xf);

  readonly cmovo = intoRegister(this.#out, 'cmovo', 0x40);
  readonly cmovno = intoRegister(this.#out, 'cmovno', 0x41);
  readonly cmovb = intoRegister(this.#out, 'cmovb', 0x42);
  readonly cmovc = this.cmovb;
  readonly cmovae = intoRegister(this.#out, 'cmovae', 0x43);
  readonly cmovnc = this.cmovae;
  readonly cmove = intoRegister(this.#out, 'cmove', 0x44);
  readonly cmovz = this.cmove;
  readonly cmovne = intoRegister(this.#out, 'cmovne', 0x45);
  readonly cmovnz = this.cmovne;
  readonly cmovbe = intoRegister(this.#out, 'cmovbe', 0x46);
  readonly cmova = intoRegister(this.#out, 'cmova', 0x47);
  readonly cmovs = intoRegister(this.#out, 'cmovs', 0x48);
  readonly cmovns = intoRegister(this.#out, 'cmovns', 0x49);
  readonly cmovp = intoRegister(this.#out, 'cmovp', 0x4a);
  readonly cmovnp = intoRegister(this.#out, 'cmovnp', 0x4b);
  readonly cmovl = intoRegister(this.#out, 'cmovl', 0x4c);
  readonly cmovge = intoRegister(this.#out, 'cmovge', 0x4d);
  readonly cmovle = intoRegister(this.#out, 'cmovle', 0x4e);
  readonly cmovg = intoRegister(this.#out, 'cmovg', 0x4f);

  // Strings: alone, or repeated as in `a.rep.movsq()`.
  readonly movsb = this.#strings.movsb;
  readonly movsd = this.#strings.movsd;
  readonly movsq = this.#strings.movsq;
  readonly stosb = this.#strings.stosb;
  readonly stosd = this.#strings.stosd;
  readonly stosq = this.#strings.stosq;
  readonly lodsb = this.#strings.lodsb;
  readonly lodsd = this.#strings.lodsd;
  readonly lodsq = this.#strings.lodsq;
  readonly cmpsb = this.#comparisons.cmpsb;
  readonly cmpsd = this.#comparisons.cmpsd;
  readonly cmpsq = this.#comparisons.cmpsq;
  readonly scasb = this.#comparisons.scasb;
  readonly scasd = this.#comparisons.scasd;
  readonly scasq = this.#comparisons.scasq;
  readonly rep = strings(this.#out, 'rep');
  readonly repe = comparisons(this.#out, 'repz');
  readonly repne = comparisons(this.#out, 'repnz');

  // The machine.
  readonly nop = plain(this.#out, 'nop', [0x90]);
  readonly hlt = plain(this.#out, 'hlt', [0xf4]);
  readonly cli = plain(this.#out, 'cli', [0xfa]);
  readonly sti = plain(this.#out, 'sti', [0xfb]);
  readonly cld = plain(this.#out, 'cld', [0xfc]);
  readonly std = plain(this.#out, 'std', [0xfd]);
  readonly pause = plain(this.#out, 'pause', [0x90], { prefix: 0xf3 });
  readonly cpuid = plain(this.#out, 'cpuid', [0x0f, 0xa2]);
  readonly rdtsc = plain(this.#out, 'rdtsc', [0x0f, 0x31]);
  readonly rdmsr = plain(this.#out, 'rdmsr', [0x0f, 0x32]);
  readonly wrmsr = plain(this.#out, 'wrmsr', [0x0f, 0x30]);
  readonly wbinvd = plain(this.#out, 'wbinvd', [0x0f, 0x09]);
  readonly lfence = plain(this.#out, 'lfence', [0x0f, 0xae, 0xe8]);
  readonly rdrand = random(this.#out, 'rdrand', 6);
  readonly rdseed = random(this.#out, 'rdseed', 7);
  readonly in = portIn(this.#out);
  readonly out = portOut(this.#out);
  readonly sgdt = descriptorTable(this.#out, 'sgdt', 0);
  readonly sidt = descriptorTable(this.#out, 'sidt', 1);
  readonly lgdt = descriptorTable(this.#out, 'lgdt', 2);
  readonly lidt = descriptorTable(this.#out, 'lidt', 3);
  readonly ltr = loadTask(this.#out);
  readonly invlpg = onAddress(this.#out, 'invlpg', [0x0f, 0x01], 7, 8);
  readonly prefetcht0 = onAddress(this.#out, 'prefetcht0', [0x0f, 0x18], 1, 8);
  readonly prefetcht1 = onAddress(this.#out, 'prefetcht1', [0x0f, 0x18], 2, 8);
  readonly prefetchw = onAddress(this.#out, 'prefetchw', [0x0f, 0x0d], 1, 8);

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
    if (bytes instanceof Uint8Array) this.#out.data(new Uint8Array(bytes));
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
    if (!Number.isSafeInteger(length) || length < 0) {
      throw new AssemblyError(`zero: ${length} is not a number of bytes`);
    }
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
