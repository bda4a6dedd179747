/**
 * scripts/warm-up.bzimage is a kernel of test/make-vmlinux.ts in an image of test/bzimage/make-image.ts, as `zstd -22 --ultra` of zstd 1.5.4 packs
 * it. Other versions of zstd may give other bytes, so the frame is taken from the file and has to decode to that kernel. KSLIDE_UPDATE_GOLDEN=1
 * writes the file anew.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { readSetupHeader } from '../src/bzimage/header.ts';
import { DECODERS, run } from './codecs/tools.ts';
import { makeBzImage, withSizeWord } from './bzimage/make-image.ts';
import { makeVmlinux } from './make-vmlinux.ts';

const path = new URL('../scripts/warm-up.bzimage', import.meta.url);

test('the kernel that warms up the code cache is one of make-vmlinux.ts, and nothing else', () => {
  const vmlinux = makeVmlinux();
  if (process.env['KSLIDE_UPDATE_GOLDEN'] !== undefined) {
    writeFileSync(path, makeBzImage({ payload: withSizeWord(run('zstd', '-22 --ultra', vmlinux), vmlinux.length) }));
  }
  const image = new Uint8Array(readFileSync(path));
  const { protectedModeStart, payloadOffset, payloadLength } = readSetupHeader(image);
  const payload = image.subarray(protectedModeStart + payloadOffset).subarray(0, payloadLength);
  const frame = payload.subarray(0, -4);
  assert.deepEqual(run(...DECODERS.zstd, frame), vmlinux);
  assert.deepEqual(makeBzImage({ payload: withSizeWord(frame, vmlinux.length) }), image);
});
