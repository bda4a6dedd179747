/**
 * The LZMA decoder proper: what is common to .lzma files and to the LZMA2 chunks in .xz files.
 *
 * Source: the LZMA specification (lzma-specification.txt in the LZMA SDK), whose names are used here.
 *
 * LZMA is LZ77 behind an adaptive binary range coder. A symbol is a literal, a match (length, distance), or a repeat of one of the last
 * four distances. Each is written as a path of yes/no decisions; each decision has a probability of its own in `probs`, 11 bits wide,
 * that moves 1/32 towards what was seen. So nothing can be looked ahead or done in parallel, and one loop is all there is.
 *
 * The output is the dictionary: a match copies from bytes that stand before it, and the dictionary size in a header (attacker-controlled,
 * up to 4 GiB) never allocates anything.
 */
import type { Faults } from './codec.ts';

const PROB_INIT = 1024;
const NUM_STATES = 12;
const POS_STATES_MAX = 16;
export const MATCH_MIN_LEN = 2;
export const MATCH_MAX_LEN = 273;

/** Lengths: choice, choice2, then trees of 3, 3 and 8 bits, the first two for each posState. */
const LEN_LOW = 2;
const LEN_MID = LEN_LOW + POS_STATES_MAX * 8;
const LEN_HIGH = LEN_MID + POS_STATES_MAX * 8;
const LEN_PROBS = LEN_HIGH + 256;

/** Offsets in `probs`. */
const IS_MATCH = 0;
const IS_REP = IS_MATCH + NUM_STATES * POS_STATES_MAX;
const IS_REP_G0 = IS_REP + NUM_STATES;
const IS_REP_G1 = IS_REP_G0 + NUM_STATES;
const IS_REP_G2 = IS_REP_G1 + NUM_STATES;
const IS_REP0_LONG = IS_REP_G2 + NUM_STATES;
const POS_SLOT = IS_REP0_LONG + NUM_STATES * POS_STATES_MAX;
const POS_DECODERS = POS_SLOT + 4 * 64;
const ALIGN = POS_DECODERS + 128;
const LEN = ALIGN + 16;
const REP_LEN = LEN + LEN_PROBS;
const LITERAL = REP_LEN + LEN_PROBS;
const LITERAL_CODER = 0x300;

export interface Properties {
  /** Literal context bits: how many high bits of the byte before choose the literal's probabilities. */
  readonly lc: number;
  /** Literal position bits. */
  readonly lp: number;
  /** Position bits. */
  readonly pb: number;
}

/** The properties byte: (pb * 5 + lp) * 9 + lc; undefined above 224. */
export function propertiesOf(byte: number): Properties | undefined {
  if (byte >= 9 * 5 * 5) return undefined;
  return { lc: byte % 9, lp: Math.floor(byte / 9) % 5, pb: Math.floor(byte / 45) };
}

/** Where a run ended. */
export interface Run {
  /** The end marker was read: a match of distance 2^32. */
  readonly ended: boolean;
}

export class LzmaDecoder {
  readonly #faults: Faults;
  #properties: Properties = { lc: 3, lp: 0, pb: 2 };
  #probs = new Uint16Array(0);
  #state = 0;
  #reps = new Int32Array(4);
  #range = 0;
  #code = 0;
  /** Next byte of input. */
  position = 0;

  constructor(faults: Faults) {
    this.#faults = faults;
  }

