/**
 * Instructions as text, exactly as `objdump -d -M intel` of GNU binutils 2.40 prints them: the tests compare the two character by character.
 *
 * So the quirks are objdump's: immediates unsigned in the width of the operand, a displacement shown whenever it is encoded
 * (`[rbp+0x0]`), RIP-relative displacements as 64-bit two's complement, absolute addresses with `ds:`.
 */
import type { Instruction, ShownOperand } from './encoder.ts';
import { Label } from './operands.ts';
import type { Memory } from './operands.ts';
import type { Bits, OperandWidth } from './registers.ts';

/** One line of a listing: an instruction, or data. */
export interface ListingLine {
  /** From the first byte of the program. */
  readonly offset: number;
  /** A view of `code`. */
  readonly bytes: Uint8Array;
  readonly bits: Bits;
  readonly data: boolean;
  /** As objdump prints it; for data a `.byte` directive. */
  readonly text: string;
  /** Names of the labels that are bound here. */
  readonly labels: readonly string[];
  /** The label that the instruction refers to. */
  readonly target?: string | undefined;
  /** The step that begins here: the name given to `Assembler.step`. */
  readonly step?: string | undefined;
  /** A comment for people, from `Assembler.note`. */
  readonly note?: string | undefined;
}

/** What the text of an instruction depends on, besides the instruction. */
export interface TextContext {
  readonly bits: Bits;
  /** Offset of the byte after the instruction: RIP-relative addresses count from here. */
  readonly end: number;
  readonly offsetOf: (label: Label) => number;
  /** The address of offset 0. */
  readonly origin: number;
}

const SIZE: Record<OperandWidth, string> = { 8: 'BYTE', 16: 'WORD', 32: 'DWORD', 64: 'QWORD' };

const unsignedHex = (value: bigint, width: number): string => `0x${BigInt.asUintN(width, value).toString(16)}`;

function memoryText(memory: Memory, context: TextContext): string {
  const { base, index, scale, label, width } = memory;
  const size = width === undefined ? '' : `${SIZE[width]} PTR `;
  const address = label === undefined ? 0 : context.origin + context.offsetOf(label);
  const displacement = BigInt(address + memory.displacement);
  if (base === undefined && index === undefined) {
    if (label === undefined || context.bits === 32) return `${size}ds:${unsignedHex(displacement, context.bits)}`;
    return `${size}[rip+${unsignedHex(displacement - BigInt(context.origin + context.end), 64)}]`;
  }
  const registers = [base?.name, index === undefined ? undefined : `${index.name}*${scale}`];
  const sum = registers.filter((register) => register !== undefined).join('+');
  // The cases in which the encoder leaves the displacement out.
  if (memory.displacement === 0 && label === undefined && base !== undefined && (base.number & 7) !== 5) {
    return `${size}[${sum}]`;
  }
  const signed = BigInt.asIntN(32, displacement);
  return `${size}[${sum}${signed < 0n ? '-' : '+'}0x${(signed < 0n ? -signed : signed).toString(16)}]`;
}

function operandText(operand: ShownOperand, context: TextContext): string {
  const valueOf = (value: bigint | Label): bigint =>
    value instanceof Label ? BigInt(context.origin + context.offsetOf(value)) : value;
  switch (operand.kind) {
    case 'memory':
      return memoryText(operand, context);
    case 'immediate':
      return unsignedHex(valueOf(operand.value), operand.width);
    case 'far':
      return `0x${operand.selector.toString(16)}:${unsignedHex(valueOf(operand.value), 32)}`;
    case 'verbatim':
      return operand.text;
    default:
      return operand.name;
  }
}

export function instructionText({ mnemonic, shown }: Instruction, context: TextContext): string {
  if (shown.length === 0) return mnemonic;
  return `${mnemonic.padEnd(6)} ${shown.map((operand) => operandText(operand, context)).join(',')}`;
}

export function branchText(mnemonic: string, target: number, bits: Bits): string {
  return `${mnemonic.padEnd(6)} ${unsignedHex(BigInt(target), bits)}`;
}

export function dataText(bytes: Uint8Array): string {
  const first = bytes[0] ?? 0;
  if (bytes.length > 8 && bytes.every((byte) => byte === first))
    return `.fill  ${bytes.length},1,0x${first.toString(16)}`;
  return `.byte  ${Array.from(bytes, (byte) => `0x${byte.toString(16)}`).join(',')}`;
}

/** No instruction is longer. Of data that is, only the first bytes are shown. */
const LONGEST_INSTRUCTION = 15;

function hexColumn(bytes: Uint8Array): string {
  const shown = Array.from(bytes.subarray(0, LONGEST_INSTRUCTION), (byte) => byte.toString(16).padStart(2, '0'));
  return bytes.length > LONGEST_INSTRUCTION ? `${shown.join(' ')} …` : shown.join(' ');
}

/** The listing for people: labels on lines of their own; targets by name, steps and notes as comments. */
export function formatListing(listing: readonly ListingLine[]): string {
  const lines: string[] = [];
  for (const { offset, bytes, text, labels, target, step, note } of listing) {
    for (const label of labels) lines.push(`${label}:`);
    const reference = target === undefined ? undefined : `→ ${target}`;
    const begins = step === undefined ? undefined : `step: ${step}`;
    const comment = [reference, begins, note].filter((part) => part !== undefined);
    const line = `${offset.toString(16).padStart(6)}:  ${hexColumn(bytes).padEnd(30)}  ${text}`;
    lines.push(comment.length === 0 ? line : `${line.padEnd(80)}  # ${comment.join('; ')}`);
  }
  return lines.map((line) => `${line}\n`).join('');
}
