/**
 * The sweep of the code: each instruction is decoded once, by iced-x86, and asked about if four of its bytes look like an address where an operand can end.
 *
 * An operand of 4 bytes is the last thing in an instruction, but for an immediate after a displacement: so it begins 4, 5, 6 or 8 bytes before the instruction's end. Only where such
 * bytes look like an address is the disassembler asked for more than the length. Measured on Debian's 6.1 cloud kernel, 6.8 million instructions: 0.5 s of processor time for
 * their lengths, 0.9 s in all.
 */
import { PMD_SIZE } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { OPERATION } from './disassembler.ts';
import type { Disassembler, Operation } from './disassembler.ts';
import type { Judgement } from './judgement.ts';
import type { PlaceBits } from './place-bits.ts';
import type { JudgedImage, Stretch } from './sections.ts';

/** A field that only its neighbours tell, and where its instruction begins. `number`: of the instruction, counted from the start of the sweep. */
export interface Operand {
  readonly stretch: Stretch;
  readonly instruction: PhysAddr;
  readonly place: PhysAddr;
  readonly number: number;
}

/** `isStored`: it is stored at an offset of 8 from a register. Otherwise it is the operand of a register. */
export interface Zero extends Operand {
  readonly isStored: boolean;
}

/** What the sweep leaves to others. */
export interface Swept {
  instructions: number;
  /** Numbers of instructions that name one of the places that were asked for, with the place. */
  readonly naming: { readonly number: number; readonly target: PhysAddr }[];
  /** Descriptors that LGDT and LIDT load. */
  readonly descriptors: Set<PhysAddr>;
  readonly zeros: Zero[];
  readonly linkStarts: Operand[];
  readonly factors: Operand[];
  readonly physical: Operand[];
  /** MOVABS of physical addresses. */
  readonly widePhysical: Operand[];
  /** MOVABS of numbers whose lower half could be one: the direct map's place may be added to it. */
  readonly wideSums: Operand[];
  /** MOVABS of the circular multiply's factor in the seed of random slides, and of the ring buffer's magic number. */
  readonly seeds: number[];
  readonly ringBuffers: { readonly number: number; readonly place: PhysAddr }[];
}

export function emptySwept(): Swept {
  return {
    instructions: 0,
    naming: [],
    descriptors: new Set(),
    zeros: [],
    linkStarts: [],
    factors: [],
    physical: [],
    widePhysical: [],
    wideSums: [],
    seeds: [],
    ringBuffers: [],
  };
}

export interface SweepContext {
  readonly image: JudgedImage;
  readonly judgement: Judgement;
  /** Filled: where instructions begin. */
  readonly begins: PlaceBits;
  /** Places of data that are to be reported if code names them. */
  readonly asked: PlaceBits;
  readonly swept: Swept;
}

/** Instructions of one byte, which have no operand field: padding, PUSH, POP, RET. Most of them are known without the disassembler. */
const SHORT = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte === 0xcc || byte === 0x90 || byte === 0xc3 || (byte & 0xf0) === 0x50 ? 1 : 0,
);
/** After bytes that are no instruction, so many may be misread. */
const UNSURE = 64;
/** A mask is compared with its result so few instructions later. */
const MASKS_KEPT = 4;

/** `skip`: code of 32 bits, which is judged by itself (pvh.ts). */
export function sweepCode(
  context: SweepContext,
  stretch: Stretch,
  disassembler: Disassembler,
  skip: { readonly start: PhysAddr; readonly end: PhysAddr } | undefined,
): void {
  const { image, begins, asked, swept } = context;
  const { bytes, view, start } = stretch;
  const { low, high, perCpu } = image;
  const judge = new OperandJudge(context, stretch, disassembler);
  const length = bytes.length;
  const skipAt = skip === undefined ? -1 : skip.start - start;
  for (let at = 0; at < length;) {
    if (at === skipAt) {
      at = skip!.end - start;
      continue;
    }
    begins.add(start + at);
    swept.instructions++;
    if (SHORT[bytes[at]!] === 1) {
      at++;
      continue;
    }
    const next = disassembler.step(at);
    if (next < 0) {
      judge.unsureUntil = at + UNSURE;
      at++;
      continue;
    }
    const isLong = (bytes[at]! & 0xf8) === 0x48;
    const base = start + next;
    const virtual = (base + 0x8000_0000) | 0;
    for (let back = 4; back <= 8 && next - back > at; back += back === 6 ? 2 : 1) {
      const value = view.getInt32(next - back, true);
      const target = value + 0x8000_0000;
      if (
        (target >= low && target < high + PMD_SIZE) ||
        (value >= low && value <= high) ||
        (value === 0 && isLong && back === 4) ||
        (perCpu > 0 && ((value + virtual) | 0) >>> 0 < perCpu) ||
        asked.has(base + value)
      ) {
        judge.instruction(at, next);
        break;
      }
      // The upper half of a MOVABS; and a number whose lower half is wanted.
      if (back === 4 && bytes[next - 9]! >= 0xb8 && next - at === 10 && isWideOfInterest(view, next - 8)) {
        judge.instruction(at, next);
        break;
      }
    }
    at = next;
  }
}

