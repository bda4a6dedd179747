/**
 * Makes choices from a seed: the same seed, kernel and question give the same answer on every machine, and one answer says nothing about another.
 *
 * A host may draw the slides of several tenants from one seed. A tenant who knows his own slide must not learn the seed from it, or the slide that
 * another kernel gets. So each answer is a hash over a domain name, the seed, what identifies the kernel, and the question.
 */
import { ascii, joinParts, Reader } from '../base/bytes.ts';
import { sha256 } from './sha256.ts';

/** The least length of a seed. An attacker who knows a few slides could try all shorter ones. */
export const SEED_BYTES = 16;

/** A whole number below `count`, each as likely as the next (the bias of taking the high half of a product is below 2^-32). */
export type Draw = (question: string, count: number) => number;

/** `seed`: SEED_BYTES or more, secret and random. `kernel`: what tells one kernel from another, its build ID for one. */
export function drawFrom(seed: Uint8Array, kernel: Uint8Array): Draw {
  if (seed.length < SEED_BYTES) throw new RangeError(`a seed of ${seed.length} bytes, expected ${SEED_BYTES} or more`);
  const key = sha256(joinParts([ascii('kslide randomize 1\0'), sha256(seed), sha256(kernel)]));
  return (question, count) => {
    const digest = new Reader(sha256(joinParts([key, ascii(question)])));
    return Number((digest.u64(0, 'digest') * BigInt(count)) >> 64n);
  };
}
