/**
 * The disassembler of the judge of recovered tables (verify/recovered): iced-x86, loaded on first use, because it is 2 MB of WebAssembly. What recovers a table decodes by itself (src/x86), so no instruction is misread twice
 * in the same way.
 */
import { KernelImageError } from '../../base/errors.ts';
import { OPERATION } from '../../verify/recovered/disassembler.ts';
import type { OpenDisassembler, Operation } from '../../verify/recovered/disassembler.ts';

type Iced = typeof import('iced-x86');

/** Kernels before 4.17 mark faults by UD0 as AMD has it, without the ModRM byte that Intel's manual gives it. Later kernels have none. */
const UD0_SIZE = 2;

/** Throws KernelImageError if the package is not installed. */
export async function loadOperandDisassembler(): Promise<OpenDisassembler> {
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
