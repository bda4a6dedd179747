/**
 * The claim: section .kslide.moves says which ranges of .text went where. It is the only thing that is taken from the writer, and it is checked to be
 * possible: ranges of .text, none overlapping another, neither before nor after, and placed over nothing but padding where no code was moved away.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { findSection, sectionBytes } from '../../elf/read.ts';
import type { ElfFile } from '../../elf/read.ts';
import { refute } from '../../verify/evidence.ts';
import type { Disassembler } from '../disassembler.ts';
import { rangeAt } from '../ranges.ts';
import type { Range } from '../ranges.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import { MOVES } from './plain-file.ts';

const ROW = 12;

export interface ClaimedRanges {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** Where each starts now. */
  readonly newStarts: Uint32Array;
}

/** Ranges by rising old address. */
export class ClaimedLayout implements ClaimedRanges {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  readonly newStarts: Uint32Array;
  readonly text: Range;
  /** By byte of .text: 1 where a range was placed. */
  readonly taken: Uint8Array;

  constructor({ starts, ends, newStarts }: ClaimedRanges, text: Range, taken: Uint8Array) {
    this.starts = starts;
    this.ends = ends;
    this.newStarts = newStarts;
    this.text = text;
    this.taken = taken;
  }

  /** The range that a place was in, or -1. */
  rangeOf(place: PhysAddr): number {
    return rangeAt(this.starts, this.ends, place);
  }

  /** Where what was at a place is now; -1 when it is nowhere, because it was padding over which code was placed. */
  newPlaceOf(place: PhysAddr): number {
    if (place < this.text.start || place >= this.text.end) return place;
    const range = this.rangeOf(place);
    if (range >= 0) return place + this.newStarts[range]! - this.starts[range]!;
    return this.taken[place - this.text.start] === 1 ? -1 : place;
  }
}

export function readClaimedLayout(shuffled: ElfFile, text: Range): ClaimedLayout {
  const section = findSection(shuffled, MOVES);
  if (section === undefined) return refute(`section ${MOVES}`, 0, { found: 'missing', expected: 'what moved where' });
  const bytes = sectionBytes(shuffled, section);
  if (bytes.length % ROW !== 0 || bytes.length === 0)
    refute(`size of ${MOVES}`, section.offset, { found: bytes.length, expected: 'rows of 12 bytes' });
  const view = viewOf(bytes);
  const count = bytes.length / ROW;
  const ranges = { starts: new Uint32Array(count), ends: new Uint32Array(count), newStarts: new Uint32Array(count) };
  const taken = new Uint8Array(text.end - text.start);
  let last: number = text.start;
  for (let row = 0; row < count; row++) {
    const start = virtualPlace(view.getUint32(row * ROW, true));
    const size = view.getUint32(row * ROW + 4, true);
    const to = virtualPlace(view.getUint32(row * ROW + 8, true));
    const inside = start >= last && to >= text.start && size > 0 && start + size <= text.end && to + size <= text.end;
    if (!inside || taken.subarray(to - text.start, to - text.start + size).includes(1))
      refute(`row ${row} of ${MOVES}`, section.offset + row * ROW, {
        found: start,
        expected: 'ranges of .text that rise, and places for them that do not overlap',
      });
    taken.fill(1, to - text.start, to - text.start + size);
    ranges.starts[row] = start;
    ranges.ends[row] = last = start + size;
    ranges.newStarts[row] = to;
  }
  return new ClaimedLayout(ranges, text, taken);
}

/** The low half of a virtual link address as a place; -1 for anything else. (placeOfLow also takes physical addresses.) */
function virtualPlace(low: number): number {
  return low >= 0x8000_0000 ? placeOfLow(low) : -1;
}

/** The original's .text, its symbols and its sections, all by rising address. */
export interface OriginalText {
  readonly code: Uint8Array;
  readonly symbols: readonly number[];
  readonly extents: readonly Range[];
}

/**
 * Where code was placed over something that did not move away itself, that must be padding: no-operations and int3, up to the first symbol. Returns where the
 * padding ends: first that before the first range, then that after each.
 */
export function checkOverwritten(
  { starts, ends, text, taken }: ClaimedLayout,
  { code, symbols, extents }: OriginalText,
  disassembler: Disassembler,
  textOffset: number,
): Uint32Array {
  const paddingEnds = new Uint32Array(starts.length + 1);
  let symbol = 0;
  let extent = 0;
  for (let range = -1; range < starts.length; range++) {
    const from = (range < 0 ? text.start : ends[range]!) - text.start;
    const to = (range + 1 < starts.length ? starts[range + 1]! : text.end) - text.start;
    while (symbol < symbols.length && symbols[symbol]! - text.start < from) symbol++;
    const limit = Math.min(to, symbol < symbols.length ? symbols[symbol]! - text.start : to);
    let padding = from;
    disassembler.seek(from);
    while (padding < limit) {
      // What is between two sections is unused, whatever its bytes are.
      while (extent < extents.length && extents[extent]!.end - text.start <= padding) extent++;
      const section = extent < extents.length ? extents[extent]!.start - text.start : limit;
      if (padding < section) {
        padding = Math.min(section, limit);
        disassembler.seek(padding);
        continue;
      }
      const next = disassembler.step();
      if (next < 0 || next > limit || !disassembler.isFiller()) break;
      padding = next;
    }
    paddingEnds[range + 1] = padding + text.start;
    const bad = taken.subarray(padding, to).indexOf(1);
    if (bad >= 0)
      refute('code that did not move', textOffset + padding + bad, {
        found: `overwritten, byte 0x${code[padding + bad]!.toString(16)}`,
        expected: 'to be there',
      });
  }
  return paddingEnds;
}
