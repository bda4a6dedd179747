/**
 * A disassembler: iced-x86, loaded on first use, because it is 2 MB of WebAssembly and only shuffling and its proof need it.
 *
 * All instructions, two and a half million in Debian's 6.1, are decoded into one object. Measured there with Node 20: 0.2 µs an instruction, including all
 * queries about it.
 */
import { KernelImageError } from '../base/errors.ts';

type Iced = typeof import('iced-x86');

/** Where control goes after an instruction. `branch` is a conditional direct branch; `jump` and `call` are direct. */
export const FLOW = { next: 0, ends: 1, branch: 2, jump: 3, call: 4 } as const;

export interface Disassembler {
  /** Continues at an offset in the code. */
  seek(offset: number): void;
  /** Decodes one instruction and returns the offset of the next; -1 when there is no valid instruction. */
  step(): number;
  /** One of FLOW, for the last instruction. */
  flow(): number;
  /** For the last instruction: the offset in it of its RIP-relative operand's displacement; -1 without such an operand. */
  ripOperand(): number;
  /** Whether padding is made of such instructions as the last one: a no-operation or int3. */
  isFiller(): boolean;
  free(): void;
}

export async function loadDisassembler(): Promise<(code: Uint8Array) => Disassembler> {
  let iced: Iced;
  try {
    iced = await import('iced-x86');
  } catch (error) {
    throw new KernelImageError({ code: 'unsupported', what: 'shuffling without the package iced-x86', cause: error });
  }
  const { Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind } = iced;
  const flows = new Uint8Array(16).fill(FLOW.next);
  for (const kind of [FlowControl.Return, FlowControl.Interrupt, FlowControl.Exception, FlowControl.IndirectBranch])
    flows[kind] = FLOW.ends;
  flows[FlowControl.ConditionalBranch] = FLOW.branch;
  flows[FlowControl.UnconditionalBranch] = FLOW.jump;
  flows[FlowControl.Call] = FLOW.call;
  return (code) => {
    const decoder = new Decoder(64, code, DecoderOptions.None);
    const instruction = new Instruction();
    return {
      seek(offset) {
        decoder.position = offset;
      },
      step() {
        decoder.decodeOut(instruction);
        return decoder.lastError === 0 ? decoder.position : -1;
      },
      flow() {
        const flow = flows[instruction.flowControl]!;
        // iced-x86 counts far jumps as jumps, and SYSCALL and VMMCALL as calls.
        if (flow < FLOW.branch || instruction.op0Kind === OpKind.NearBranch64) return flow;
        return flow === FLOW.jump ? FLOW.ends : FLOW.next;
      },
      ripOperand() {
        if (!instruction.isIpRelMemoryOperand) return -1;
        const offsets = decoder.getConstantOffsets(instruction);
        const at = offsets.hasDisplacement ? offsets.displacementOffset : -1;
        offsets.free();
        return at;
      },
      isFiller: () => instruction.mnemonic === Mnemonic.Nop || instruction.mnemonic === Mnemonic.Int3,
      free() {
        instruction.free();
        decoder.free();
      },
    };
  };
}
