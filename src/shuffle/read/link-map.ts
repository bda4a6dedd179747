/**
 * The map that GNU ld writes (`-Map`) says what symbols do not: where each input section lies in .text. With -ffunction-sections that is where each
 * function ends, even one whose assembler file gave it no size. It also says what else can be placed elsewhere as a whole (see analyse/pieces.ts).
 *
 *      .text.schedule_timeout
 *                     0xffffffff81001230       0x9a kernel/time/timer.o
 *      .text          0xffffffff810012d0       0x40 arch/x86/lib/copy_user_64.o
 *
 * An entry is one line or two, depending on the length of its name. Everything else in a map is ignored. A map must agree with what is known of the
 * kernel otherwise: every function lies in one input section.
 */
import { START_KERNEL_MAP } from '../../base/addresses.ts';
import type { PhysAddr } from '../../base/addresses.ts';
import { cString } from '../../base/bytes.ts';
import { hex, KernelImageError } from '../../base/errors.ts';
import { NO_RANGE, rangeAt } from '../ranges.ts';
import type { Range } from '../ranges.ts';

/** The map of a kernel with a section for each function takes some 30 MB. */
const MAP_AT_MOST = 2 ** 28;
/** Longer lines are cut: what is looked for is at their start. */
const LINE_AT_MOST = 4096;
const [SPACE, NEWLINE] = [0x20, 0x0a];
const NAME_ALONE = /^ [.\w]\S*\s*$/;
const NAME_OR_NONE_AND_PLACE = /^ (?:[.\w]\S*)? +0x([0-9a-f]{16}) +0x([0-9a-f]{1,8})(?:\s|$)/;

/** By rising address; none overlaps another, none is empty. */
export interface InputSections {
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
}

/** The input sections between `text.start` and `text.end`. Throws KernelImageError when there are none, or when two overlap. */
export function readLinkMap(map: Uint8Array, text: Range): InputSections {
  if (map.length > MAP_AT_MOST)
    throw new KernelImageError({ code: 'too-large', what: 'link map', found: map.length, expected: MAP_AT_MOST });
  const found: Range[] = [];
  for (let at = 0, named = false; at < map.length;) {
    const next = map.indexOf(NEWLINE, at) + 1 || map.length;
    // One space and a name, or the line after a name alone.
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
    if (start < last || end > text.end)
      throw misfit(`an input section at ${addressOf(start)} that reaches into another`);
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
 * The same functions, where each one without a size that is alone in its section gets the size of that section. They must come by rising place, the longest
 * first. Throws KernelImageError for a function that does not lie wholly in one input section.
 */
export function sizeByMap<T extends SizedFunction>(functions: readonly T[], { starts, ends }: InputSections): T[] {
  let sizedAt = -1;
  return functions.map((candidate, index) => {
    const { place: start, size } = candidate;
    const section = rangeAt(starts, ends, start);
    if (section === NO_RANGE || start + size > ends[section]!)
      throw misfit(`no input section around the function at ${addressOf(start)}`);
    if (size > 0) sizedAt = start;
    if (sizedAt === start || starts[section] !== start) return candidate;
    let next = index + 1;
    while (next < functions.length && functions[next]!.place === start) next++;
    const alone = next === functions.length || functions[next]!.place >= ends[section]!;
    return alone ? { ...candidate, size: ends[section]! - start } : candidate;
  });
}

function addressOf(place: PhysAddr): string {
  return hex(START_KERNEL_MAP + BigInt(place));
}

function misfit(found: string): KernelImageError {
  return new KernelImageError({
    code: 'bad-value',
    what: 'link map',
    found,
    expected: 'the one that ld wrote with the debug vmlinux (-Map)',
  });
}
