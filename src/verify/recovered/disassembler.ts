/**
 * The judge's disassembler: iced-x86, loaded on first use, because it is 2 MB of WebAssembly and only a table that was recovered needs it. What recovers a table decodes by itself
 * (src/x86), so no instruction is misread twice in the same way.
 */
import { KernelImageError } from '../../base/errors.ts';

type Iced = typeof import('iced-x86');

/** What is told apart: operations that decide whether an operand can be an address. */
export const OPERATION = { other: 0, mask: 1, compare: 2, multiply: 3, move: 4, add: 5, subtract: 6, lea: 7 } as const;
export type Operation = (typeof OPERATION)[keyof typeof OPERATION];

/** The last instruction's constants. Offsets count in the code; -1: it has none. */
export interface Constants {
  readonly displacement: number;
  readonly displacementSize: number;
  readonly immediate: number;
  readonly immediateSize: number;
}

export interface Disassembler {
  /** Decodes the instruction at an offset and returns the offset of the next; -1 if none is there. */
  step(at: number): number;
  constants(): Constants;
  operation(): Operation;
  /** XOR, which is a mask and can also add a slide to a seed. */
  isXor(): boolean;
  isRipRelative(): boolean;
  isBranch(): boolean;
  /** Whether the immediate, of 4 bytes, is sign-extended to 64. */
  extendsImmediate(): boolean;
  /** Whether the displacement counts in 64 bits, and what is made of it as well. */
  usesWholeAddress(): boolean;
  loadsDescriptor(): boolean;
  /** Whether operand 0 is a register. */
  isToRegister(): boolean;
  /** The 64-bit register that the instruction writes as a whole; 0 if none. */
  written(): number;
  /** For a move between registers the source; otherwise 0. */
  copied(): number;
  /** Registers that the address or the sum is made from: those of the memory operand, or the one that is added to. */
  summands(): readonly number[];
  free(): void;
}

/** Kernels before 4.17 mark faults by UD0 as AMD has it, without the ModRM byte that Intel's manual gives it. Later kernels have none. */
const UD0_SIZE = 2;

export type OpenDisassembler = (code: Uint8Array, bits?: 32 | 64) => Disassembler;

/** Throws KernelImageError if the package is not installed. */
export async function loadDisassembler(): Promise<OpenDisassembler> {
  let iced: Iced;
  try {
    iced = await import('iced-x86');
  } catch (error) {
    throw new KernelImageError({
      code: 'unsupported',
      what: 'judging recovered relocations without the package iced-x86',
      cause: error,
    });
  }
  const { Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register, RegisterExt } = iced;
  const operations = new Map<number, Operation>([
    [Mnemonic.And, OPERATION.mask],
    [Mnemonic.Or, OPERATION.mask],
    [Mnemonic.Xor, OPERATION.mask],
    [Mnemonic.Test, OPERATION.mask],
    [Mnemonic.Cmp, OPERATION.compare],
    [Mnemonic.Imul, OPERATION.multiply],
    [Mnemonic.Mov, OPERATION.move],
    [Mnemonic.Add, OPERATION.add],
    [Mnemonic.Sub, OPERATION.subtract],
    [Mnemonic.Lea, OPERATION.lea],
  ]);
  const readsOnly = new Set<number>([Mnemonic.Cmp, Mnemonic.Test, Mnemonic.Push]);
  const descriptorLoads = new Set<number>([Mnemonic.Lgdt, Mnemonic.Lidt]);
  const isRegister64 = (register: number): boolean => register >= Register.RAX && register <= Register.R15;
  return (code, bits = 64) => {
    const decoder = new Decoder(bits, code, DecoderOptions.None);
    const instruction = new Instruction();
    let position = 0;
    let start = 0;
    const operation = (): Operation => operations.get(instruction.mnemonic) ?? OPERATION.other;
    return {
      step(at) {
        if (at !== position) decoder.position = at;
        decoder.decodeOut(instruction);
        start = at;
        position = decoder.position;
        if (code[at] === 0x0f && code[at + 1] === 0xff) return at + UD0_SIZE;
        return decoder.lastError === 0 ? position : -1;
      },
      constants() {
        const offsets = decoder.getConstantOffsets(instruction);
        const found = {
          displacement: offsets.hasDisplacement ? start + offsets.displacementOffset : -1,
          displacementSize: offsets.displacementSize,
          immediate: offsets.hasImmediate ? start + offsets.immediateOffset : -1,
          immediateSize: offsets.immediateSize,
        };
        offsets.free();
        return found;
      },
      operation,
      isXor: () => instruction.mnemonic === Mnemonic.Xor,
      isRipRelative: () => instruction.isIpRelMemoryOperand,
      isBranch: () => instruction.op0Kind <= OpKind.FarBranch32 && instruction.op0Kind !== OpKind.Register,
      extendsImmediate() {
        for (let index = 0; index < instruction.opCount; index++)
          if (instruction.opKind(index) === OpKind.Immediate32to64) return true;
        return false;
      },
      usesWholeAddress: () =>
        instruction.memoryDisplSize === 8 &&
        (instruction.mnemonic !== Mnemonic.Lea || isRegister64(instruction.op0Register)),
      loadsDescriptor: () => descriptorLoads.has(instruction.mnemonic),
      isToRegister: () => instruction.opCount > 0 && instruction.op0Kind === OpKind.Register,
      written() {
        if (instruction.opCount === 0 || instruction.op0Kind !== OpKind.Register) return 0;
        if (readsOnly.has(instruction.mnemonic)) return 0;
        const whole = RegisterExt.fullRegister(instruction.op0Register);
        return isRegister64(whole) ? whole : 0;
      },
      copied: () =>
        instruction.mnemonic === Mnemonic.Mov && instruction.opCount === 2 && instruction.op1Kind === OpKind.Register
          ? RegisterExt.fullRegister(instruction.op1Register)
          : 0,
      summands() {
        if (operation() === OPERATION.lea)
          return [instruction.memoryBase, instruction.memoryIndex].filter((register) => register !== Register.None);
        return operation() === OPERATION.add ? [RegisterExt.fullRegister(instruction.op0Register)] : [];
      },
      free() {
        instruction.free();
        decoder.free();
      },
    };
  };
}
