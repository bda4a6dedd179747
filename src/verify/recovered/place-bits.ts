/** A bit for each byte of an image: 7 MB for one of 57 MB. recover/place-set.ts is like it on purpose: the two readings share no code. */
import type { PhysAddr } from '../../base/addresses.ts';

export class PlaceBits {
  readonly #first: PhysAddr;
  readonly #words: Uint32Array;
  readonly #length: number;

  /** Places from `first` up to, and without, `end`. Others are never in the set, and adding them changes nothing. */
  constructor(first: PhysAddr, end: PhysAddr) {
    this.#first = first;
    this.#length = end - first;
    this.#words = new Uint32Array((this.#length >> 5) + 1);
  }

  has(place: PhysAddr): boolean {
    const index = place - this.#first;
    return index >= 0 && index < this.#length && ((this.#words[index >> 5]! >>> (index & 31)) & 1) === 1;
  }

  add(place: PhysAddr): void {
    const index = place - this.#first;
    if (index >= 0 && index < this.#length) this.#words[index >> 5]! |= 1 << (index & 31);
  }

  delete(place: PhysAddr): void {
    const index = place - this.#first;
    if (index >= 0 && index < this.#length) this.#words[index >> 5]! &= ~(1 << (index & 31));
  }
}
