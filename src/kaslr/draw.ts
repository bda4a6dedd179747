/**
 * Makes choices from a seed: the same seed, kernel and question give the same answer on every machine, and one answer says nothing about another.
 *
 * A host may draw the slides of several tenants from one seed. A tenant who knows his own slide must not learn the seed from it, or the slide that
 * another kernel gets. So each answer is a hash over a domain name, the seed, what identifies the kernel, and the question.
 */
import { ascii, joinParts, Reader } from '../base/bytes.ts';
import { sha256 } from './sha256.ts';

/** Shorter seeds could be guessed: somebody who knows a few slides can try every value. */
export const SEED_MIN_BYTES = 16;
/** The key of the cipher that `shuffle` draws from (shuffle/layout/random.ts); a longer seed would add nothing to a SHA-256 either. */
export const SEED_MAX_BYTES = 32;

/** A whole number below `count`, each equally likely (the bias of taking the high half of a product is below 2^-32). */
export type Draw = (question: string, count: number) => number;

/** `seed`: SEED_MIN_BYTES to SEED_MAX_BYTES, secret and random. `kernel`: what tells one kernel from another, for example its build ID. */
export function drawFrom(seed: Uint8Array, kernel: Uint8Array): Draw {
  if (seed.length < SEED_MIN_BYTES || seed.length > SEED_MAX_BYTES)
    throw new RangeError(`a seed of ${seed.length} bytes, expected ${SEED_MIN_BYTES} to ${SEED_MAX_BYTES}`);
  const key = sha256(joinParts([ascii('kslide randomize 1\0'), sha256(seed), sha256(kernel)]));
  return (question, count) => {
    const digest = new Reader(sha256(joinParts([key, ascii(question)])));
    return Number((digest.u64(0, 'digest') * BigInt(count)) >> 64n);
  };
}
