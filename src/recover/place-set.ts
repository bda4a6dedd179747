/** A set of places of an image, a bit for each byte. */
import type { PhysAddr } from '../base/addresses.ts';

export class PlaceSet {
  readonly #first: PhysAddr;
  readonly #length: number;
  readonly #bits: Uint8Array;

  /** Places from `first` up to, and without, `end`. Others are not in the set, and adding them changes nothing. */
  constructor(first: PhysAddr, end: PhysAddr) {
    this.#first = first;
    this.#length = end - first;
    this.#bits = new Uint8Array(Math.ceil(this.#length / 8));
  }

  add(place: PhysAddr): void {
    const index = place - this.#first;
    if (index >= 0 && index < this.#length) this.#bits[index >> 3]! |= 1 << (index & 7);
  }

  has(place: PhysAddr): boolean {
    const index = place - this.#first;
    return index >= 0 && index < this.#length && (this.#bits[index >> 3]! & (1 << (index & 7))) !== 0;
  }

  /** The nearest member below `place`, at most `distance` away; undefined without one. */
  before(place: PhysAddr, distance: number): PhysAddr | undefined {
    for (let at = place - 1; at >= place - distance; at--) if (this.has(at)) return at;
    return undefined;
  }
}
