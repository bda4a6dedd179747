/**
 * Code in the data: since 6.14 relocate_kernel, which kexec copies before it runs it, is in .data. The kernel's tables of code name places in it, and it is known by the MOVs of link addresses
 * in it, a form that data has only by chance, once in 70 million bytes (relocs/complete.ts).
 */
import type { PhysAddr } from '../base/addresses.ts';
import { viewOf } from '../base/bytes.ts';
import { KernelImageError } from '../base/errors.ts';
import { short } from '../base/text.ts';
import type { Part, RecoverImage } from './image.ts';
import type { Ledger } from './ledger.ts';
import type { Later } from './rules/operands.ts';
import { sweepPart } from './sweep.ts';

/** The kernel's linker script aligns it. */
const ALIGN = 0x100;
/** It is no longer than a page (arch/x86/kernel/machine_kexec_64.c refuses more). */
const LONGEST = 0x1000;
/** After the last place that is known, at most so much is code. */
const TAIL = 0x100;

/** `anchors`: places in data that the kernel's tables name as instructions. Returns the number of instructions. */
export function judgeCodeInData(
  image: RecoverImage,
  anchors: readonly PhysAddr[],
  ledger: Ledger,
  later: Later,
): number {
  let count = 0;
  for (const part of image.data) {
    const moves = findMoves(part, image);
    expectCode(part, moves.length);
    const known = [...moves, ...anchors.filter((place) => place >= part.start && place < part.end)].toSorted(
      (a, b) => a - b,
    );
    for (let from = 0; from < known.length;) {
      const first = known[from]!;
      const start = findStart(image, part, first);
      const inRegion = (place: PhysAddr): boolean => place < (start ?? first) + LONGEST;
      let to = from;
      while (to < known.length && inRegion(known[to]!)) to++;
      const last = known[to - 1]!;
      from = to;
      if (start === undefined) {
        for (const place of moves.filter((each) => each >= first && each <= last))
          ledger.doubt('code-in-data', 'abs32', place + 3, BigInt(part.view.getInt32(place + 3 - part.start, true)));
        continue;
      }
      const bytes = part.bytes.subarray(start - part.start, Math.min(last + TAIL, part.end) - part.start);
      const region = { ...part, start, end: start + bytes.length, bytes, view: viewOf(bytes) };
      count += sweepPart(image, region, ledger, undefined, later, []);
    }
  }
  return count;
}

/** Kernels that were tried have two or none. */
const MOST_MOVES = 256;

function expectCode({ name }: Part, count: number): void {
  if (count <= MOST_MOVES) return;
  throw new KernelImageError({
    code: 'unsupported',
    what: `recovering relocations: section ${short(name)}: count of MOVs of link addresses`,
    found: count,
    expected: `at most ${MOST_MOVES} in data; code needs the flag SHF_EXECINSTR`,
  });
}

/** The nearest aligned place below that other code names. */
function findStart({ named }: RecoverImage, part: Part, place: PhysAddr): PhysAddr | undefined {
  for (let at = place - (place % ALIGN); at >= part.start && at > place - LONGEST; at -= ALIGN)
    if (named.has(at)) return at;
  return undefined;
}

/** MOV r64, imm32 (REX.W C7 /0) of a link address. */
function findMoves({ bytes, view, start: base }: Part, { start, end }: RecoverImage): PhysAddr[] {
  const found: PhysAddr[] = [];
  for (let at = bytes.indexOf(0xc7, 1); at >= 0 && at + 6 <= bytes.length; at = bytes.indexOf(0xc7, at + 1)) {
    if ((bytes[at - 1]! & 0xfe) !== 0x48 || (bytes[at + 1]! & 0xf8) !== 0xc0) continue;
    const target = view.getInt32(at + 2, true) + 0x8000_0000;
    if (target >= start && target <= end) found.push(base + at - 1);
  }
  return found;
}
