/**
 * The x86 assembler: a mnemonic is a method, a register is a value, a label is an object.
 *
 *     const a = new Assembler();
 *     const loop = a.label('loop');
 *     a.bind(loop);
 *     a.lodsd();
 *     a.add(dword(rdi, rax, 4), ebx);
 *     a.dec(ecx);
 *     a.jnz(loop);
 *     const { code, listing } = a.assemble();
 *
 * Writing a program. Operands stand in Intel order, destination first; memory operands are described in operands.ts. Each call appends one
 * instruction in its shortest encoding. `assemble` returns the bytes, and a listing with each instruction's offset, bytes and text. A
 * mistake throws `AssemblyError` at the line that made it, and the message says what to write instead.
 *
 * Labels. `label(name)` makes one, `bind(label)` puts it at the current position, before or after its uses. `labelAt(name, offset)` is a
 * place beside the code, such as the parameters before the stub. A branch to a label is rel8 if that reaches, else rel32. `qword(label)` is
 * RIP-relative, so 64-bit code runs at any address.
 *
 * Only instructions that our programs emit are here: src/stub, the loader for `boot` in src/node/qemu, the guest of the bench, and the
 * programs of the tests. For another one, add a line to the class below and its row to test/asm/instructions.test.ts.
 *
 * Checks. test/asm holds each method to GNU as (same text, same bytes), and objdump and iced-x86 (same bytes, same text), then mixes
 * instructions and operands at random. test/stub compares every instruction of the stub with a reviewed listing.
 *
 * Files: registers.ts and operands.ts are what a program is written with. families/ chooses the row of the SDM's opcode table, encoder.ts
 * makes its bytes, stream.ts collects them, layout.ts lays them out and writes them, listing.ts is their text. machine-state.ts has
 * constants and short sequences that several programs share.
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
import { call, jump, jumpFar, jumpIf } from './families/control.ts';
import { descriptorTable, onAddress, plain, portIn, portOut, random, string } from './families/machine.ts';
import { loadAddress, move, pop, push, zeroExtend } from './families/moves.ts';
import { AssemblyError, toSigned } from './operands.ts';
import type { Immediate, Label } from './operands.ts';
import type { Bits } from './registers.ts';
import { InstructionStream } from './stream.ts';
import type { Assembled } from './stream.ts';

export { formatListing } from './listing.ts';
export type { ListingLine } from './listing.ts';
export { AssemblyError, byte, dword, mem, qword, word } from './operands.ts';
export type { Label, Memory } from './operands.ts';
export type { Assembled } from './stream.ts';

export interface AssemblerOptions {
  /** The mode in which the first instruction is decoded; 64 by default. */
  readonly bits?: Bits;
  /** The address at which the first byte runs. Without it labels count from the first byte, and absolute references throw. Below 2^53. */
  readonly origin?: number;
}

/** `Step`: the names that `step` takes. */
export class Assembler<Step extends string = string> {
  /** Before the methods: they write into it. */
  readonly #out = new InstructionStream();

