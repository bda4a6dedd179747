/**
 * The workspace is the first part of a decoder's memory (picture: arena.ts): variables that TypeScript and the loops hand each other, and the
 * loops' tables. A decoder lists its fields in order, and gets their offsets:
 *
 *   const WORKSPACE = struct({ AT: u32, TO: u32, COUNTS: alignedArray(u32, 256) });
 *   arena.set(WORKSPACE.AT, 7)               // TypeScript writes a variable
 *   load32(i32(0), WORKSPACE.AT)             // a loop reads it
 *   load32(byte.shl(2), WORKSPACE.COUNTS)    // COUNTS[byte], in a loop
 *
 * The workspace begins at address 0, so an offset in it is an address.
 */
import { alignUp } from '../base/bytes.ts';
import { i32, load32, store32, type Local, type Statements } from '../wasm/assembler.ts';

export interface Field {
  readonly size: number;
  /** Its offset is a multiple of this, a power of two. */
  readonly alignment: number;
}

export const u8: Field = { size: 1, alignment: 1 };
export const u16: Field = { size: 2, alignment: 2 };
export const u32: Field = { size: 4, alignment: 4 };
export const u64: Field = { size: 8, alignment: 8 };

export function array({ size, alignment }: Field, count: number): Field {
  return { size: size * count, alignment };
}

export const CACHE_LINE = 64;

/** An array that begins on a cache line. */
export function alignedArray(of: Field, count: number): Field {
  return { size: of.size * count, alignment: CACHE_LINE };
}

/** The offset of each field, in the order given, and SIZE: of all, so that the next one of an array of them is aligned as well. */
export function struct<N extends string>(fields: Readonly<Record<N, Field>>): Readonly<Record<N | 'SIZE', number>> {
  const offsets: Record<string, number> = {};
  let end = 0;
  let largest = 1;
  for (const [name, { size, alignment }] of Object.entries<Field>(fields)) {
    offsets[name] = alignUp(end, alignment);
    end = offsets[name] + size;
    largest = Math.max(largest, alignment);
  }
  return { ...offsets, SIZE: alignUp(end, largest) } as Record<N | 'SIZE', number>;
}

export interface Kept {
  readonly load: Statements;
  readonly save: Statements;
}

/** Locals of a loop whose values are kept in the workspace from one call to the next, each at its address. */
export function keep(locals: readonly (readonly [Local<'i32'>, address: number])[]): Kept {
  return {
    load: locals.map(([local, address]) => local.set(load32(i32(0), address))),
    save: locals.map(([local, address]) => store32(i32(0), local, address)),
  };
}
