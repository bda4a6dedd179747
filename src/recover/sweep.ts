/**
 * The sweep: all code is disassembled once, from the start of each section to its end, and every field that may hold an address goes to its rule.
 *
 * Whether the sweep met the instructions that the processor will execute is checked afterwards, against what the kernel's own tables say of its code (anchors.ts).
 */
import { Decoder } from '../x86/decoder.ts';
import type { PhysAddr } from '../base/addresses.ts';
import type { Part, RecoverImage } from './image.ts';
import type { Ledger } from './ledger.ts';
import { isDescriptorLoad, judgeDisplacement, judgeOperand, judgeWide } from './rules/operands.ts';
import type { Later } from './rules/operands.ts';
import type { PvhCode } from './rules/pvh.ts';

export interface SweepResult {
  readonly instructions: number;
  /** Places at which nothing valid begins. */
  readonly undecodable: readonly PhysAddr[];
  /** Fields that only their neighbours tell. */
  readonly later: Later;
}

/** `pvh`: 32-bit code, which has rules of its own. */
export function sweep(image: RecoverImage, ledger: Ledger, pvh: PvhCode | undefined): SweepResult {
  const later: Later = {
    wide: [],
    physical: [],
    zeros: [],
    ringBuffers: [],
    descriptors: [],
    linkStarts: [],
    factors: [],
    masks: [],
    sums: [],
  };
  const undecodable: PhysAddr[] = [];
  let instructions = 0;
  for (const part of image.code) instructions += sweepPart(image, part, ledger, pvh, later, undecodable);
  return { instructions, undecodable, later };
}

export function sweepPart(
  image: RecoverImage,
  part: Part,
  ledger: Ledger,
  pvh: PvhCode | undefined,
  later: Later,
  undecodable: PhysAddr[],
): number {
  const { bytes, view, start } = part;
  const { perCpu, instructions, named } = image;
  const decoder = new Decoder(bytes);
  const pvhAt = pvh === undefined ? -1 : pvh.start - start;
  let count = 0;
  for (let at = 0; at < bytes.length;) {
    if (at === pvhAt) {
      at += pvh!.end - pvh!.start;
      continue;
    }
    if (!decoder.decode(at)) {
      undecodable.push(start + at++);
      continue;
    }
    instructions.add(start + at);
    at = decoder.next;
    count++;
    if (decoder.displacement !== 0) {
      const field = decoder.displacement;
      if (decoder.isRipRelative) {
        const distance = view.getInt32(field, true);
        const target = start + at + distance;
        named.add(target);
        if (perCpu > 0) {
          const low32 = (target + 0x8000_0000) | 0;
          if (low32 >= 0 && low32 < perCpu) ledger.site('per-cpu', 'inverse32', start + field);
        }
        if (isDescriptorLoad(decoder)) later.descriptors.push(target);
      } else judgeDisplacement(image, part, decoder, ledger, later);
    }
    if (decoder.immediate !== 0) {
      if (decoder.immediateSize === 8) judgeWide(image, part, decoder, ledger, later);
      else judgeOperand(image, part, decoder, ledger, later);
    }
  }
  return count;
}
