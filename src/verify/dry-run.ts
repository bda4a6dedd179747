/**
 * The check `dry-run`, the last one: a few slides are applied in memory, each of them in two ways.
 *
 * One way loads the converted file as a boot loader does, and runs a model of the program on that memory (program-model.ts): it follows the hook,
 * finds the parameters relative to itself, puts the saved bytes back, and reads the table that was loaded. The other way loads the original and
 * applies its own table. Afterwards both images must be the same from _text to _end, byte for byte: then the kernel cannot tell how it was moved.
 */
import type { PhysAddr, Slide } from '../base/addresses.ts';
import { physToTableEntry } from '../base/addresses.ts';
import { firstDifference } from '../base/bytes.ts';
import { readElf } from '../elf/read.ts';
import { hex } from '../base/errors.ts';
import { lowerBound } from '../base/search.ts';
import { applyTable } from '../relocs/tables/apply.ts';
import type { Sites } from '../relocs/tables/apply.ts';
import { fileOffsetOf } from '../kernel/vmlinux.ts';
import { refute } from './evidence.ts';
import { GuestMemory } from './guest-memory.ts';
import type { MemoryPart } from './guest-memory.ts';
import type { Original } from './original.ts';
import { simulateProgram } from './program-model.ts';
import { countSlots } from './segment.ts';

/** Returns the slides that were tried, ascending. The earlier checks have proved every byte of `converted`. */
export function dryRun(original: Original, converted: Uint8Array): Slide[] {
  const { elf, entry } = original.kernel;
  const memory = new GuestMemory(readElf(converted));
  const expected = new GuestMemory(elf);
  expected.load();
  const tables = expected.parts.map((part) => sitesIn(original.table, part));
  let moved = 0;
  return slotsToTry(countSlots(original)).map((slot) => {
    memory.load();
    const slide = simulateProgram(memory, entry, slot);
    // Slides add up, so the expected image is loaded once and moved on from slide to slide. That this works is also part of what is shown.
    for (const [index, { bytes, start }] of expected.parts.entries())
      applyTable(bytes, tables[index]!, { slide: slide - moved, base: start });
    moved = slide;
    compareImages(original, slide, memory, expected);
    return slide;
  });
}

/** Lists ascend and every site is inside one segment's bytes, so the sites of a part are one stretch of each list. */
function sitesIn({ abs64, inverse32, abs32 }: Sites, { start, end }: MemoryPart): Sites {
  const stretch = (list: Uint32Array): Uint32Array =>
    list.subarray(lowerBound(list, physToTableEntry(start)), lowerBound(list, physToTableEntry(end)));
  return { abs64: stretch(abs64), inverse32: stretch(inverse32), abs32: stretch(abs32) };
}

interface Difference {
  readonly address: PhysAddr;
  readonly found: number;
  readonly expected: number;
}

function compareImages({ kernel }: Original, slide: Slide, memory: GuestMemory, image: GuestMemory): void {
  const differences = [
    ...image.parts.map((part) => differenceIn(part, memory.part(part.start, part.bytes.length))),
    // Memory that no file byte is loaded to stays zero. If something is there, the program or the table has put it there.
    ...memory.strays.map((part) => differenceIn({ ...part, bytes: new Uint8Array(part.bytes.length) }, part)),
  ];
  const [first] = differences.filter((each) => each !== undefined).toSorted((a, b) => a.address - b.address);
  if (first === undefined) return;
  const { address, found, expected } = first;
  const what = `image after a slide of ${hex(slide)}: byte at physical link address ${hex(address)}`;
  const offset = fileOffsetOf(kernel.loads, address) ?? kernel.entryOffset;
  refute(what, offset, { found, expected });
}

function differenceIn(expected: MemoryPart, found: MemoryPart): Difference | undefined {
  const bytes = found.bytes.subarray(expected.start - found.start, expected.end - found.start);
  const at = firstDifference(bytes, expected.bytes);
  if (at < 0) return undefined;
  return { address: expected.start + at, found: bytes[at]!, expected: expected.bytes[at]! };
}

/** The first, the second and the last slot, and two between them. */
function slotsToTry(count: number): number[] {
  const last = count - 1;
  const slots = [0, 1, Math.floor(last / 3), Math.floor((last * 2) / 3), last].filter((slot) => slot <= last);
  return [...new Set(slots)].toSorted((a, b) => a - b);
}
