/**
 * Operands of instructions that hold an address: immediates and displacements.
 *
 * The kernel is linked in the last 2 GiB, so 32 bits hold an address where they are sign-extended. Only 64-bit operations do that: the immediate of a 32-bit operation is a number,
 * however much it looks like an address. Among the 64-bit operations, AND, OR, XOR and TEST take masks; but compilers make `condition ? &object : 0` of AND, too.
 *
 * Compilers add to addresses, and take from them: `_text - 1`, `&array[index - 1000]`. So what is near the image, but outside it, is a doubt. The kernels that were tried have none but
 * __START_KERNEL_map, which is 16 MiB below.
 */
import { PAGE_SIZE, PMD_SIZE } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { PREFIX } from '../../x86/decoder.ts';
import type { Decoder } from '../../x86/decoder.ts';
import { partAt } from '../image.ts';
import type { Part, RecoverImage } from '../image.ts';
import type { Ledger } from '../ledger.ts';
import { isNamed } from '../target.ts';
import { instructionsBefore } from '../window.ts';

/** A field whose neighbours decide, and the instruction that it is in. */
export interface Field {
  readonly part: Part;
  readonly instruction: PhysAddr;
  readonly place: PhysAddr;
}

/** An operand of a mask. `isBits`: of OR or XOR, which change bits rather than choose them. */
interface Mask extends Field {
  readonly isBits: boolean;
}

export interface Later {
  /** MOVABS of physical addresses, which are sites; phys_base is found from them. */
  readonly wide: Field[];
  readonly physical: Field[];
  readonly zeros: Field[];
  /** MOVABS of the persistent ring buffer's magic number. */
  readonly ringBuffers: Field[];
  readonly linkStarts: Field[];
  /** Of IMUL. */
  readonly factors: Field[];
  /** Of AND, OR, XOR and TEST. */
  readonly masks: Mask[];
  /** MOVABS of a sum of a physical address and a number beyond 32 bits, and MOV of a physical address to a register of 64 bits. */
  readonly sums: (Field & { readonly list: 'abs64' | 'abs32' })[];
  /** Descriptors that LGDT and LIDT load: places of their limit fields. */
  readonly descriptors: PhysAddr[];
}

const PUSH = 0x68;
const LEA = 0x8d;
const MOV = 0xc7;
const IMUL = 0x69;
const CMP = { accumulator: 0x3d, group: 0x81, reg: 7 } as const;
/** Addresses lead so far beyond the image, below it and above it. */
const BELOW = PMD_SIZE;
const ABOVE = 8 * PMD_SIZE;

/** Whether this operation sign-extends its immediate of 32 bits to 64. */
function isWideOperation(decoder: Decoder): boolean {
  return decoder.isWide || (decoder.opcode === PUSH && (decoder.prefixes & PREFIX.operand16) === 0);
}

/** AND, OR, XOR and TEST, in all forms that have an immediate of 32 bits. */
function isMask(decoder: Decoder): boolean {
  switch (decoder.opcode) {
    case 0x0d:
    case 0x25:
    case 0x35:
    case 0xa9:
    case 0xf7:
      return true;
    case 0x81:
      return decoder.reg === 1 || decoder.reg === 4 || decoder.reg === 6;
    default:
      return false;
  }
}

/** CALL, JMP and Jcc, and what begins a transaction: their immediate is a distance. */
function isBranch({ opcode, modrm }: Decoder): boolean {
  return (
    opcode === 0xe8 || opcode === 0xe9 || (opcode >= 0x180 && opcode <= 0x18f) || (opcode === MOV && modrm === 0xf8)
  );
}

/** ADD, SUB, CMP and XOR of a register with an immediate: the forms in which a zero can be a symbol's value. */
const TO_ACCUMULATOR = new Set([0x05, 0x2d, 0x35, 0x3d]);
const OF_GROUP = new Set([0, 5, 6, 7]);

/** The end of a section, at a page, plus PMD_SIZE - 1. The sections after .bss take less than 2 MiB. */
function isRoundedEnd(target: PhysAddr, high: PhysAddr): boolean {
  return target > high && target < high + PMD_SIZE && target % PAGE_SIZE === PAGE_SIZE - 1;
}

