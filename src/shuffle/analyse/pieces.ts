/**
 * A piece is a function, or other code between functions. Pieces never share a byte, and between them there is only padding. cut.ts makes them.
 *
 * Each piece has a reason to stay where it is, or none, and then it is movable. Reasons are only ever added: a piece that something pins stays pinned,
 * for the first reason that was found.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { lastAtOrBelow } from '../../base/search.ts';
import { FIXED } from './fields.ts';

/** Why a piece of code stays where it is; `none` means that it is movable. These are the words of plan files and of the summary. */
export const STAY = {
  none: 0,
  /** Code without a function symbol: entry points, labels, thunks. */
  unnamed: 1,
  /** A function symbol without a size. */
  'unknown size': 2,
  /** Between a pair of linker symbols, or a mitigation that works by its address. */
  'fixed range': 3,
  /** A linker symbol, such as _stext, is at its start, or at its end: references to that symbol must not change. */
  'linker symbol': 4,
  /** Function symbols that overlap. */
  overlap: 5,
  /** Tied by a short branch, or by running from one into the next, to code that stays. */
  'tied to fixed code': 6,
  /** Instructions or relocations in it that are not what they should be. */
  undecodable: 7,
  /** There is nothing else that it could change places with. */
  alone: 8,
  /** Without relocations: something may be a reference to it, or a reference to it may mean something else. */
  'doubtful reference': 9,
} as const;

/** By rising address, none overlapping. */
export interface Pieces {
  readonly starts: number[];
  readonly ends: number[];
  /** STAY */
  readonly stay: number[];
  /** The symbol number, for messages; -1 for code without a symbol, and for the no-operations before a function. */
  readonly symbols: number[];
}

/** Makes a piece stay, unless it already does. FIXED is no piece, and is ignored. */
export function pin({ stay }: Pieces, piece: number, reason: number): void {
  if (piece !== FIXED && stay[piece] === STAY.none) stay[piece] = reason;
}

const PAGE = 4096;

/**
 * Pins the target of a reference that leads into a piece, not to its start, where no relocation says what is meant. Everything that the value may be counted
 * from is pinned too: the pieces up to a page before it. (The kernel copies a page that begins at `core_restore_code`. An operand there names the last
 * 8 bytes of that page, which belong to some other function.)
 */
export function pinIfInside(pieces: Pieces, target: PhysAddr, piece: number): void {
  if (piece === FIXED || pieces.starts[piece] === target) return;
  for (let near = piece; near >= 0 && pieces.ends[near]! > target - PAGE; near--)
    pin(pieces, near, STAY['doubtful reference']);
}

/** For a place in padding that something refers to: pins the piece before it, and so the padding as well. Does nothing for a place in a piece. */
export function pinBeforePadding({ starts, ends, stay }: Pieces, place: PhysAddr, reason: number): void {
  const before = lastAtOrBelow(starts, place);
  if (before >= 0 && place >= ends[before]! && stay[before] === STAY.none) stay[before] = reason;
}