/** The factor of the circular multiply in kaslr_get_random_long (arch/x86/lib/kaslr.c), low half first. */
const SEED_FACTOR = [0xf384_8dd3, 0x5d60_08cb] as const;
/** struct ring_buffer_meta's magic number, before its size (kernel/trace/ring_buffer.c). */
const RING_BUFFER_MAGIC = 0xbad_feed;

function isWideOfInterest(view: DataView, at: number): boolean {
  const half = view.getUint32(at, true);
  return half === SEED_FACTOR[0] || half === RING_BUFFER_MAGIC;
}

class OperandJudge {
  readonly #context: SweepContext;
  readonly #stretch: Stretch;
  readonly #disassembler: Disassembler;
  unsureUntil = 0;
  /** The last operands of masks. */
  readonly #masks: { readonly number: number; readonly value: number }[] = [];

  constructor(context: SweepContext, stretch: Stretch, disassembler: Disassembler) {
    this.#context = context;
    this.#stretch = stretch;
    this.#disassembler = disassembler;
  }

  /** Judges the operands of the instruction that the disassembler has just decoded. */
  instruction(at: number, next: number): void {
    const { displacement, displacementSize, immediate, immediateSize } = this.#disassembler.constants();
    if (displacementSize === 4) this.#displacement(at, next, displacement);
    else if (displacementSize === 8) this.#wide(at, displacement);
    if (immediateSize === 4) this.#immediate(at, immediate);
    else if (immediateSize === 8) this.#wide(at, immediate);
  }

