/**
 * The tables that are sorted by address: sorted again, and saying the same. Nothing here knows how the writer sorts. Each table is read as the kernel
 * reads it, before and after, and the contents are compared.
 */
import type { FileOffset } from '../../base/addresses.ts';
import { lastAtOrBelow } from '../../base/search.ts';
import { refute } from '../../verify/evidence.ts';
import type { Range } from '../ranges.ts';
import type { DebugKernel } from '../read/debug-kernel.ts';
import { placeOfLow } from '../read/kernel-image.ts';
import type { ImageBytes } from '../read/kernel-image.ts';
import type { ClaimedLayout } from './claimed-layout.ts';
import type { ImagePair } from './image-pair.ts';

/** Where __ex_table, .orc_unwind_ip and __mcount_loc lie, as far as the kernel has them. */
export function sortedTables(debug: DebugKernel): Range[] {
  const names = [
    ['__start___ex_table', '__stop___ex_table'],
    ['__start_orc_unwind_ip', '__stop_orc_unwind_ip'],
    ['__start_mcount_loc', '__stop_mcount_loc'],
  ] as const;
  return names.flatMap(([first, last]) => rangeOf(debug, first, last) ?? []);
}

function rangeOf(debug: DebugKernel, first: string, last: string): Range | undefined {
  const start = debug.find(first);
  const end = debug.find(last);
  return start === undefined || end === undefined || end <= start ? undefined : { start, end };
}

export function checkExtable(debug: DebugKernel, images: ImagePair, layout: ClaimedLayout): number {
  const range = rangeOf(debug, '__start___ex_table', '__stop___ex_table');
  if (range === undefined) return 0;
  const count = (range.end - range.start) / 12;
  const read = (image: ImageBytes): [number, number, number][] =>
    Array.from({ length: count }, (_, index) => {
      const place = range.start + index * 12;
      const { view } = image;
      const offset = image.at(place, 12, '__ex_table');
      return [
        place + view.getInt32(offset, true),
        place + 4 + view.getInt32(offset + 4, true),
        view.getUint32(offset + 8, true),
      ];
    });
  const text = (rows: readonly (readonly number[])[]): string[] => rows.map((row) => row.join(' ')).toSorted();
  const found = read(images.after);
  const expected = read(images.before).map(([insn, fixup, data]) => [
    layout.newPlaceOf(insn),
    layout.newPlaceOf(fixup),
    data,
  ]);
  const offset = images.after.at(range.start, 12 * count, '__ex_table');
  expectRising(
    '__ex_table',
    offset,
    12,
    found.map(([insn]) => insn),
  );
  expectSame('__ex_table', offset, text(found), text(expected));
  images.markRange(range.start, range.end);
  return count;
}

export function checkMcount(debug: DebugKernel, images: ImagePair, layout: ClaimedLayout): number {
  const range = rangeOf(debug, '__start_mcount_loc', '__stop_mcount_loc');
  if (range === undefined) return 0;
  const all = (range.end - range.start) / 8;
  const table = images.before.at(range.start, all * 8, '__mcount_loc');
  // Entries of functions that were replaced are 0 instead of an address, and come first.
  let zeros = 0;
  while (zeros < all && images.before.view.getBigUint64(table + zeros * 8, true) === 0n) zeros++;
  for (let index = 0; index < zeros; index++) {
    const found = images.after.view.getBigUint64(table + index * 8, true);
    if (found !== 0n) refute('__mcount_loc', table + index * 8, { found: `0x${found.toString(16)}`, expected: 0 });
  }
  const count = all - zeros;
  const offset = table + zeros * 8;
  const read = (view: DataView): number[] =>
    Array.from({ length: count }, (_, index) => placeOfLow(view.getUint32(offset + index * 8, true)));
  const before = read(images.before.view);
  const found = read(images.after.view);
  if (before.every((place, index) => index === 0 || place >= before[index - 1]!))
    expectRising('__mcount_loc', offset, 8, found);
  const expected = before.map((place) => layout.newPlaceOf(place));
  expectSame(
    '__mcount_loc',
    offset,
    found.toSorted((a, b) => a - b),
    expected.toSorted((a, b) => a - b),
  );
  for (let index = 0; index < count; index++) {
    const at = offset + index * 8 + 4;
    if (images.after.view.getUint32(at, true) !== 0xffff_ffff)
      refute('__mcount_loc', at, { found: images.after.view.getUint32(at, true), expected: 0xffff_ffff });
  }
  images.markRange(range.start, range.end);
  return all;
}

