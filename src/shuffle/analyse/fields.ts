/**
 * The fields that must be rewritten when code is placed elsewhere. They are kept as columns of numbers, because there are half a million.
 *
 * A PC-relative field holds `target - place`, plus some constant. When the piece that it lies in is shifted by `from` bytes and the piece that it refers to
 * by `to`, the field changes by `to - from`, whatever the constant is. An absolute field changes by `to`. So three things are kept of each field:
 * its place, the piece that it lies in (its site), and the piece that it refers to (its target). Either piece is FIXED when it does not move.
 */
import type { PhysAddr } from '../../base/addresses.ts';
import { NO_RANGE } from '../ranges.ts';

/** The piece number of everything outside pieces: data, padding, per-cpu, other sections. rangeAt() gives it. */
export const FIXED = NO_RANGE;

/** The target that a relocation's symbol names: a place in .text, or one of these. */
export const SYMBOL_TARGET = {
  /** The symbol is a section: S + A is the target. */
  sum: -1,
  /** The symbol is not in the image, or not in .text. */
  outside: -2,
} as const;

export class FieldList {
  readonly places: number[] = [];
  readonly sites: number[] = [];
  readonly targets: number[] = [];

  add(place: PhysAddr, site: number, target: number): void {
    this.places.push(place);
    this.sites.push(site);
    this.targets.push(target);
  }
}
