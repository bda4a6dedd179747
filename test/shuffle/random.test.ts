/** The generator against RFC 8439's test vector, and its draws against what they promise. */
import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { bytesOfWords } from '../../src/base/bytes.ts';
import { makeRandom } from '../../src/shuffle/layout/random.ts';

function stream(seed: Uint8Array, words: number): Uint8Array {
  const random = makeRandom(seed);
  return bytesOfWords(Uint32Array.from({ length: words }, () => random.next()));
}

test('RFC 8439, A.1, test vector 1: key, nonce and counter zero', () => {
  const expected =
    '76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586';
  assert.equal(Buffer.from(stream(new Uint8Array(), 16)).toString('hex'), expected);
});

test("any seed gives OpenSSL's ChaCha20 key stream", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 32 }), (seed) => {
      const key = Buffer.alloc(32);
      key.set(seed);
      const cipher = createCipheriv('chacha20', key, Buffer.alloc(16));
      assert.deepEqual(Buffer.from(stream(seed, 100)), cipher.update(Buffer.alloc(400)));
    }),
    { numRuns: 50 },
  );
});

test('a longer seed is refused', () => assert.throws(() => makeRandom(new Uint8Array(33)), RangeError));

test('numbers below a bound: all of them, and no others', () => {
  const random = makeRandom(Uint8Array.of(1));
  const seen = new Uint32Array(7);
  for (let draw = 0; draw < 7000; draw++) seen[random.below(7)]!++;
  // 1,000 each; six standard deviations are 176.
  for (const count of seen) assert.ok(Math.abs(count - 1000) < 176, `${[...seen]}`);
});

test('a permutation keeps all elements, and every place is equally likely', () => {
  const random = makeRandom(Uint8Array.of(2));
  const places = new Uint32Array(5);
  for (let round = 0; round < 5000; round++) {
    const array = Uint32Array.of(0, 1, 2, 3, 4);
    random.permute(array);
    assert.deepEqual([...array].toSorted(), [0, 1, 2, 3, 4]);
    places[array.indexOf(0)]!++;
  }
  for (const count of places) assert.ok(Math.abs(count - 1000) < 170, `${[...places]}`);
});
