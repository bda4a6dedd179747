/**
 * Code in data: since 6.14 relocate_kernel, which kexec copies before it runs it, is in .data in some builds. The kernel's tables of its code name places in it, other code names its start, and
 * there are MOVs of addresses in it.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { sweepCode } from './code.ts';
import type { SweepContext } from './code.ts';
import type { Disassembler, OpenDisassembler } from './disassembler.ts';
import type { PlaceBits } from './place-bits.ts';
import type { JudgedImage, Stretch } from './sections.ts';

/** The kernel aligns that code, and refuses to be built with more than a page of it. */
const ALIGN = 0x100;
const LONGEST = 0x1000;

/** A place in data where an instruction is known to begin, or seems to: a MOV of an address. */
export interface CodeInData {
  readonly stretch: Stretch;
  readonly place: PhysAddr;
  readonly isMove: boolean;
}

/** `named`: places in data that the kernel's tables name as instructions. Asks where the code that holds the places may start. */
export function findCodeInData(image: JudgedImage, named: readonly PhysAddr[], asked: PlaceBits): CodeInData[] {
  const found: CodeInData[] = [];
  for (const stretch of image.stretches) {
    if (stretch.content !== 'data') continue;
    const { start, end } = stretch;
    for (const place of movesIn(stretch, image)) found.push({ stretch, place, isMove: true });
    for (const place of named) if (place >= start && place < end) found.push({ stretch, place, isMove: false });
  }
  for (const { place } of found) for (const start of startsBefore(place)) asked.add(start);
  return found.toSorted((a, b) => a.place - b.place);
}

function* startsBefore(place: PhysAddr): Generator<PhysAddr> {
  for (let at = place - (place % ALIGN); at > place - LONGEST; at -= ALIGN) yield at;
}

/** What does not follow a place that code names is no code for sure: there a MOV of an address may be one, or numbers. */
export function judgeCodeInData(
  context: SweepContext,
  places: readonly CodeInData[],
  open: OpenDisassembler,
  disassemblers: Map<Stretch, Disassembler>,
): void {
  const { judgement, swept } = context;
  const named = new Set(swept.naming.map(({ target }) => target));
  for (let index = 0; index < places.length;) {
    const { stretch, place: first, isMove } = places[index]!;
    const start = [...startsBefore(first)].find((each) => each >= stretch.start && named.has(each));
    if (start === undefined) {
      if (isMove) judgement.open('code-in-data', 'abs32', first + MOVE_FIELD);
      index++;
      continue;
    }
    let last = first;
    while (index < places.length && places[index]!.place < Math.min(start + LONGEST, stretch.end))
      last = places[index++]!.place;
    const bytes = stretch.bytes.subarray(start - stretch.start, Math.min(last + ALIGN, stretch.end) - stretch.start);
    const code: Stretch = {
      ...stretch,
      content: 'code',
      start,
      end: start + bytes.length,
      bytes,
      view: viewOf(bytes),
    };
    const disassembler = open(bytes);
    disassemblers.set(code, disassembler);
    sweepCode(context, code, disassembler, undefined);
  }
}

/** Where the operand is in such a MOV. */
const MOVE_FIELD = 3;

/** MOV r64, imm32 (REX.W C7 /0) of an address. */
function* movesIn({ bytes, view, start }: Stretch, { low, high }: JudgedImage): Generator<PhysAddr> {
  for (let at = bytes.indexOf(0xc7, 1); at >= 0 && at + 6 <= bytes.length; at = bytes.indexOf(0xc7, at + 1)) {
    if ((bytes[at - 1]! & 0xfe) !== 0x48 || (bytes[at + 1]! & 0xf8) !== 0xc0) continue;
    const target = view.getInt32(at + 2, true) + 0x8000_0000;
    if (target >= low && target <= high) yield start + at - 1;
  }
}
