/**
 * What the judge asks a disassembler. The core has none: it is given one (`VerifyOptions.loadDisassembler`), as codecs are. The one that there is, is in shuffle/verify/operand-disassembler.ts.
 */

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

export type OpenDisassembler = (code: Uint8Array, bits?: 32 | 64) => Disassembler;
