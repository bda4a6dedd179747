/**
 * The check `dry-run`, the last one: a few slides are applied in memory, each of them in two ways.
 *
 * One way loads the converted file as a boot loader does, and runs a model of the program on that memory (program-model.ts): it follows the hook,
 * finds the parameters relative to itself, puts the saved bytes back, and reads the table that was loaded. The other way loads the original and
 * applies its own table. Afterwards both images must be the same from _text to _end, byte for byte: then the kernel cannot tell how it was moved.
 */
import type { Slide } from '../base/addresses.ts';
import { firstDifference } from '../base/bytes.ts';
import { PT_LOAD } from '../elf/constants.ts';
import { readElf, segmentBytes } from '../elf/read.ts';
import type { ElfFile, Segment } from '../elf/read.ts';
import { hex } from '../base/errors.ts';
import { applyTable } from '../relocs/tables/apply.ts';
import { fileOffsetOf } from '../kernel/vmlinux.ts';
import { refute } from './evidence.ts';
import type { Original } from './original.ts';
import { simulateProgram } from './program-model.ts';
import type { GuestMemory } from './program-model.ts';
import { countSlots } from './segment.ts';

/** Returns the slides that were tried, ascending. The earlier checks have proved every byte of `converted`. */
export function dryRun(original: Original, converted: Uint8Array): Slide[] {
  const { elf, entry, imageStart, imageEnd } = original.kernel;
  const file = readElf(converted);
  const end = Math.max(...loadsOf(file).map(({ paddr, memsz }) => paddr + memsz));
  const memory = { bytes: new Uint8Array(end - imageStart), base: imageStart };
  const expected = { bytes: new Uint8Array(imageEnd - imageStart), base: imageStart };
  load(expected, elf);
  let moved = 0;
  return slotsToTry(countSlots(original)).map((slot) => {
    load(memory, file);
    const slide = simulateProgram(memory, entry, slot);
    // Slides add up, so the expected image is loaded once and moved on from slide to slide. That this works is also part of what is shown.
    applyTable(expected.bytes, original.table, { slide: slide - moved, base: imageStart });
    moved = slide;
    compareImages(original, slide, memory.bytes.subarray(0, expected.bytes.length), expected.bytes);
    return slide;
  });
}

function compareImages({ kernel }: Original, slide: Slide, found: Uint8Array, expected: Uint8Array): void {
  const at = firstDifference(found, expected);
  if (at < 0) return;
  const address = kernel.imageStart + at;
  const what = `image after a slide of ${hex(slide)}: byte at physical link address ${hex(address)}`;
  // Memory that no file byte is loaded to stays zero. If something is there, the program or the table has put it there.
  const offset = fileOffsetOf(kernel.loads, address) ?? kernel.entryOffset;
  refute(what, offset, { found: found[at]!, expected: expected[at]! });
}

/** The first, the second and the last slot, and two between them. */
function slotsToTry(count: number): number[] {
  const last = count - 1;
  const slots = [0, 1, Math.floor(last / 3), Math.floor((last * 2) / 3), last].filter((slot) => slot <= last);
  return [...new Set(slots)].toSorted((a, b) => a - b);
}

/**
 * Loads as a boot loader does: the file's bytes of every PT_LOAD to its p_paddr. The memory after them is zero; `compareImages` detects if it
 * changes.
 */
function load({ bytes, base }: GuestMemory, elf: ElfFile): void {
  for (const segment of loadsOf(elf)) bytes.set(segmentBytes(elf, segment), segment.paddr - base);
}

function loadsOf({ segments }: ElfFile): Segment[] {
  return segments.filter(({ type, memsz }) => type === PT_LOAD && memsz > 0);
}