/**
 * ORC must say of each byte of code what it said of it at its old place. Of several entries at one address the last counts, as in the kernel, which looks for
 * the last entry that is not above.
 */
export function checkOrc(
  debug: DebugKernel,
  images: ImagePair,
  layout: ClaimedLayout,
  paddingEnds: Uint32Array,
): number {
  const range = rangeOf(debug, '__start_orc_unwind_ip', '__stop_orc_unwind_ip');
  if (range === undefined) return 0;
  const count = (range.end - range.start) / 4;
  const entriesAt = debug.need('__start_orc_unwind');
  const ipOffset = images.after.at(range.start, count * 4, '.orc_unwind_ip');
  const entryOffset = images.after.at(entriesAt, count * 6, '.orc_unwind');
  const ips = (view: DataView): Float64Array =>
    Float64Array.from(
      { length: count },
      (_, index) => range.start + index * 4 + view.getInt32(ipOffset + index * 4, true),
    );
  const before = ips(images.before.view);
  const after = ips(images.after.view);
  expectRising('.orc_unwind_ip', ipOffset, 4, after);
  const same = (old: number, now: number): boolean => {
    for (let byte = 0; byte < 6; byte++)
      if (images.before.bytes[entryOffset + old * 6 + byte] !== images.after.bytes[entryOffset + now * 6 + byte])
        return false;
    return true;
  };
  /** Compares the old entries for `start` … `end` with the new ones for the same number of bytes from `to` on. */
  const compare = (start: number, end: number, to: number): void => {
    let old = lastAtOrBelow(before, start);
    let now = lastAtOrBelow(after, to);
    for (let at = start; at < end;) {
      if (old >= 0 && (now < 0 || !same(old, now)))
        refute('.orc_unwind', entryOffset + Math.max(now, 0) * 6, {
          found: `another entry for the code at 0x${(to + at - start).toString(16)}`,
          expected: `that of 0x${at.toString(16)} before`,
        });
      const nextOld = old + 1 < count ? before[old + 1]! : Infinity;
      const nextNow = now + 1 < count ? after[now + 1]! - to + start : Infinity;
      at = Math.min(nextOld, nextNow);
      while (old + 1 < count && before[old + 1]! <= at) old++;
      while (now + 1 < count && after[now + 1]! - to + start <= at) now++;
    }
  };
  const { starts, ends, newStarts, text } = layout;
  for (let row = 0; row < starts.length; row++) compare(starts[row]!, ends[row]!, newStarts[row]!);
  // What did not move: everything between the ranges except padding, and everything after .text.
  for (let gap = 0; gap <= starts.length; gap++) {
    const start = paddingEnds[gap]!;
    compare(start, gap < starts.length ? starts[gap]! : text.end, start);
  }
  compare(text.end, Math.max(text.end, before[count - 1]! + 1), text.end);
  images.markRange(range.start, range.end);
  images.markRange(entriesAt, entriesAt + count * 6);
  return count;
}

