/**
 * The claim: section .kslide.moves says which ranges of .text went where. Nothing else is taken from the writer, and of this it is asked that it is
 * possible: ranges of .text, none on another, neither before nor after, and over nothing but padding where no code was moved away.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { viewOf } from '../../base/bytes.ts';
import { findSection, sectionBytes } from '../../elf/read.ts';
import type { ElfFile } from '../../elf/read.ts';
import type { Disassembler } from '../disassembler.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import { refute } from '../../verify/evidence.ts';

const SECTION = '.kslide.moves';
const ROW = 12;

export interface Text {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
}

/** Ranges by rising old address. */
export class Moves {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** Where each is now. */
  readonly news: Uint32Array;
  readonly text: Text;
  /** By byte of .text: 1 where something was moved to. */
  readonly taken: Uint8Array;

  constructor(rows: { starts: Uint32Array; ends: Uint32Array; news: Uint32Array }, text: Text, taken: Uint8Array) {
    this.starts = rows.starts;
    this.ends = rows.ends;
    this.news = rows.news;
    this.text = text;
    this.taken = taken;
  }

  /** The range that a place was in, or -1. */
  rangeOf(place: PhysAddr): number {
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle]! <= place) low = middle + 1;
      else high = middle;
    }
    return low > 0 && place < this.ends[low - 1]! ? low - 1 : -1;
  }

  /** Where what was at a place is now; -1 when it is nowhere, because it was padding that code was moved over. */
  imageOf(place: PhysAddr): number {
    if (place < this.text.start || place >= this.text.end) return place;
    const range = this.rangeOf(place);
    if (range >= 0) return place + this.news[range]! - this.starts[range]!;
    return this.taken[place - this.text.start] === 1 ? -1 : place;
  }
}

export function readMoves(shuffled: ElfFile, text: Text): Moves {
  const section = findSection(shuffled, SECTION);
  if (section === undefined) return refute(`section ${SECTION}`, 0, { found: 'missing', expected: 'what moved where' });
  const bytes = sectionBytes(shuffled, section);
  if (bytes.length % ROW !== 0 || bytes.length === 0)
    refute(`size of ${SECTION}`, section.offset, { found: bytes.length, expected: 'rows of 12 bytes' });
  const view = viewOf(bytes);
  const count = bytes.length / ROW;
  const rows = { starts: new Uint32Array(count), ends: new Uint32Array(count), news: new Uint32Array(count) };
  const taken = new Uint8Array(text.end - text.start);
  let last: number = text.start;
  for (let row = 0; row < count; row++) {
    const start = placeOfLow(view.getUint32(row * ROW, true));
    const size = view.getUint32(row * ROW + 4, true);
    const to = placeOfLow(view.getUint32(row * ROW + 8, true));
    const inside = start >= last && to >= text.start && size > 0 && start + size <= text.end && to + size <= text.end;
    if (!inside || taken.subarray(to - text.start, to - text.start + size).includes(1))
      refute(`row ${row} of ${SECTION}`, section.offset + row * ROW, {
        found: start,
        expected: 'ranges of .text that rise, and places for them that do not overlap',
      });
    taken.fill(1, to - text.start, to - text.start + size);
    rows.starts[row] = start;
    rows.ends[row] = last = start + size;
    rows.news[row] = to;
  }
  return new Moves(rows, text, taken);
}

/** The original's .text, its symbols and its sections, all by rising address. */
export interface OriginalText {
  readonly code: Uint8Array;
  readonly symbols: readonly number[];
  readonly extents: readonly Text[];
}

/**
 * What was moved over and did not move away itself must be padding: no-operations and int3, up to the first symbol. Gives
 * where the padding ends, first that before the first range, then that behind each.
 */
export function checkOverwritten(
  moves: Moves,
  { code, symbols, extents }: OriginalText,
  disassembler: Disassembler,
  textOffset: number,
): Uint32Array {
  const { starts, ends, text, taken } = moves;
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
      // Between two sections there is nothing, whatever bytes it has.
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
