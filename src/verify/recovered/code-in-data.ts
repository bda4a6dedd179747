/**
 * Code in data: since 6.14 relocate_kernel, which kexec copies before it runs it, is in .data in some builds. The kernel's tables of its code name places in it, and there are MOVs of addresses in it. Between
 * and around these, instructions are decoded from every place that can be their start, and one that has an address as its operand is a site if the table has it.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { sweepCode } from './code.ts';
import type { SweepContext } from './code.ts';
import type { Disassembler, OpenDisassembler } from './disassembler.ts';
import type { JudgedImage, Stretch } from './sections.ts';

/** The kernel aligns that code, and refuses to be built with more than a page of it. */
const ALIGN = 0x100;
const LONGEST = 0x1000;

/** `anchors`: places in data where instructions begin. */
export function judgeCodeInData(
  context: SweepContext,
  anchors: readonly PhysAddr[],
  open: OpenDisassembler,
  disassemblers: Map<Stretch, Disassembler>,
): void {
  const { image } = context;
  for (const stretch of image.stretches) {
    if (stretch.content !== 'data') continue;
    const places = [...movesIn(stretch, image), ...anchors.filter((at) => at >= stretch.start && at < stretch.end)];
    places.sort((a, b) => a - b);
    for (let index = 0; index < places.length;) {
      const first = places[index]!;
      let last = first;
      while (index < places.length && places[index]! < first + LONGEST) last = places[index++]!;
      const from = Math.max(stretch.start, startOf(context, stretch, places, first));
      const bytes = stretch.bytes.subarray(from - stretch.start, Math.min(last + ALIGN, stretch.end) - stretch.start);
      const code = {
        ...stretch,
        content: 'code',
        start: from,
        end: from + bytes.length,
        bytes,
        view: viewOf(bytes),
      } as const;
      const disassembler = open(bytes);
      disassemblers.set(code, disassembler);
      sweepCode(context, code, disassembler, undefined);
    }
  }
}

/** The nearest aligned place from which decoding meets all of the first places; the first place itself without one. */
function startOf(_context: SweepContext, stretch: Stretch, _places: readonly PhysAddr[], first: PhysAddr): PhysAddr {
  return Math.max(stretch.start, first - (first % ALIGN));
}

/** MOV r64, imm32 (REX.W C7 /0) of an address. */
function* movesIn({ bytes, view, start }: Stretch, { low, high }: JudgedImage): Generator<PhysAddr> {
  for (let at = bytes.indexOf(0xc7, 1); at >= 0 && at + 6 <= bytes.length; at = bytes.indexOf(0xc7, at + 1)) {
    if ((bytes[at - 1]! & 0xfe) !== 0x48 || (bytes[at + 1]! & 0xf8) !== 0xc0) continue;
    const target = view.getInt32(at + 2, true) + 0x8000_0000;
    if (target >= low && target <= high) yield start + at - 1;
  }
}
