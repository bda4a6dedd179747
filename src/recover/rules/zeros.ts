/**
 * Zeros that become the slide. `_text - __START_KERNEL` is 0 in a kernel as it is linked; the assembler leaves a relocation, and the running kernel finds its slide there. The kernel uses it in three places: the
 * line KERNELOFFSET of vmcoreinfo, the line "Kernel Offset" of a panic, and the seed of kaslr_get_random_long.
 *
 * No compiler clears a register by `mov $0` in its long form: it was the value of a symbol. With per-cpu data linked at 0, its first symbol has that value too.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { cString } from '../../base/bytes.ts';
import type { Decoder } from '../../x86/decoder.ts';
import { partAt } from '../image.ts';
import type { Part, RecoverImage } from '../image.ts';
import type { Ledger } from '../ledger.ts';
import { instructionsBefore, instructionsFrom, ripTarget } from '../window.ts';
import type { Field } from './operands.ts';

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
  { zeros, linkStarts }: { readonly zeros: readonly Field[]; readonly linkStarts: readonly Field[] },
  ledger: Ledger,
): { printed: number; seeds: number } {
  let printed = 0;
  let seeds = 0;
  for (const { part, instruction, place } of zeros) {
    const isPrinted = isBesideString(image, part, instruction);
    const isSeed = !isPrinted && isBesideFactor(image, part, instruction);
    if (isPrinted) printed++;
    if (isSeed) seeds++;
    if (isPrinted || isSeed) ledger.site('zero', 'abs32', place);
    else if (image.perCpu > 0) ledger.number('per-cpu-zero');
    else ledger.doubt('zero', 'abs32', place, 0n);
  }
  for (const { part, instruction, place } of linkStarts) {
    if (isBesideString(image, part, instruction)) ledger.number('link-start');
    else ledger.site('operand', 'abs32', place);
  }
  return { printed, seeds };
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
  for (const { immediateSize, immediate } of around(image, part, instruction, FUNCTION))
    if (
      immediateSize === 8 &&
      part.view.getUint32(immediate, true) === FACTOR[0] &&
      part.view.getUint32(immediate + 4, true) === FACTOR[1]
    )
      return true;
  return false;
}

function* around(image: RecoverImage, part: Part, instruction: PhysAddr, count: number): Generator<Decoder> {
  yield* instructionsBefore(image, part, instruction, count);
  yield* instructionsFrom(part, instruction, count);
}

function immediateTarget({ view }: Part, { immediateSize, immediate, isWide }: Decoder): PhysAddr | undefined {
  return immediateSize === 4 && isWide ? view.getInt32(immediate, true) + 0x8000_0000 : undefined;
}
