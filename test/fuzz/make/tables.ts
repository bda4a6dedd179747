/**
 * A file of tables for the readers of `shuffle`: an image with a header of symbols. The header has a word for each symbol, its place; 0 is a symbol that the kernel
 * lacks. So the places, and the sizes that follow from them, are mutated like the tables.
 */
import { Writer } from '../../../src/base/bytes.ts';
import { KernelImageError } from '../../../src/base/errors.ts';
import type { Vmlinux } from '../../../src/kernel/vmlinux.ts';
import { STAY } from '../../../src/shuffle/analyse/pieces.ts';
import type { Units } from '../../../src/shuffle/analyse/units.ts';
import type { DebugKernel } from '../../../src/shuffle/read/debug-kernel.ts';
import { ImageBytes } from '../../../src/shuffle/read/kernel-image.ts';
import { readNumber } from '../fields.ts';
import type { FieldAt } from '../fields.ts';

export const TEXT = 0x100_0000;
const WORD = 4;

export interface TableFile {
  readonly image: ImageBytes;
  readonly debug: DebugKernel;
}

/** The image begins at TEXT with the header; `text` is where code ends. */
export function openTables(input: Uint8Array, symbols: readonly string[], text: number): TableFile {
  const size = input.length;
  const loads = [{ offset: 0, paddr: TEXT, filesz: size, memsz: size }];
  const image = new ImageBytes({ elf: { bytes: input }, loads } as unknown as Vmlinux);
  const find = (name: string): number | undefined => {
    const index = symbols.indexOf(name);
    return index < 0 ? undefined : readNumber(input, index * WORD, WORD) || undefined;
  };
  const need = (name: string): number => {
    const place = find(name);
    if (place !== undefined) return place;
    throw new KernelImageError({ code: 'bad-value', what: `symbol ${name}`, found: 'missing' });
  };
  return { image, debug: { find, need, text: { start: TEXT, end: text } } as unknown as DebugKernel };
}

export function putSymbols(file: Writer, symbols: readonly string[], places: Readonly<Record<string, number>>): void {
  for (const [name, place] of Object.entries(places)) file.u32(symbols.indexOf(name) * WORD, place);
}

/** The symbols, and every fourth byte after them. */
export function tableFields(input: Uint8Array): FieldAt[] {
  const words = Array.from({ length: 16 }, (_, index) => index * WORD);
  const rest = Array.from({ length: 64 }, (_, index) => 0x100 + ((index * 0x3c) & ~3));
  return [...words, ...words, ...rest]
    .filter((offset) => offset + WORD <= input.length)
    .map((offset) => ({ offset, width: WORD }));
}

/** `count` functions of 24 bytes, at multiples of 32; every fourth stays. */
export function makeUnits(start: number, count: number): Units {
  const starts = Uint32Array.from({ length: count }, (_, unit) => start + unit * 32);
  return {
    starts,
    ends: starts.map((each) => each + 24),
    stay: Uint8Array.from(starts, (_, unit) => (unit % 4 === 3 ? STAY['fixed range'] : STAY.none)),
    functions: new Uint32Array(count).fill(1),
    ofPiece: Uint32Array.from(starts.keys()),
  };
}
