/**
 * Random choices that a seed decides: the same seed, kernel and question give the same answer on every machine.
 *
 * A host may draw one slide per tenant from one seed. A tenant who knows its own slide must learn nothing about the seed, or about the slide that
 * another kernel gets from the same seed. So a choice is a hash of a domain name, the seed, what identifies the kernel, and the question.
 */
import { ascii, Reader } from '../base/bytes.ts';
import { joinParts } from '../elf/write.ts';
import { sha256 } from './sha256.ts';

/** Shorter seeds could be guessed: somebody who knows a few slides can try every value. */
export const SEED_MIN_BYTES = 16;
/** The key of the cipher that `shuffle` draws from (shuffle/random.ts); a longer seed would add nothing to a SHA-256 either. */
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