export function checkKallsyms(debug: DebugKernel, images: ImagePair, layout: ClaimedLayout): number {
  const namesPlace = debug.find('kallsyms_names');
  if (namesPlace === undefined) return 0;
  const place = (name: string): number => debug.need(name);
  const { before, after } = images;
  const count = before.view.getUint32(before.at(place('kallsyms_num_syms'), 4, 'kallsyms_num_syms'), true);
  const offsetsAt = before.at(place('kallsyms_offsets'), count * 4, 'kallsyms_offsets');
  const markersAt = before.at(place('kallsyms_markers'), Math.ceil(count / 256) * 4, 'kallsyms_markers');
  const namesAt = before.at(namesPlace, 1, 'kallsyms_names');
  const basePlace = debug.find('kallsyms_relative_base');
  const base = basePlace === undefined ? 0 : placeOfLow(before.view.getUint32(before.at(basePlace, 8, 'base'), true));
  const namesOf = (bytes: Uint8Array): { names: string[]; begins: number[]; end: number } => {
    const names: string[] = [];
    const begins: number[] = [];
    let at = namesAt;
    for (let symbol = 0; symbol < count; symbol++) {
      begins.push(at - namesAt);
      const first = bytes[at]!;
      const [head, length] = first & 0x80 ? [2, (first & 0x7f) + bytes[at + 1]! * 128] : [1, first];
      if (at + head + length > bytes.length)
        refute('kallsyms_names', at, { found: 'a name past the end', expected: 'names' });
      let name = '';
      for (let byte = at; byte < at + head + length; byte++) name += String.fromCharCode(bytes[byte]!);
      names.push(name);
      at += head + length;
    }
    return { names, begins, end: at };
  };
  /** Per-cpu symbols are absolute, and stay. All others are places. */
  const addresses = (view: DataView, placed: (place: number) => number): number[] =>
    Array.from({ length: count }, (_, symbol) => {
      const value = view.getInt32(offsetsAt + symbol * 4, true);
      if (basePlace === undefined) return placed(place('kallsyms_offsets') + symbol * 4 + value);
      return value >= 0 ? value - 0x8000_0000 : placed(base - 1 - value);
    });
  const old = namesOf(before.bytes);
  const now = namesOf(after.bytes);
  if (old.end !== now.end) refute('kallsyms_names', now.end, { found: now.end, expected: old.end });
  const oldPlaces = addresses(before.view, (at) => {
    const newPlace = layout.newPlaceOf(at);
    return newPlace < 0 ? at : newPlace; // a symbol of padding names a place, not code
  });
  const nowPlaces = addresses(after.view, (at) => at);
  expectRising('kallsyms_offsets', offsetsAt, 4, nowPlaces);
  const pairs = (names: string[], places: number[]): string[] =>
    names.map((name, symbol) => `${places[symbol]} ${name}`).toSorted();
  expectSame('kallsyms', offsetsAt, pairs(now.names, nowPlaces), pairs(old.names, oldPlaces));
  for (let marker = 0; marker * 256 < count; marker++) {
    const found = after.view.getUint32(markersAt + marker * 4, true);
    if (found !== now.begins[marker * 256]!)
      refute('kallsyms_markers', markersAt + marker * 4, { found, expected: now.begins[marker * 256]! });
  }
  checkSeqs(debug, images, count, (seqs) => ({
    old: seqs.old.map((symbol) => `${old.names[symbol]} ${oldPlaces[symbol]}`),
    now: seqs.now.map((symbol) => `${now.names[symbol]} ${nowPlaces[symbol]}`),
  }));
  images.mark(offsetsAt, count * 4);
  images.mark(namesAt, now.end - namesAt);
  images.mark(markersAt, Math.ceil(count / 256) * 4);
  return count;
}

/** The numbers of symbols by rising name: each rank must give the same symbol as before. */
function checkSeqs(
  debug: DebugKernel,
  images: ImagePair,
  count: number,
  describe: (seqs: { old: number[]; now: number[] }) => { old: string[]; now: string[] },
): void {
  const place = debug.find('kallsyms_seqs_of_names');
  if (place === undefined) return;
  const at = images.before.at(place, count * 3, 'kallsyms_seqs_of_names');
  const read = (bytes: Uint8Array): number[] =>
    Array.from({ length: count }, (_, rank) => {
      const field = at + rank * 3;
      return (bytes[field]! << 16) | (bytes[field + 1]! << 8) | bytes[field + 2]!;
    });
  const { old, now } = describe({ old: read(images.before.bytes), now: read(images.after.bytes) });
  expectSame('kallsyms_seqs_of_names', at, now, old);
  images.mark(at, count * 3);
}

function expectRising(what: string, offset: FileOffset, width: number, values: ArrayLike<number>): void {
  for (let index = 1; index < values.length; index++) {
    if (values[index]! >= values[index - 1]!) continue;
    refute(what, offset + index * width, { found: values[index]!, expected: 'entries by rising address' });
  }
}

function expectSame<T extends string | number>(
  what: string,
  offset: FileOffset,
  found: readonly T[],
  expected: readonly T[],
): void {
  const at = expected.findIndex((value, index) => value !== found[index]);
  if (at >= 0) refute(what, offset, { found: found[at]!, expected: expected[at]! });
}
