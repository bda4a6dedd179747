/**
 * A debug vmlinux with one relocation or one symbol forged: the file itself, seen through a patch of a few bytes. Forgeries are drawn by a seed. Those of relocations
 * prefer the ones that shuffling cares about: fields that refer to .text.
 */
import { Reader } from '../../src/base/bytes.ts';
import { RELOCATION_TYPES } from '../../src/relocs/tool/types.ts';
import { SHT_SYMTAB } from '../../src/elf/constants.ts';
import { PIECE, readPieces, relocationSections } from '../../src/relocs/tool/relocation-entries.ts';
import type { ByteSource } from '../../src/relocs/tool/byte-source.ts';
import { NOWHERE } from '../../src/shuffle/read/debug-kernel.ts';
import type { DebugKernel } from '../../src/shuffle/read/debug-kernel.ts';

const { R_X86_64_NONE, R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_PC64, R_X86_64_32S, R_X86_64_64 } = RELOCATION_TYPES[64];
const [RELA, SYM] = [24, 24];

export interface Forgery {
  /** What was changed: 'relocation' or 'symbol', and how. */
  readonly kind: string;
  readonly detail: string;
  readonly source: ByteSource;
}

interface Row {
  /** File offset of the entry. */
  readonly at: number;
  readonly section: string;
  readonly place: number;
  readonly type: number;
  readonly symbol: number;
  readonly addend: number;
}

/** The kinds, in the order in which forge() takes them. */
export const FORGERIES = [
  'relocation type',
  'relocation addend',
  'relocation symbol',
  'relocation symbol, same sum',
  'relocation of a section, same sum',
  'relocation offset',
  'relocation dropped',
  'relocation moved and added',
  'symbol value',
  'symbol size',
  'symbol type',
  'symbol name',
  'symbol section',
  'symbol dropped',
] as const;

/** Makes forgeries of a debug vmlinux. `random(n)`: a whole number below n. */
export function makeForger(
  source: ByteSource,
  debug: DebugKernel,
  random: (below: number) => number,
): (kind: (typeof FORGERIES)[number]) => Forgery {
  const { symbols, places, text, image } = debug;
  const rows = readRows(debug);
  const toText = rows.filter(({ refers }) => refers);
  const isRelative = ({ type }: Row): boolean =>
    type === R_X86_64_PC32 || type === R_X86_64_PLT32 || type === R_X86_64_PC64;
  const symtab = symtabOf(debug);
  const inImage = [...places.keys()].filter((symbol) => symbol > 0 && places[symbol] !== NOWHERE);
  const inText = inImage.filter((symbol) => places[symbol]! >= text.start && places[symbol]! < text.end);
  const sectionSymbols = inText.filter((symbol) => (symbols.info(symbol) & 15) === 3);
  // Linker symbols, which are few, decide most: take them as often as all others.
  const labels = inImage.filter((symbol) => (symbols.info(symbol) & 15) === 0 && symbols.info(symbol) >> 4 === 1);
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
  const pickSymbol = (): number => pick([inImage, inText, labels][random(3)]!);
  /** Named ones with an addend that leads away from their symbol are the rare and interesting ones. */
  const odd = toText.filter(({ addend, symbol }) => (symbols.info(symbol) & 15) !== 3 && Math.abs(addend) > 16);
  const data = toText.filter(({ section }) => !/text|altinstr/.test(section));
  const pickRow = (): Row => pick([toText, odd.length > 0 ? odd : toText, data][random(3)]!);

  return (kind) => {
    const patch = (detail: string, ...changes: (readonly [at: number, bytes: number[]])[]): Forgery => ({
      kind,
      detail,
      source: patched(source, changes),
    });
    const row = pickRow();
    const what = `${row.section} at ${row.place.toString(16)}: type ${row.type}, ${symbols.name(row.symbol)}+${row.addend}`;
    const symbol = pickSymbol();
    const entry = symtab + symbol * SYM;
    const name = `${symbols.name(symbol)} at ${places[symbol]!.toString(16)}`;
    switch (kind) {
      case 'relocation type': {
        const types = [R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_32S, R_X86_64_64, R_X86_64_PC64];
        const type = pick(types.filter((other) => other !== row.type));
        return patch(`${what} -> type ${type}`, [row.at + 8, u32(type)]);
      }
      case 'relocation addend': {
        const addend = row.addend + pick([1, -1, 4, 16, -16, 0x1000]);
        return patch(`${what} -> +${addend}`, [row.at + 16, u64(addend)]);
      }
      case 'relocation symbol': {
        const other = pick(inText);
        return patch(`${what} -> ${symbols.name(other)}`, [row.at + 12, u32(other)]);
      }
      case 'relocation symbol, same sum':
      case 'relocation of a section, same sum': {
        const other = kind === 'relocation symbol, same sum' ? pick(inText) : pick(sectionSymbols);
        const addend = row.addend + valueOf(debug, row.symbol) - valueOf(debug, other);
        return patch(
          `${what} -> ${symbols.name(other)}+${addend}`,
          [row.at + 12, u32(other)],
          [row.at + 16, u64(addend)],
        );
      }
      case 'relocation offset': {
        const by = pick([1, -1, 4, -4, 8, 0x100]);
        return patch(`${what} -> place ${by}`, [row.at, u32((row.place + 0x8000_0000 + by) >>> 0)]);
      }
      case 'relocation dropped':
        return patch(what, [row.at + 8, u32(R_X86_64_NONE)]);
      case 'relocation moved and added': {
        // One that nothing needs, because its target does not move, becomes one of another field.
        const donors = rows.filter((other) => !other.refers && isRelative(other) && other.section === row.section);
        const donor = donors.length > 0 ? pick(donors) : row;
        const other = pick(inText);
        const place = donor.place + 4 + random(64);
        const held = heldAt(debug, place);
        const addend = held + place - places[other]!;
        return patch(
          `${donor.section}: added at ${place.toString(16)}, ${symbols.name(other)}+${addend}`,
          [donor.at, u32((place + 0x8000_0000) >>> 0)],
          [donor.at + 8, u32(R_X86_64_PC32)],
          [donor.at + 12, u32(other)],
          [donor.at + 16, u64(addend)],
        );
      }
      case 'symbol value': {
        const by = pick([1, -1, 16, -16, 0x1000]);
        return patch(`${name} by ${by}`, [entry + 8, u32((places[symbol]! + 0x8000_0000 + by) >>> 0)]);
      }
      case 'symbol size': {
        const size = pick([0, 1, Number(symbols.size(symbol)) + 16, Math.max(0, Number(symbols.size(symbol)) - 4)]);
        return patch(`${name}, size ${size}`, [entry + 16, u64(size)]);
      }
      case 'symbol type': {
        const info = symbols.info(symbol);
        const type = pick([0, 1, 2, 3].filter((other) => other !== (info & 15)));
        return patch(`${name}, type ${type}`, [entry + 4, [(info & 0xf0) | type]]);
      }
      case 'symbol name': {
        const other = symtab + pick(inImage) * SYM;
        return patch(name, [entry, [...source.readAt(other, 4)]]);
      }
      case 'symbol section': {
        const section = pick([0xfff1, 0, 1 + random(image.sections.count - 1)]);
        return patch(`${name} in ${section}`, [entry + 6, [section & 0xff, section >> 8]]);
      }
      case 'symbol dropped':
        return patch(name, [entry, Array.from({ length: SYM }, () => 0)]);
    }
  };
}

