/** How far decoders and compressors are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { duration } from '../../src/cli/progress.ts';
import { tellingNodeCodecs } from '../../src/node/codecs.ts';
import { systemEncoders, tellingEncoders } from '../../src/node/processes/compressors.ts';

/** Nothing that compresses to much less than it is. */
const data = new Uint8Array(3 << 20);
for (let at = 0, state = 1; at < data.length; at++) {
  state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
  data[at] = state >>> 28;
}

for (const format of ['xz', 'lzma', 'bzip2', 'lzo', 'lz4', 'zstd'] as const)
  test(`${format}: the part that was read rises, up to 1, and the bytes are the same`, async () => {
    const packed = await systemEncoders[format](data);
    const told: number[] = [];
    const decoded = await tellingNodeCodecs((part) => told.push(part))[format](packed, data.length);
    assert.deepEqual(decoded, data);
    assert.ok(told.length > 0 && told.length <= 100, `${told.length}`);
    assert.deepEqual(
      told,
      told.toSorted((a, b) => a - b),
    );
    assert.ok(told.at(-1)! <= 1);
  });

test('a compressor: what it has read is seen from outside, and its output is the same', async () => {
  const told: number[] = [];
  const packed = await tellingEncoders((part) => told.push(part)).xz(data);
  assert.deepEqual(packed, await systemEncoders.xz(data));
  // How often it was looked at depends on the machine; what was seen does not go back.
  assert.deepEqual(
    told,
    told.toSorted((a, b) => a - b),
  );
  assert.ok(told.every((part) => part >= 0 && part <= 1));
});

test('durations', () => {
  assert.deepEqual([0, 99_400, 100_000, 5_940_000, 6_000_000].map(duration), [
    '0 s',
    '99 s',
    '2 min',
    '99 min',
    '1.7 h',
  ]);
});