export function judgeOperand(image: RecoverImage, part: Part, decoder: Decoder, ledger: Ledger, later: Later): void {
  const { immediate, opcode } = decoder;
  const value = part.view.getInt32(immediate, true);
  const target = value + 0x8000_0000;
  const place = part.start + immediate;
  const { start: low, end: high } = image;
  if (target >= low && target <= high) {
    if (isBranch(decoder)) return;
    if (!isWideOperation(decoder)) ledger.number('narrow');
    else if (isMask(decoder))
      later.masks.push({
        ...fieldOf(part, decoder, place),
        isBits: decoder.reg === 1 || decoder.reg === 6 || opcode === 0x0d || opcode === 0x35,
      });
    else if (isComparedWithMask(image, part, decoder, value)) ledger.number('mask');
    else if (opcode === IMUL) later.factors.push(fieldOf(part, decoder, place));
    else if (target === low && opcode === MOV) later.linkStarts.push(fieldOf(part, decoder, place));
    else if (target === low && isComparedWithItself(image, part, decoder, value))
      ledger.doubt('link-start', 'abs32', place, BigInt(value));
    else {
      image.named.add(target);
      ledger.site('operand', 'abs32', place);
    }
    return;
  }
  if (!decoder.isWide || isBranch(decoder)) return;
  if (isNear(image, target)) {
    // _end, or the end of .bss before it, to be rounded up to the page that maps it.
    if (target === high + PMD_SIZE - 1 || isRoundedEnd(target, high)) ledger.site('operand', 'abs32', place);
    else if (!isMask(decoder)) ledger.doubt('operand', 'abs32', place, BigInt(value));
  } else if (value === 0) {
    const isRegister = decoder.modrm >= 0xc0;
    if (
      TO_ACCUMULATOR.has(opcode) ||
      (isRegister && (opcode === MOV || (opcode === 0x81 && OF_GROUP.has(decoder.reg))))
    )
      later.zeros.push(fieldOf(part, decoder, place));
  } else if (value >= low && value <= high && (opcode === 0x05 || (opcode === 0x81 && decoder.reg === 0)))
    later.physical.push(fieldOf(part, decoder, place));
  else if (value >= low && value <= high && opcode === MOV && decoder.modrm >= 0xc0)
    // The form of 32 bits does the same in fewer bytes: it was an address.
    later.sums.push({ ...fieldOf(part, decoder, place), list: 'abs32' });
}

function isNear({ start, end }: RecoverImage, target: PhysAddr): boolean {
  return (target < start && target >= start - BELOW) || (target > end && target < end + ABOVE);
}

function fieldOf(part: Part, decoder: Decoder, place: PhysAddr): Field {
  return { part, instruction: part.start + decoder.start, place };
}

/** `(x & mask) == mask`: the same number twice. */
function isComparedWithMask(image: RecoverImage, part: Part, { opcode, reg, start }: Decoder, value: number): boolean {
  if (opcode !== 0x3d && !(opcode === 0x81 && reg === 7)) return false;
  for (const before of instructionsBefore(image, part, part.start + start, 4))
    if (before.immediateSize === 4 && isMask(before) && part.view.getInt32(before.immediate, true) === value)
      return true;
  return false;
}

/** `_text == __START_KERNEL`: the compiler moves _text to the register first. */
function isComparedWithItself(image: RecoverImage, part: Part, decoder: Decoder, value: number): boolean {
  const { opcode, reg, start } = decoder;
  if (opcode !== CMP.accumulator && !(opcode === CMP.group && reg === CMP.reg)) return false;
  const compared = opcode === CMP.accumulator ? 0 : decoder.rmRegister;
  for (const before of instructionsBefore(image, part, part.start + start, 4))
    if (
      before.opcode === MOV &&
      before.isWide &&
      before.writtenRegister === compared &&
      part.view.getInt32(before.immediate, true) === value
    )
      return true;
  return false;
}

/**
 * gcc -Os makes `index < 0 ? &object : 0` of a shift and AND. Real masks are of AND and TEST, and lead to what nothing names: three numbers in Debian's kernels. With the start of the image they are
 * three more.
 */