  // Moves.
  readonly mov = move(this.#out);
  readonly movzx = zeroExtend(this.#out);
  readonly lea = loadAddress(this.#out);
  readonly push = push(this.#out);
  readonly pop = pop(this.#out);
  readonly pushfq = plain(this.#out, 'pushf', [0x9c], { only: 64 });
  readonly popfq = plain(this.#out, 'popf', [0x9d], { only: 64 });

  // Arithmetic and logic. The number is the digit of "/digit".
  readonly add = arithmetic(this.#out, 'add', 0);
  readonly or = arithmetic(this.#out, 'or', 1);
  readonly and = arithmetic(this.#out, 'and', 4);
  readonly sub = arithmetic(this.#out, 'sub', 5);
  readonly xor = arithmetic(this.#out, 'xor', 6);
  readonly cmp = arithmetic(this.#out, 'cmp', 7);
  readonly test = testBits(this.#out);
  readonly not = unary(this.#out, 'not', 2);
  readonly neg = unary(this.#out, 'neg', 3);
  readonly mul = unary(this.#out, 'mul', 4);
  readonly imul = signedMultiply(this.#out);
  readonly inc = increment(this.#out, 'inc', 0);
  readonly dec = increment(this.#out, 'dec', 1);
  readonly rol = shift(this.#out, 'rol', 0);
  readonly ror = shift(this.#out, 'ror', 1);
  readonly shl = shift(this.#out, 'shl', 4);
  readonly shr = shift(this.#out, 'shr', 5);

  // Bits.
  readonly bt = bitTest(this.#out, 'bt', 0xa3, 4);
  readonly bts = bitTest(this.#out, 'bts', 0xab, 5);
  readonly btr = bitTest(this.#out, 'btr', 0xb3, 6);
  readonly bsf = intoRegister(this.#out, 'bsf', 0xbc);
  readonly bsr = intoRegister(this.#out, 'bsr', 0xbd);
  /** BMI1. Without it these bytes are bsf, which gives the same for a source that is not 0, and other flags. */
  readonly tzcnt = intoRegister(this.#out, 'tzcnt', 0xbc, 0xf3);
  readonly popcnt = intoRegister(this.#out, 'popcnt', 0xb8, 0xf3);
  readonly blsr = resetLowestBit(this.#out);

  // Control flow.
  readonly jmp = jump(this.#out);
  readonly ljmp = jumpFar(this.#out);
  readonly call = call(this.#out);
  readonly ret = plain(this.#out, 'ret', [0xc3]);
  readonly retf = plain(this.#out, 'retf', [0xcb]);
  readonly iretq = plain(this.#out, 'iretq', [0xcf], { width: 64, only: 64 });
  readonly ud2 = plain(this.#out, 'ud2', [0x0f, 0x0b]);

  // Conditions, by their code (SDM vol. 1, appendix B). A second name is the same instruction; a listing shows the first, as objdump.
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
  readonly jle = jumpIf(this.#out, 'jle', 0xe);
  readonly cmovb = intoRegister(this.#out, 'cmovb', 0x42);
  readonly cmova = intoRegister(this.#out, 'cmova', 0x47);

  // Strings: alone, or repeated as in `a.rep.movsq()`.
  readonly stosb = string(this.#out, 'stos', 8);
  readonly lodsb = string(this.#out, 'lods', 8);
  readonly lodsd = string(this.#out, 'lods', 32);
  readonly rep = {
    movsb: string(this.#out, 'movs', 8, 'rep'),
    movsd: string(this.#out, 'movs', 32, 'rep'),
    movsq: string(this.#out, 'movs', 64, 'rep'),
    stosb: string(this.#out, 'stos', 8, 'rep'),
    stosd: string(this.#out, 'stos', 32, 'rep'),
    stosq: string(this.#out, 'stos', 64, 'rep'),
  };

  // The machine.
  readonly hlt = plain(this.#out, 'hlt', [0xf4]);
  readonly cli = plain(this.#out, 'cli', [0xfa]);
  readonly cld = plain(this.#out, 'cld', [0xfc]);
  readonly pause = plain(this.#out, 'pause', [0x90], { prefix: 0xf3 });
  readonly cpuid = plain(this.#out, 'cpuid', [0x0f, 0xa2]);
  readonly rdtsc = plain(this.#out, 'rdtsc', [0x0f, 0x31]);
  readonly rdmsr = plain(this.#out, 'rdmsr', [0x0f, 0x32]);
  readonly wrmsr = plain(this.#out, 'wrmsr', [0x0f, 0x30]);
  readonly rdrand = random(this.#out, 'rdrand', 6);
  readonly rdseed = random(this.#out, 'rdseed', 7);
  readonly in = portIn(this.#out);
  readonly out = portOut(this.#out);
  readonly sgdt = descriptorTable(this.#out, 'sgdt', 0);
  readonly sidt = descriptorTable(this.#out, 'sidt', 1);
  readonly lgdt = descriptorTable(this.#out, 'lgdt', 2);
  readonly lidt = descriptorTable(this.#out, 'lidt', 3);
  readonly prefetcht1 = onAddress(this.#out, 'prefetcht1', [0x0f, 0x18], 2, 8);

  constructor({ bits = 64, origin }: AssemblerOptions = {}) {
    this.#out.bits = bits;
    this.#out.origin = origin;
  }

  /** Sets the mode of what follows: for an entry that switches to long mode midway. */
  bits(bits: Bits): void {
    this.#out.bits = bits;
  }

  /** A label that is not bound yet. Names are unique; they appear in errors, in the listing and in `labels`. */
  label(name: string): Label {
    return this.#out.label(name);
  }

  /** A label at a fixed offset from the first byte, which may be negative or past the end: data beside the code. */
  labelAt(name: string, offset: number): Label {
    return this.#out.labelAt(name, offset);
  }

  /** Puts the label here. Returns it, so that a backward label is one line: `const loop = a.bind(a.label('loop'))`. */
  bind(label: Label): Label {
    this.#out.bind(label);
    return label;
  }

  /** A step of the program begins with the next instruction: `ListingLine.step`. Names are unique. */
  step(name: Step): void {
    this.#out.step(name);
  }

  /** A comment on the next instruction, for people who read the listing. */
  note(text: string): void {
    this.#out.note(text);
  }

  /** Bytes, copied. Numbers are checked: signed or unsigned, 8 bits. */
  db(bytes: Uint8Array | readonly number[] | number): void {
    if (bytes instanceof Uint8Array) this.#out.data(new Uint8Array(bytes));
    else this.#words('db', typeof bytes === 'number' ? [bytes] : bytes, 8);
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

  /** Pads to the next multiple of `alignment`, counted from the first byte. The default fill is nop: right in code, harmless in data. */
  align(alignment: number, fill = 0x90): void {
    this.#out.align(alignment, Number(BigInt.asUintN(8, toSigned(fill, 8, 'align'))));
  }

  /** Where a label lies so far; more code can still move it. Throws while any label in use is unbound. */
  offsetOf(label: Label): number {
    return this.#out.offsetOf(label);
  }

  /** May be called again after more code. */
  assemble(): Assembled {
    return this.#out.assemble();
  }

  #words(directive: string, values: readonly Immediate[], width: 8 | 64): void {
    const bytes = values.flatMap((value) => littleEndian(toSigned(value, width, directive), width / 8));
    this.#out.data(Uint8Array.from(bytes));
  }
}
