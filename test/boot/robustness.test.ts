/**
 * Real kernels, damaged: one byte changed, or cut short. Whatever comes out is a converted file or a KernelImageError, and it comes
 * out in bounded time. Lives in the boot lane because that is where real kernels are; nothing boots.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import type { SetupHeader } from '../../src/bzimage/header.ts';
import { convert } from '../../src/convert.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { readInput } from '../../src/kernel/input.ts';
import { nodeCodecs } from '../../src/node/codecs.ts';
import { findKernels } from './lane.ts';

/** Long enough for any machine; a hang would take longer. */
const TIMEOUT = { timeout: 600_000 };

/** mulberry32: the same damage every time. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** 'converted', or the error's code. Anything but a KernelImageError fails the test. */
async function outcome(image: Uint8Array, what: string): Promise<string> {
  try {
    await convert(image, { codecs: nodeCodecs });
    return 'converted';
  } catch (error) {
    assert.ok(error instanceof KernelImageError, `${what}: ${error instanceof Error ? error.stack : String(error)}`);
    return error.code;
  }
}

async function damage(image: Uint8Array, places: readonly number[], seed: number): Promise<Map<string, number>> {
  const next = random(seed);
  const seen = new Map<string, number>();
  const copy = image.slice();
  for (const at of places) {
    const old = copy[at]!;
    copy[at] = (old + 1 + next(255)) & 0xff;
    const result = await outcome(copy, `byte 0x${at.toString(16)} = 0x${copy[at].toString(16)}`);
    copy[at] = old;
    seen.set(result, (seen.get(result) ?? 0) + 1);
  }
  return seen;
}

/** One kernel a compression, of those that the distribution has. */
const images = new Map<string, { name: string; image: Uint8Array; header: SetupHeader; vmlinux: Uint8Array }>();
for (const found of (await findKernels()).packages) {
  const image = new Uint8Array(await readFile(found.image));
  const { header, compression, vmlinux } = await readInput(image, { codecs: nodeCodecs });
  if (!images.has(compression!))
    images.set(compression!, { name: `${found.name} (${compression})`, image, header: header!, vmlinux });
}

for (const [index, { name, image, header }] of [...images.values()].entries()) {
  const payload = { at: header.protectedModeStart + header.payloadOffset, length: header.payloadLength };

  test(`${name}: one byte of the setup header changed`, TIMEOUT, async () => {
    const next = random(index);
    const places = Array.from({ length: 60 }, () => 0x1f1 + next(0x270 - 0x1f1));
    const seen = await damage(image, places, index);
    // Most of the header does not matter here; but some of it does.
    assert.ok((seen.get('converted') ?? 0) < places.length, JSON.stringify([...seen]));
  });

  test(`${name}: one byte of the payload changed`, TIMEOUT, async () => {
    const next = random(100 + index);
    const places = Array.from(
      { length: 40 },
      (_, round) => payload.at + (round < 10 ? next(32) : next(payload.length)),
    );
    const seen = await damage(image, places, index);
    assert.ok((seen.get('corrupt-data') ?? 0) > 0, JSON.stringify([...seen]));
  });

  test(`${name}: cut short`, TIMEOUT, async () => {
    const next = random(200 + index);
    for (let round = 0; round < 40; round++) {
      const length = next(payload.at + payload.length);
      assert.notEqual(await outcome(image.subarray(0, length), `cut at 0x${length.toString(16)}`), 'converted');
    }
  });

  test(`${name}: a claim of 4 GiB is not believed`, TIMEOUT, async () => {
    const copy = image.slice();
    copy.fill(0xff, payload.at + payload.length - 4, payload.at + payload.length);
    assert.equal(await outcome(copy, 'size word'), 'too-large');
  });
}

test('a real vmlinux with its table, damaged or cut', TIMEOUT, async () => {
  const { vmlinux } = [...images.values()][0]!;
  const next = random(7);
  const table = vmlinux.length - 700_000;
  const places = Array.from({ length: 150 }, (_, round) => (round < 75 ? next(400) : table + next(700_000)));
  const seen = await damage(vmlinux, places, 7);
  assert.ok((seen.get('bad-value') ?? 0) > 0, JSON.stringify([...seen]));
  for (let round = 0; round < 60; round++) {
    const length = next(vmlinux.length);
    assert.notEqual(await outcome(vmlinux.subarray(0, length), `cut at 0x${length.toString(16)}`), 'converted');
  }
});