interface ReferringRow extends Row {
  /** Whether it refers to .text. */
  readonly refers: boolean;
}

function readRows(debug: DebugKernel): ReferringRow[] {
  const { places, text, image } = debug;
  const rows: ReferringRow[] = [];
  for (const section of relocationSections(image)) {
    const title = image.sectionTitle(section.target);
    // Sorted after the link: what relocations say of it is not used.
    if (title === '.orc_unwind_ip' || title === '__ex_table') continue;
    for (const piece of readPieces(image, section, new Uint8Array(PIECE * RELA))) {
      const reader = new Reader(piece.bytes);
      for (let entry = 0; entry < piece.count; entry++) {
        const symbol = reader.u32(entry * RELA + 12, 'symbol');
        const base = places[symbol]!;
        const addend = new DataView(piece.bytes.buffer, piece.bytes.byteOffset).getInt32(entry * RELA + 16, true);
        const isNear = (place: number): boolean => place >= text.start - 8 && place <= text.end;
        rows.push({
          at: section.offset + (piece.first + entry) * RELA,
          section: title,
          place: reader.u32(entry * RELA, 'place') - 0x8000_0000,
          type: reader.u32(entry * RELA + 8, 'type'),
          symbol,
          addend,
          refers: base !== NOWHERE && (isNear(base) || isNear(base + addend)),
        });
      }
    }
  }
  return rows;
}

function symtabOf({ image }: DebugKernel): number {
  for (let index = 0; index < image.sections.count; index++)
    if (image.sections.word(index, 'sh_type') === SHT_SYMTAB) return image.sections.address(index, 'sh_offset');
  throw new Error('no symbols');
}

function valueOf({ places }: DebugKernel, symbol: number): number {
  return places[symbol]!;
}

/** The signed word that the debug vmlinux holds at a place; 0 where it holds none. */
function heldAt(debug: DebugKernel, place: number): number {
  const section = debug.loadedSections().find(({ start, end }) => place >= start && place + 4 <= end);
  if (section === undefined) return 0;
  const offset = debug.image.sections.address(section.index, 'sh_offset') + place - section.start;
  const bytes = debug.image.source.readAt(offset, 4);
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
}

/** `source` with some bytes changed. */
function patched(
  source: ByteSource,
  changes: readonly (readonly [at: number, bytes: readonly number[]])[],
): ByteSource {
  return {
    size: source.size,
    readAt(offset, length, scratch) {
      const end = offset + length;
      const touched = changes.some(([at, bytes]) => at < end && at + bytes.length > offset);
      const read = source.readAt(offset, length, scratch);
      if (!touched) return read;
      const copy = read.slice();
      for (const [at, bytes] of changes)
        bytes.forEach((byte, index) => {
          if (at + index >= offset && at + index < end) copy[at + index - offset] = byte;
        });
      return copy;
    },
  };
}

function u32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff];
}

function u64(value: number): number[] {
  const high = value < 0 ? 0xffff_ffff : 0;
  return [...u32(value | 0), ...u32(high)];
}