  setProperties(properties: Properties): void {
    this.#properties = properties;
    const { lc, lp } = properties;
    const count = LITERAL + LITERAL_CODER * 2 ** (lc + lp);
    if (this.#probs.length < count) this.#probs = new Uint16Array(count);
  }

  resetState(): void {
    this.#probs.fill(PROB_INIT);
    this.#state = 0;
    this.#reps.fill(0);
  }

  /** Five bytes; the first is always 0. */
  startRange(input: Uint8Array, position: number, end: number): void {
    if (end - position < 5) throw this.#faults.ends('range coder', position);
    if (input[position] !== 0)
      throw this.#faults.corrupt('range coder', { offset: position, found: input[position], expected: 0 });
    this.#range = -1;
    this.#code =
      (input[position + 1]! << 24) | (input[position + 2]! << 16) | (input[position + 3]! << 8) | input[position + 4]!;
    this.position = position + 5;
  }

  /** A correctly finished stream leaves exactly nothing in the coder. */
  get clean(): boolean {
    return this.#code === 0;
  }

  /**
   * Decodes symbols to `out` from `outPos` on, until `stopAt` is reached or the end marker was read; returns the new outPos, negative
   * (~outPos) after the end marker. Nothing is read at or behind `end` (as if it were zeros), nothing written at or behind `limit`,
   * nothing copied from before `dictionaryStart`.
   */
  run(
    input: Uint8Array,
    end: number,
    out: Uint8Array,
    from: number,
    stopAt: number,
    limit: number,
    dictionaryStart: number,
  ): number {
    const probs = this.#probs;
    const { lc, lp, pb } = this.#properties;
    const pbMask = (1 << pb) - 1;
    const lpMask = (1 << lp) - 1;
    const lcShift = 8 - lc;
    let state = this.#state;
    let rep0 = this.#reps[0]!;
    let rep1 = this.#reps[1]!;
    let rep2 = this.#reps[2]!;
    let rep3 = this.#reps[3]!;
    let range = this.#range;
    let code = this.#code;
    let at = this.position;
    let outPos = from;
    let ended = false;

    while (outPos < stopAt) {
      if (at > end) throw this.#faults.ends('data', end);
      const posState = (outPos - dictionaryStart) & pbMask;
      let index = IS_MATCH + (state << 4) + posState;
      let prob = probs[index]!;
      let bound = Math.imul(range >>> 11, prob);
      if (code >>> 0 < bound >>> 0) {
        range = bound;
        probs[index] = prob + ((2048 - prob) >> 5);
        if (range >>> 24 === 0) {
          range <<= 8;
          code = (code << 8) | input[at++]!;
        }
        if (outPos >= limit) throw this.#faults.wrongSize(undefined, limit);
        const before = outPos > dictionaryStart ? out[outPos - 1]! : 0;
        const coder = LITERAL + LITERAL_CODER * ((((outPos - dictionaryStart) & lpMask) << lc) + (before >>> lcShift));
        let symbol = 1;
        if (state >= 7) {
          let matched = out[outPos - rep0 - 1]!;
          let offset = 0x100;
          do {
            matched <<= 1;
            const bit = matched & offset;
            index = coder + offset + bit + symbol;
            prob = probs[index]!;
            bound = Math.imul(range >>> 11, prob);
            if (code >>> 0 < bound >>> 0) {
              range = bound;
              probs[index] = prob + ((2048 - prob) >> 5);
              symbol <<= 1;
              offset &= ~bit;
            } else {
              range = (range - bound) | 0;
              code = (code - bound) | 0;
              probs[index] = prob - (prob >> 5);
              symbol = (symbol << 1) | 1;
              offset &= bit;
            }
            if (range >>> 24 === 0) {
              range <<= 8;
              code = (code << 8) | input[at++]!;
            }
          } while (symbol < 0x100);
        } else {
          do {
            index = coder + symbol;
            prob = probs[index]!;
            bound = Math.imul(range >>> 11, prob);
            if (code >>> 0 < bound >>> 0) {
              range = bound;
              probs[index] = prob + ((2048 - prob) >> 5);
              symbol <<= 1;
            } else {
              range = (range - bound) | 0;
              code = (code - bound) | 0;
              probs[index] = prob - (prob >> 5);
              symbol = (symbol << 1) | 1;
            }
            if (range >>> 24 === 0) {
              range <<= 8;
              code = (code << 8) | input[at++]!;
            }
          } while (symbol < 0x100);
        }
        out[outPos++] = symbol;
        state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
        continue;
      }
      range = (range - bound) | 0;
      code = (code - bound) | 0;
      probs[index] = prob - (prob >> 5);
      if (range >>> 24 === 0) {
        range <<= 8;
        code = (code << 8) | input[at++]!;
      }

      let lengths = LEN;
      index = IS_REP + state;
      prob = probs[index]!;
      bound = Math.imul(range >>> 11, prob);
      const isRep = code >>> 0 >= bound >>> 0;
      if (!isRep) {
        range = bound;
        probs[index] = prob + ((2048 - prob) >> 5);
      } else {
        range = (range - bound) | 0;
        code = (code - bound) | 0;
        probs[index] = prob - (prob >> 5);
        if (range >>> 24 === 0) {
          range <<= 8;
          code = (code << 8) | input[at++]!;
        }
        index = IS_REP_G0 + state;
        prob = probs[index]!;
        bound = Math.imul(range >>> 11, prob);
        if (code >>> 0 < bound >>> 0) {
          range = bound;
          probs[index] = prob + ((2048 - prob) >> 5);
          if (range >>> 24 === 0) {
            range <<= 8;
            code = (code << 8) | input[at++]!;
          }
          index = IS_REP0_LONG + (state << 4) + posState;
          prob = probs[index]!;
          bound = Math.imul(range >>> 11, prob);
          if (code >>> 0 < bound >>> 0) {
            range = bound;
            probs[index] = prob + ((2048 - prob) >> 5);
            if (range >>> 24 === 0) {
              range <<= 8;
              code = (code << 8) | input[at++]!;
            }
            if (outPos >= limit) throw this.#faults.wrongSize(undefined, limit);
            const distance = (rep0 >>> 0) + 1;
            if (distance > outPos - dictionaryStart)
              throw this.#faults.corrupt('distance', { offset: at, found: distance });
            out[outPos] = out[outPos - distance]!;
            outPos++;
            state = state < 7 ? 9 : 11;
            continue;
          }
          range = (range - bound) | 0;
          code = (code - bound) | 0;
          probs[index] = prob - (prob >> 5);
        } else {
          range = (range - bound) | 0;
          code = (code - bound) | 0;
          probs[index] = prob - (prob >> 5);
          if (range >>> 24 === 0) {
            range <<= 8;
            code = (code << 8) | input[at++]!;
          }
          index = IS_REP_G1 + state;
          prob = probs[index]!;
          bound = Math.imul(range >>> 11, prob);
          let distance: number;
          if (code >>> 0 < bound >>> 0) {
            range = bound;
            probs[index] = prob + ((2048 - prob) >> 5);
            distance = rep1;
          } else {
            range = (range - bound) | 0;
            code = (code - bound) | 0;
            probs[index] = prob - (prob >> 5);
            if (range >>> 24 === 0) {
              range <<= 8;
              code = (code << 8) | input[at++]!;
            }
            index = IS_REP_G2 + state;
            prob = probs[index]!;
            bound = Math.imul(range >>> 11, prob);
            if (code >>> 0 < bound >>> 0) {
              range = bound;
              probs[index] = prob + ((2048 - prob) >> 5);
              distance = rep2;
            } else {
              range = (range - bound) | 0;
              code = (code - bound) | 0;
              probs[index] = prob - (prob >> 5);
              distance = rep3;
              rep3 = rep2;
            }
            rep2 = rep1;
          }
          rep1 = rep0;
          rep0 = distance;
        }
        lengths = REP_LEN;
      }
      if (range >>> 24 === 0) {
        range <<= 8;
        code = (code << 8) | input[at++]!;
      }

      // Length.
      let tree: number;
      let size: number;
      let length: number;
      index = lengths;
      prob = probs[index]!;
      bound = Math.imul(range >>> 11, prob);
      if (code >>> 0 < bound >>> 0) {
        range = bound;
        probs[index] = prob + ((2048 - prob) >> 5);
        tree = lengths + LEN_LOW + (posState << 3);
        size = 8;
        length = MATCH_MIN_LEN - 8;
      } else {
        range = (range - bound) | 0;
        code = (code - bound) | 0;
        probs[index] = prob - (prob >> 5);
        if (range >>> 24 === 0) {
          range <<= 8;
          code = (code << 8) | input[at++]!;
        }
        index = lengths + 1;
        prob = probs[index]!;
        bound = Math.imul(range >>> 11, prob);
        if (code >>> 0 < bound >>> 0) {
          range = bound;
          probs[index] = prob + ((2048 - prob) >> 5);
          tree = lengths + LEN_MID + (posState << 3);
          size = 8;
          length = MATCH_MIN_LEN;
        } else {
          range = (range - bound) | 0;
          code = (code - bound) | 0;
          probs[index] = prob - (prob >> 5);
          tree = lengths + LEN_HIGH;
          size = 256;
          length = MATCH_MIN_LEN + 16 - 256;
        }
      }
      if (range >>> 24 === 0) {
        range <<= 8;
        code = (code << 8) | input[at++]!;
      }
      let symbol = 1;
      do {
        index = tree + symbol;
        prob = probs[index]!;
        bound = Math.imul(range >>> 11, prob);
        if (code >>> 0 < bound >>> 0) {
          range = bound;
          probs[index] = prob + ((2048 - prob) >> 5);
          symbol <<= 1;
        } else {
          range = (range - bound) | 0;
          code = (code - bound) | 0;
          probs[index] = prob - (prob >> 5);
          symbol = (symbol << 1) | 1;
        }
        if (range >>> 24 === 0) {
          range <<= 8;
          code = (code << 8) | input[at++]!;
        }
      } while (symbol < size);
      length += symbol;

      if (isRep) {
        state = state < 7 ? 8 : 11;
      } else {
        rep3 = rep2;
        rep2 = rep1;
        rep1 = rep0;
        state = state < 7 ? 7 : 10;
        tree = POS_SLOT + (Math.min(length - MATCH_MIN_LEN, 3) << 6);
        symbol = 1;
        do {
          index = tree + symbol;
          prob = probs[index]!;
          bound = Math.imul(range >>> 11, prob);
          if (code >>> 0 < bound >>> 0) {
            range = bound;
            probs[index] = prob + ((2048 - prob) >> 5);
            symbol <<= 1;
          } else {
            range = (range - bound) | 0;
            code = (code - bound) | 0;
            probs[index] = prob - (prob >> 5);
            symbol = (symbol << 1) | 1;
          }
          if (range >>> 24 === 0) {
            range <<= 8;
            code = (code << 8) | input[at++]!;
          }
        } while (symbol < 64);
        const slot = symbol - 64;
        if (slot < 4) {
          rep0 = slot;
        } else {
          let bits = (slot >> 1) - 1;
          rep0 = 2 | (slot & 1);
          if (slot < 14) {
            rep0 <<= bits;
            tree = POS_DECODERS + rep0 - slot;
          } else {
            bits -= 4;
            do {
              range >>>= 1;
              code = (code - range) | 0;
              const sign = code >> 31;
              code = (code + (range & sign)) | 0;
              rep0 = (rep0 << 1) + sign + 1;
              if (range >>> 24 === 0) {
                range <<= 8;
                code = (code << 8) | input[at++]!;
              }
            } while (--bits > 0);
            rep0 <<= 4;
            bits = 4;
            tree = ALIGN;
          }
          symbol = 1;
          for (let bit = 0; bit < bits; bit++) {
            index = tree + symbol;
            prob = probs[index]!;
            bound = Math.imul(range >>> 11, prob);
            if (code >>> 0 < bound >>> 0) {
              range = bound;
              probs[index] = prob + ((2048 - prob) >> 5);
              symbol <<= 1;
            } else {
              range = (range - bound) | 0;
              code = (code - bound) | 0;
              probs[index] = prob - (prob >> 5);
              symbol = (symbol << 1) | 1;
              rep0 += 1 << bit;
            }
            if (range >>> 24 === 0) {
              range <<= 8;
              code = (code << 8) | input[at++]!;
            }
          }
          if (rep0 === -1) {
            ended = true;
            break;
          }
        }
      }

      const distance = (rep0 >>> 0) + 1;
      if (distance > outPos - dictionaryStart) throw this.#faults.corrupt('distance', { offset: at, found: distance });
      if (length > limit - outPos) throw this.#faults.wrongSize(undefined, limit);
      if (distance >= length && length > 32) {
        out.copyWithin(outPos, outPos - distance, outPos - distance + length);
        outPos += length;
      } else {
        const stop = outPos + length;
        let source = outPos - distance;
        do out[outPos++] = out[source++]!;
        while (outPos < stop);
      }
    }

    this.#state = state;
    this.#reps.set([rep0, rep1, rep2, rep3]);
    this.#range = range;
    this.#code = code;
    this.position = at;
    return ended ? ~outPos : outPos;
  }
}