  #displacement(at: number, next: number, field: number): void {
    const disassembler = this.#disassembler;
    const { image, judgement, swept, asked } = this.#context;
    const { view, start } = this.#stretch;
    const value = view.getInt32(field, true);
    const target = value + 0x8000_0000;
    const place = start + field;
    const looks = target >= image.low && target <= image.high;
    if (disassembler.isRipRelative()) {
      const named = start + next + value;
      const virtual = ((named + 0x8000_0000) | 0) >>> 0;
      if (virtual < image.perCpu) judgement.site('inverse32', place, 'it leads from RIP to per-cpu data at 0');
      else if (looks) judgement.number('distance', 'abs32', place);
      if (asked.has(named)) swept.naming.push({ number: swept.instructions, target: named });
      if (disassembler.loadsDescriptor()) swept.descriptors.add(named);
      return;
    }
    if (looks) {
      if (!disassembler.usesWholeAddress()) judgement.number('narrow', 'abs32', place);
      else {
        this.#site(at, place, 'a displacement that is an address');
        if (asked.has(target)) swept.naming.push({ number: swept.instructions, target });
        if (disassembler.loadsDescriptor()) swept.descriptors.add(target);
      }
    } else if (value >= image.low && value <= image.high) {
      const isSum = disassembler.operation() === OPERATION.lea && disassembler.usesWholeAddress();
      this.#physical(at, place, isSum);
    }
  }

  #immediate(at: number, field: number): void {
    const disassembler = this.#disassembler;
    const { image, judgement, swept, asked } = this.#context;
    const { view, start } = this.#stretch;
    const { low, high } = image;
    const value = view.getInt32(field, true);
    const target = value + 0x8000_0000;
    const place = start + field;
    const looks = target >= low && target <= high;
    if (disassembler.isBranch()) {
      if (looks) judgement.number('distance', 'abs32', place);
      return;
    }
    if (!disassembler.extendsImmediate()) {
      if (looks) judgement.number('narrow', 'abs32', place);
      else if (value >= low && value <= high) judgement.number('physical', 'abs32', place);
      return;
    }
    const operation = disassembler.operation();
    if (looks) {
      if (this.#isMask(operation, value)) return judgement.number('mask', 'abs32', place);
      if (operation === OPERATION.multiply) return void swept.factors.push(this.#operand(at, place));
      if (target === low && operation === OPERATION.move) return void swept.linkStarts.push(this.#operand(at, place));
      this.#site(at, place, 'a sign-extended operand that is an address');
      if (asked.has(target)) swept.naming.push({ number: swept.instructions, target });
    } else if (target > high && target < high + PMD_SIZE) {
      // _end, rounded up to the 2 MiB page that maps it.
      if (target === high + PMD_SIZE - 1) judgement.site('abs32', place, '_end, to be rounded up to 2 MiB');
      else if (operation !== OPERATION.mask) judgement.open('past-end', 'abs32', place);
    } else if (value === 0) {
      if (disassembler.isToRegister()) {
        const takesSlide = operation >= OPERATION.compare || disassembler.isXor();
        if (takesSlide) swept.zeros.push({ ...this.#operand(at, place), isStored: false });
      } else if (operation === OPERATION.move && view.getUint8(field - 1) === 8 && field - at === 4)
        swept.zeros.push({ ...this.#operand(at, place), isStored: true });
    } else if (value >= low && value <= high) this.#physical(at, place, operation === OPERATION.add);
  }

  #site(at: number, place: PhysAddr, what: string): void {
    const { judgement } = this.#context;
    if (at < this.unsureUntil) judgement.open('undecodable', 'abs32', place);
    else judgement.site('abs32', place, what);
  }

  #physical(at: number, place: PhysAddr, isSum: boolean): void {
    if (isSum) this.#context.swept.physical.push(this.#operand(at, place));
    else this.#context.judgement.number('physical', 'abs32', place);
  }

  /** Also `(x & mask) == mask`: what is compared with the operand of a mask just before it. */
  #isMask(operation: Operation, value: number): boolean {
    const number = this.#context.swept.instructions;
    const masks = this.#masks;
    if (operation === OPERATION.mask) {
      masks.push({ number, value });
      if (masks.length > MASKS_KEPT) masks.shift();
      return true;
    }
    return (
      operation === OPERATION.compare &&
      masks.some((mask) => mask.value === value && number - mask.number <= MASKS_KEPT)
    );
  }

  #wide(at: number, field: number): void {
    const { image, judgement, swept } = this.#context;
    const { view, start } = this.#stretch;
    const half = view.getUint32(field, true);
    const upper = view.getInt32(field + 4, true);
    const place = start + field;
    const { low, high } = image;
    const target = half - 0x8000_0000;
    if (upper === -1 && target >= low && target <= high)
      judgement.site('abs64', place, 'an operand of 64 bits that is an address');
    else if (upper === 0 && half >= low && half <= high) {
      // 32 bits would hold such a number: a relocation made the compiler take 64.
      judgement.site('abs64', place, 'a physical address in 64 bits, which 32 would hold');
      swept.widePhysical.push(this.#operand(at, place));
    } else if (half >= low && half <= high) swept.wideSums.push(this.#operand(at, place));
    else {
      judgement.number('wide', 'abs64', place);
      if (half === SEED_FACTOR[0] && upper === SEED_FACTOR[1]) swept.seeds.push(swept.instructions);
      if (half === RING_BUFFER_MAGIC) swept.ringBuffers.push({ number: swept.instructions, place });
    }
  }

  #operand(at: number, place: PhysAddr): Operand {
    const { swept } = this.#context;
    return { stretch: this.#stretch, instruction: this.#stretch.start + at, place, number: swept.instructions };
  }
}

/** How many fields of four bytes, at any place, look like addresses, but for those that were judged. */
export function countLookalikes(
  { view, bytes, start }: Stretch,
  { low, high }: JudgedImage,
  judgement: Judgement,
): number {
  let count = 0;
  for (let at = 0; at + 4 <= bytes.length; at++) {
    const target = view.getInt32(at, true) + 0x8000_0000;
    if (target >= low && target <= high && !judgement.isJudged(start + at)) count++;
  }
  return count;
}
