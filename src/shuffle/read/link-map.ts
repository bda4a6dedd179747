/**
 * The map that GNU ld writes (`-Map`), for what symbols do not tell: where each input section lies in .text. With -ffunction-sections that is where each
 * function ends, also one that an assembler file gave no size, and what else moves as a whole: code.ts has a use for that.
 *
 *      .text.schedule_timeout
 *                     0xffffffff81001230       0x9a kernel/time/timer.o
 *      .text          0xffffffff810012d0       0x40 arch/x86/lib/copy_user_64.o
 *
 * One line or two, by the length of the name. All else that is in a map is left alone. It says what lies in a kernel, so it must agree with all that
 * is known of that otherwise: every function is in one input section.
 */
import { START_KERNEL_MAP } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { cString } from '../../base/bytes.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import { FIXED, pieceAt } from '../analyse/fields.ts';

/** That of a kernel with a section for each function takes some 30 MB. */
const MAP_AT_MOST = 2 ** 28;
/** Longer ones are cut off: what is looked for is at their start. */
const LINE_AT_MOST = 4096;
const [SPACE, NEWLINE] = [0x20, 0x0a];
const NAME_ALONE = /^ [.\w]\S*\s*$/;
const NAME_OR_NONE_AND_PLACE = /^ (?:[.\w]\S*)? +0x([0-9a-f]{16}) +0x([0-9a-f]{1,8})(?:\s|$)/;

/** By rising address, none overlapping, none empty. */
export interface InputSections {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
}

interface Extent {
  readonly start: PhysAddr;
  readonly end: PhysAddr;
}

/** The input sections between `text.start` and `text.end`. Throws KernelImageError when there are none, or two in one place. */
export function readLinkMap(map: Uint8Array, text: Extent): InputSections {
  if (map.length > MAP_AT_MOST)
    throw new KernelImageError({ code: 'too-large', what: 'link map', found: map.length, expected: MAP_AT_MOST });
  const found: Extent[] = [];
  for (let at = 0, named = false; at < map.length;) {
    const next = map.indexOf(NEWLINE, at) + 1 || map.length;
    // One space and a name, or the line behind a name alone.
    if (map[at] === SPACE && (named || map[at + 1] !== SPACE)) {
      const line = cString(map, at, Math.min(next - at, LINE_AT_MOST));
      const [, address, size] = NAME_OR_NONE_AND_PLACE.exec(line) ?? [];
      const start = address === undefined ? 0 : Number(BigInt(`0x${address}`) - START_KERNEL_MAP);
      const end = start + Number.parseInt(size ?? '0', 16);
      if (end > start && start < text.end && end > text.start) found.push({ start, end });
      named = NAME_ALONE.test(line);
    } else named = false;
    at = next;
  }
  found.sort((a, b) => a.start - b.start);
  if (found.length === 0) throw misfit('without input sections of .text');
  let last: number = text.start;
  for (const { start, end } of found) {
    if (start < last || end > text.end) throw misfit(`an input section at ${place(start)} that reaches into another`);
    last = end;
  }
  return {
    starts: Uint32Array.from(found, ({ start }) => start),
    ends: Uint32Array.from(found, ({ end }) => end),
  };
}

export interface SizedFunction {
  readonly place: PhysAddr;
  readonly size: number;
}

/**
 * The functions, by rising place and the longest first, with the size of its section for each that has none and is alone in it. Throws
 * KernelImageError for one that is not in an input section, or not wholly.
 */
export function sizeByMap<T extends SizedFunction>(functions: readonly T[], { starts, ends }: InputSections): T[] {
  let sizedAt = -1;
  return functions.map((candidate, index) => {
    const { place: start, size } = candidate;
    const section = pieceAt(starts, ends, start);
    if (section === FIXED || start + size > ends[section]!)
      throw misfit(`no input section around the function at ${place(start)}`);
    if (size > 0) sizedAt = start;
    if (sizedAt === start || starts[section] !== start) return candidate;
    let next = index + 1;
    while (next < functions.length && functions[next]!.place === start) next++;
    const alone = next === functions.length || functions[next]!.place >= ends[section]!;
    return alone ? { ...candidate, size: ends[section]! - start } : candidate;
  });
}

function place(start: PhysAddr): string {
  return hex(START_KERNEL_MAP + BigInt(start));
}

function misfit(found: string): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: 'link map',
    found,
    expected: 'the one that ld wrote with the debug vmlinux (-Map)',
  });
}
