/**
 * Zeros that become the slide. `_text - __START_KERNEL` is 0 in a kernel as it is linked; the assembler leaves a relocation, and the running kernel finds its slide there. The kernel uses it in three places: the
 * line KERNELOFFSET of vmcoreinfo, the line "Kernel Offset" of a panic, and the seed of kaslr_get_random_long.
 *
 * No compiler clears a register by `mov $0` in its long form: it was the value of a symbol. With per-cpu data linked at 0, its first symbol has that value too; and some
 * hand-written code has such a zero. On 69 kernels none of these but the three above needs the slide, but for the one of `storedZeros`.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { cString } from '../../base/bytes.ts';
import type { Decoder } from '../../x86/decoder.ts';
import { partAt } from '../image.ts';
import type { Part, RecoverImage } from '../image.ts';
import type { Ledger } from '../ledger.ts';
import { instructionsBefore, instructionsFrom, ripTarget } from '../window.ts';
import type { Field, Later } from './operands.ts';

/** Strings that are printed with the slide, from their start or after the two bytes of a level of printk. */
const PRINTED = ['KERNELOFFSET=', 'Kernel Offset: 0x'];
const LEVEL = 2;
/** The factor of the circular multiply in kaslr_get_random_long (arch/x86/lib/kaslr.c). */
const FACTOR = [0xf384_8dd3, 0x5d60_08cb] as const;
/** kaslr_get_random_long has some 130 instructions. */
const FUNCTION = 160;

/** `linkStarts`: MOV of _text's address. Beside the zero of "Kernel Offset" it is the constant __START_KERNEL. */
export function judgeZeros(
  image: RecoverImage,
  { zeros, linkStarts, ringBuffers }: Pick<Later, 'zeros' | 'linkStarts' | 'ringBuffers'>,
  ledger: Ledger,
): void {
  const stored = ringBuffers.flatMap((field) => storedZeros(image, field));
  for (const place of stored) ledger.doubt('ring-buffer', 'abs32', place, 0n);
  for (const { part, instruction, place } of zeros) {
    if (isBesideString(image, part, instruction) || isBesideFactor(image, part, instruction))
      ledger.site('zero', 'abs32', place);
    else if (stored.some((other) => Math.abs(other - place) < RING_BUFFER))
      ledger.doubt('ring-buffer', 'abs32', place, 0n);
    else if (image.perCpu > 0 || isBeforeCall(part, instruction)) ledger.number('per-cpu-zero');
    else ledger.doubt('zero', 'abs32', place, 0n);
  }
  for (const { part, instruction, place } of linkStarts) {
    if (isBesideString(image, part, instruction)) ledger.number('link-start');
    else ledger.site('operand', 'abs32', place);
  }
}

/** kernel/trace/ring_buffer.c has some 200 KiB of code at most. */
const RING_BUFFER = 0x20000;
/** Instructions from the magic number to the store, and from a call of that function to one. */
const STORE_WINDOW = 12;
const CALL_WINDOW = 6;
/** The function that stores the magic number begins so near before it. */
const FUNCTION_BYTES = 0x400;

/**
 * 6.14 stores its slide in the persistent ring buffer, after the magic number and after calls of the function that stores that: as zeros in memory, like any other. Where there is such a store
 * at all, all that may be one are doubts.
 */
function storedZeros(image: RecoverImage, { part, instruction }: Field): PhysAddr[] {
  const first = zeroStores(part, instruction, STORE_WINDOW);
  if (first.length === 0) return [];
  const found = [...first];
  for (
    let at = Math.max(part.start, instruction - RING_BUFFER);
    at < Math.min(part.end, instruction + RING_BUFFER);
    at++
  ) {
    if (part.bytes[at - part.start] !== CALL || !image.instructions.has(at) || at + 5 > part.end) continue;
    const target = at + 5 + part.view.getInt32(at + 1 - part.start, true);
    if (target <= instruction && target > instruction - FUNCTION_BYTES)
      found.push(...zeroStores(part, at + 5, CALL_WINDOW));
  }
  return [...new Set(found)];
}

const CALL = 0xe8;
const MOV = 0xc7;

/** `movq $0, 8(reg)` among the next instructions. */
function zeroStores(part: Part, from: PhysAddr, count: number): PhysAddr[] {
  const found: PhysAddr[] = [];
  for (const { isWide, opcode, mod, immediate, immediateSize } of instructionsFrom(part, from, count))
    if (isWide && opcode === MOV && mod === 1 && immediateSize === 4) {
      const at = immediate;
      if (part.bytes[at - 1] === 8 && part.view.getInt32(at, true) === 0) found.push(part.start + at);
    }
  return found;
}

const RCX = 1;

/** Hand-written code clears the fourth argument so: ftrace's entry does before it calls a tracer. */
function isBeforeCall(part: Part, instruction: PhysAddr): boolean {
  const [first] = instructionsFrom(part, instruction, 1);
  if (first?.opcode !== MOV || first.writtenRegister !== RCX) return false;
  for (const { opcode, start } of instructionsFrom(part, instruction, 3))
    if (opcode === CALL && part.start + start !== instruction) return true;
  return false;
}

function isBesideString(image: RecoverImage, part: Part, instruction: PhysAddr): boolean {
  for (const other of around(image, part, instruction, 5)) {
    const target = ripTarget(part, other) ?? immediateTarget(part, other);
    if (target === undefined) continue;
    const holder = partAt(image, target, 1);
    if (holder === undefined) continue;
    const text = cString(holder.bytes, target - holder.start, 32);
    if (PRINTED.some((start) => text.startsWith(start) || text.startsWith(start, LEVEL))) return true;
  }
  return false;
}

function isBesideFactor(image: RecoverImage, part: Part, instruction: PhysAddr): boolean {
  for (const other of around(image, part, instruction, FUNCTION)) {
    if (other.immediateSize === 8 && isFactor(part, other.immediate)) return true;
    // clang multiplies by a constant in memory.
    const target = ripTarget(part, other);
    const holder = target === undefined ? undefined : partAt(image, target, 8);
    if (holder !== undefined && isFactor(holder, target! - holder.start)) return true;
  }
  return false;
}

function isFactor({ view }: Part, at: number): boolean {
  return view.getUint32(at, true) === FACTOR[0] && view.getUint32(at + 4, true) === FACTOR[1];
}

function* around(image: RecoverImage, part: Part, instruction: PhysAddr, count: number): Generator<Decoder> {
  yield* instructionsBefore(image, part, instruction, count);
  yield* instructionsFrom(part, instruction, count);
}

function immediateTarget({ view }: Part, { immediateSize, immediate, isWide }: Decoder): PhysAddr | undefined {
  return immediateSize === 4 && isWide ? view.getInt32(immediate, true) + 0x8000_0000 : undefined;
}