export function judgeMasks(image: RecoverImage, masks: readonly Mask[], ledger: Ledger): void {
  for (const { part, place, isBits } of masks) {
    const value = part.view.getInt32(place - part.start, true);
    const target = value + 0x8000_0000;
    const holder = partAt(image, target);
    const isInCode = holder !== undefined && image.code.includes(holder);
    const isObject =
      image.named.has(target) ||
      (!isInCode && (isNamed(image, target) || (target % 8 === 0 && target % PAGE_SIZE !== 0)));
    if (target !== image.start && (isBits || isObject)) ledger.doubt('mask', 'abs32', place, BigInt(value));
    else ledger.number('mask');
  }
}

/** A factor of IMUL is the address of something that other code names too, or a number. */
export function judgeFactors(image: RecoverImage, factors: readonly Field[], ledger: Ledger): void {
  for (const { part, place } of factors) {
    const value = part.view.getInt32(place - part.start, true);
    if (isNamed(image, value + 0x8000_0000)) ledger.site('factor', 'abs32', place);
    else ledger.doubt('factor', 'abs32', place, BigInt(value));
  }
}

export function judgeDisplacement(
  image: RecoverImage,
  part: Part,
  decoder: Decoder,
  ledger: Ledger,
  later: Later,
): void {
  const { start: low, end: high, named } = image;
  const { displacement, displacementSize } = decoder;
  const place = part.start + displacement;
  if (displacementSize === 8) {
    // MOV between the accumulator and an absolute address. Compilers do not make it.
    const value = part.view.getBigInt64(displacement, true);
    if (value + 0x8000_0000n >= BigInt(low) && value + 0x8000_0000n <= BigInt(high))
      ledger.site('wide', 'abs64', place);
    return;
  }
  const value = part.view.getInt32(displacement, true);
  const target = value + 0x8000_0000;
  const isLea = decoder.opcode === LEA;
  if (target >= low && target <= high) {
    if ((isLea && !decoder.isWide) || (decoder.prefixes & PREFIX.address) !== 0) ledger.number('narrow');
    else {
      named.add(target);
      if (isDescriptorLoad(decoder)) later.descriptors.push(target);
      ledger.site('displacement', 'abs32', place);
    }
  } else if (isLea && decoder.isWide && value >= low && value <= high) {
    later.physical.push(fieldOf(part, decoder, place));
  } else if (isNear(image, target)) {
    if (!(isLea && !decoder.isWide) && (decoder.prefixes & PREFIX.address) === 0)
      ledger.doubt('displacement', 'abs32', place, BigInt(value));
  } else if (value === 0 && isLea && decoder.isWide && decoder.mod === 2) {
    // One byte would hold a zero: it was the value of a symbol.
    later.zeros.push(fieldOf(part, decoder, place));
  }
}

/** LGDT and LIDT. */
export function isDescriptorLoad({ opcode, reg }: Decoder): boolean {
  return opcode === 0x101 && (reg === 2 || reg === 3);
}

/** struct ring_buffer_meta begins with a magic number and its own size, which compilers store at once (kernel/trace/ring_buffer.c). */
const RING_BUFFER_MAGIC = 0xbad_feed;
const RING_BUFFER_SIZE_AT_MOST = 0x1000;

/** MOVABS. Of a number that 32 bits could hold, no compiler makes one: a relocation was there. */
export function judgeWide(
  { start: low, end: high }: RecoverImage,
  part: Part,
  decoder: Decoder,
  ledger: Ledger,
  later: Later,
): void {
  const { immediate } = decoder;
  const half = part.view.getUint32(immediate, true);
  const upper = part.view.getInt32(immediate + 4, true);
  const place = part.start + immediate;
  const target = half - 0x8000_0000;
  if (upper === -1 && target >= low && target <= high) ledger.site('wide', 'abs64', place);
  else if (upper === 0 && half >= low && half <= high) {
    ledger.site('wide-physical', 'abs64', place);
    later.wide.push(fieldOf(part, decoder, place));
  } else if (upper === -1 && half >= 0x8000_0000) ledger.doubt('wide', 'abs64', place, BigInt(half | 0));
  else if (half >= low && half <= high) later.sums.push({ ...fieldOf(part, decoder, place), list: 'abs64' });
  else if (half === RING_BUFFER_MAGIC && upper > 0 && upper < RING_BUFFER_SIZE_AT_MOST)
    later.ringBuffers.push(fieldOf(part, decoder, place));
}
