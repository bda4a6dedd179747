/**
 * Operands that are not registers: labels, memory and immediates; and the error that a wrong operand throws.
 *
 * Memory is written as a size, then the parts of the address (SDM vol. 1, section 3.7.5):
 *
 *     qword(rdi, 8)               QWORD PTR [rdi+0x8]
 *     byte(rsi, rcx, 1, 0x211)    BYTE PTR [rsi+rcx*1+0x211]
 *     dword(null, rcx, 4, 0x10)   DWORD PTR [rcx*4+0x10]
 *     dword(0x1000)               DWORD PTR ds:0x1000, an absolute address of 32 bits
 *     qword(label, 8)             QWORD PTR [rip+…]: 8 past the label, in 64-bit code
 *     dword(ebp, label, 8)        DWORD PTR [ebp+…]: the label's address as displacement, as 32-bit code does it
 *     mem(…)                      an address alone, for lea, lgdt, prefetcht1
 *
 * The address of a label is the program's origin plus its offset. The origin is 0 unless the Assembler was given one, so a label counts
 * from the first byte of code: with the address of that byte in ebp, `dword(ebp, label)` works wherever the code was loaded.
 */
import { hex } from '../base/errors.ts';
import type { Gpr, OperandWidth } from './registers.ts';

/** A mistake in our own assembly code: never thrown because of what a kernel image contains. The message says what to write instead. */
export class AssemblyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'AssemblyError';
  }
}

/** A place in the program. `Assembler.label` makes them; the object is the identity, the name is for people. */
export class Label {
  readonly kind = 'label';
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** Numbers up to 2^53; larger values are bigint. Signed or unsigned, as long as it fits the operand. */
export type Immediate = number | bigint;

export type AddressRegister = Gpr<32> | Gpr<64>;
export type Scale = 1 | 2 | 4 | 8;

export interface Memory {
  readonly kind: 'memory';
  /** Undefined for `mem`: the instruction alone says what is accessed. */
  readonly width: OperandWidth | undefined;
  readonly base: AddressRegister | undefined;
  readonly index: AddressRegister | undefined;
  readonly scale: Scale;
  readonly displacement: number;
  /** Alone it means RIP-relative (64-bit code); with a base, its address is added to the displacement. */
  readonly label: Label | undefined;
}

/** What `byte`, `word`, `dword`, `qword` and `mem` accept; see the table above. */
export interface MemoryOperand {
  (base: AddressRegister, displacement?: number): Memory;
  (base: AddressRegister, label: Label, displacement?: number): Memory;
  (base: AddressRegister | null, index: AddressRegister, scale: Scale, displacement?: number): Memory;
  (label: Label, displacement?: number): Memory;
  (address: number): Memory;
}

type Part = AddressRegister | Label | number | null | undefined;

function isRegister(part: Part): part is AddressRegister {
  return typeof part === 'object' && part?.kind === 'gpr';
}

function checkAddress({ base, index, scale, displacement }: Memory): void {
  for (const register of [base, index]) {
    const width: OperandWidth | undefined = register?.width;
    if (register === undefined || width === 64 || width === 32) continue;
    throw new AssemblyError(`an address is made of 64-bit or 32-bit registers, not ${register.name}`);
  }
  if (base !== undefined && index !== undefined && base.width !== index.width) {
    throw new AssemblyError(`${base.name} and ${index.name} in one address: base and index have the same width`);
  }
  if (index?.number === 4) {
    throw new AssemblyError(
      `${index.name} cannot be an index (SIB.index 100b means none); make it the base and index the other one`,
    );
  }
  if (![1, 2, 4, 8].includes(scale)) throw new AssemblyError(`scale ${scale}: an index is scaled by 1, 2, 4 or 8`);
  if (!Number.isInteger(displacement) || displacement < -0x8000_0000 || displacement > 0xffff_ffff) {
    throw new AssemblyError(`displacement ${hex(displacement)} does not fit 32 bits; add it to a register first`);
  }
}

function sized(width: OperandWidth | undefined): MemoryOperand {
  const memory = (parts: Partial<Memory>): Memory => {
    const nothing = { base: undefined, index: undefined, scale: 1, displacement: 0, label: undefined } as const;
    const whole: Memory = Object.freeze({ kind: 'memory', width, ...nothing, ...parts });
    checkAddress(whole);
    return whole;
  };
  return (first: Part, second?: Part, third?: number, fourth?: number): Memory => {
    if (typeof first === 'number') return memory({ displacement: first });
    if (first instanceof Label) return memory({ label: first, displacement: Number(second ?? 0) });
    if (isRegister(second)) {
      return memory({ base: first ?? undefined, index: second, scale: third as Scale, displacement: fourth ?? 0 });
    }
    if (!isRegister(first)) {
      throw new AssemblyError('no base and no index: write an absolute address as one number, dword(0x1000)');
    }
    if (second instanceof Label) return memory({ base: first, label: second, displacement: third ?? 0 });
    return memory({ base: first, displacement: second ?? 0 });
  };
}

export const byte: MemoryOperand = sized(8);
export const word: MemoryOperand = sized(16);
export const dword: MemoryOperand = sized(32);
export const qword: MemoryOperand = sized(64);
export const mem: MemoryOperand = sized(undefined);

/** `value` as a signed number of `width` bits, whether it was written signed or unsigned. Throws if it does not fit. */
export function toSigned(value: Immediate, width: OperandWidth, what: string): bigint {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new AssemblyError(`${what}: ${value} is not an exact integer; write large values as bigint`);
  }
  const wide = BigInt(value);
  const limit = 1n << BigInt(width);
  if (wide >= limit || wide < -limit / 2n) {
    throw new AssemblyError(`${what}: ${hex(wide)} does not fit ${width} bits`);
  }
  return BigInt.asIntN(width, wide);
}
